"""Check that the files named by a data set's manifests exist and are whole; remove the others, to be made again.

Damaged files are moved away, damaged margin maps are taken out of the index of their pack, and every table that names a
missing or damaged file is removed. Snakemake then reruns the rules that make these tables; they find all other files
again and make exactly the missing ones.
"""

import io
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd
from PIL import Image

from freemask import packs
from freemask.errors import InputError
from freemask.files import read_json, sha256, write_atomic
from freemask.images import DAMAGED, decode
from freemask.parallel import map_files
from freemask.tables import read_table

# tables below results/{dataset}, and the columns that name files made there
TABLES = {
    "index/*.tsv": ("image", "mask"),  # where masks are written as labels, or images are cut into windows
    "masks.tsv": ("mask",),
    "synthesis/*/*/*.tsv": ("image",),
    "margins/*/*/*.tsv": ("image", "mask", "margin"),
    "filtered/*/*/*/*.tsv": ("image", "mask", "margin"),
    "synthetic/*/train.tsv": ("image", "mask", "margin"),
}
OTHERS = ("*.tsv", "[!v]*/*.tsv", "synthetic/*/*.tsv")  # tables that name no files but must be whole; not verify/
DIGESTS = {
    "index": [("image", "image_sha256"), ("mask", "mask_sha256")],
    "masks.tsv": [("mask", "mask_sha256")],
    "synthesis": [("image", "sha256")],
}


@dataclass(frozen=True)
class Item:
    """A file and its SHA-256; of a margin map its side [pixels; 0: unknown] and place (None: in no pack) instead."""

    path: str
    sha256: str = ""
    side: int = 0
    place: packs.Place | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file. damaged: it exists and is moved away; place: where, for a margin map."""

    path: str
    what: str
    damaged: bool
    place: packs.Place | None = None


def tables(folder: Path, broken: Container[str] = ()) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Tables below results/{dataset} that may name made files, but for broken ones, and the columns that do."""
    for pattern, columns in TABLES.items():
        for path in sorted(folder.glob(pattern)):
            if not path.name.endswith(".classes.tsv") and str(path) not in broken:
                yield path, columns


def broken_tables(folder: Path) -> Iterator[Finding]:
    """Tables below results/{dataset} that can't be read or were cut, damaged indexes of packs, and missing shards."""
    paths = {path for pattern in (*TABLES, *OTHERS) for path in folder.glob(pattern)}
    readers = {path: lambda path: read_table(path, []) for path in paths}
    readers |= {path: lambda path: list(packs.entries(path)) for path in folder.glob("margins/*/*/*.tar")}
    for path, read in sorted(readers.items()):
        try:
            read(path)
        except InputError as error:
            bad = path.with_suffix(".index") if path.suffix == ".tar" else path
            yield Finding(str(bad), str(error).removeprefix(f"{bad}: ").removeprefix(f"{bad}, "), True)
    for path in _expected(folder, paths):
        if path not in paths:
            yield Finding(str(path), "missing", False)


def _expected(folder: Path, paths: Collection[Path]) -> Iterator[Path]:
    """Tables that must be there beside those that are: what a plan is made from, and all shards of one."""
    if any(path.parent == folder / "plans" for path in paths):
        yield from (folder / name for name in ("masks.tsv", "class_loss.tsv", "hardness.tsv"))
    for path in sorted({path.parent / path.name.partition("-of-")[2] for path in paths if "-of-" in path.name}):
        count = int(path.name.partition(".")[0])  # of 24.tsv, 24.classes.tsv
        yield from (path.with_name(f"{number}-of-{path.name}") for number in range(1, count + 1))


def items(folder: Path, broken: Container[str] = ()) -> Iterator[Item]:
    """Every file to check, once, described by the newest table that names it.

    Plans share files, and the table of an older plan may describe a former version.
    """
    done: set[int] = set()  # hashes of paths take a tenth of the paths' memory
    for table, _ in sorted(tables(folder, broken), key=lambda named: -named[0].stat().st_mtime_ns):
        for item in _made(table, folder):
            if hash(item.path) not in done:
                done.add(hash(item.path))
                yield item


def _made(table: Path, folder: Path) -> Iterator[Item]:
    """The files that the rule of a table made."""
    top, generator, *_ = (*table.relative_to(folder).parts, "")
    if top in DIGESTS:
        made = (f"{folder}/labels/", f"{folder}/windows/") if top == "index" else ""  # check_dataset checks raw data
        for path, digest in chain.from_iterable(_rows(table, *columns) for columns in DIGESTS[top]):
            if path.startswith(made):
                yield Item(path, sha256=digest)
    elif top == "margins":
        settings = folder / "synthesis" / generator / "images" / "settings.json"
        side = int(read_json(settings)["image_size"]) if settings.exists() else 0
        named = read_table(table, ["margin", "stamp"], only=True)
        paths, stamps = named.margin.tolist(), named.stamp.tolist()
        try:
            places = packs.find(paths, stamps)
        except InputError:  # a damaged index, which is a finding of its own
            places = [None] * len(paths)
        for path, place in zip(paths, places, strict=True):
            yield Item(path, side=side, place=place)


def _rows(table: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """The rows of some columns of a table."""
    return read_table(table, [*columns], only=True)[[*columns]].itertuples(index=False, name=None)


def examine(item: Item) -> Finding | None:
    """Check one file; None for a whole one."""
    if not item.sha256:
        return _examine_map(item) if item.place else Finding(item.path, "missing", False)
    try:
        found = sha256(item.path)
    except FileNotFoundError:
        return Finding(item.path, "missing", False)
    except OSError as error:
        return Finding(item.path, f"can't be read ({error})", True)
    return None if found == item.sha256 else Finding(item.path, "other content than when it was made", True)


def _examine_map(item: Item) -> Finding | None:
    """Check a margin map in a pack."""
    what = ""
    content = packs.read(item.place)
    try:
        with Image.open(io.BytesIO(content)) as image:
            decode(image, io.BytesIO(content))
            if item.side and image.size != (item.side, item.side):
                what = f"{image.width}x{image.height} pixels, want {item.side}x{item.side}"
    except DAMAGED as error:
        what = f"can't be read ({error})"
    return Finding(item.path, what, True, item.place) if what else None


def find(folder: Path, processes: int) -> tuple[int, list[Finding]]:
    """Check the tables below `folder` and every file that they name; returns the files' number and the findings."""
    found = list(broken_tables(folder))
    broken = {finding.path for finding in found}
    made = [table for table, _ in tables(folder, broken) if table.relative_to(folder).parts[0] in (*DIGESTS, "margins")]
    total = sum(len(read_table(table, [])) for table in made)
    checked = len(found)
    for finding in map_files(examine, items(folder, broken), processes, f"verify {folder.name}", "file", total):
        checked += 1
        if finding:
            found.append(finding)
    return checked, found


def naming(folder: Path, findings: Iterable[Finding]) -> dict[Path, set[str]]:
    """Tables that name missing or damaged files, and those files."""
    bad = {finding.path for finding in findings}
    named = ((table, bad & {*chain.from_iterable(_rows(table, *columns))}) for table, columns in tables(folder, bad))
    return {table: paths for table, paths in named if paths}


def set_aside(folder: Path, findings: list[Finding], named: Iterable[Path]) -> Path:
    """Remove the tables, then set the damaged files aside in verify/damaged/; returns that folder."""
    target = folder / "verify" / "damaged"
    for table in named:
        table.unlink()
    for finding in findings:
        path = Path(finding.path)
        own = path.is_relative_to(folder)  # else an image that the runs of a data set share
        aside = target / (path.relative_to(folder) if own else path.name)
        if finding.place:
            write_atomic(aside, packs.read(finding.place))
        elif finding.damaged:
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)
    packs.drop(finding.place for finding in findings if finding.place)
    return target


def report(findings: list[Finding], named: dict[Path, set[str]]) -> pd.DataFrame:
    """One row per missing or damaged file: path, what, tables (that name it, comma-separated)."""
    holders = [",".join(str(table) for table, paths in named.items() if one.path in paths) for one in findings]
    rows = [(one.path, one.what, tables) for one, tables in zip(findings, holders, strict=True)]
    return pd.DataFrame(rows, columns=["path", "what", "tables"])
