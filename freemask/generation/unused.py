"""Files that nothing uses any more: images that no plan holds, masks of no table, margin maps of former scorers.

Images are kept when a plan becomes smaller or a mask leaves the data set, since making them again costs GPU time.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from freemask.errors import InputError
from freemask.files import RUN, own_id
from freemask.generation.shard import image_path
from freemask.tables import read_table

BY_PLAN = ("synthesis", "margins", "filtered")  # folders of tables, <generator>/<plan>/


class Unused(NamedTuple):
    """A file that nothing uses: its path, size [bytes], and why."""

    path: str
    bytes: int
    why: str


def find(folder: Path, plans: dict[str, list[str]]) -> Iterator[Unused]:
    """Unused files below results/<data set>, and images in the folder that its runs share.

    Args: folder: results/<data set>[@<run>]; plans: those that the configuration's synthetic sets use, by generator.
    Raises: InputError for a generator with images of whose plans none is made: all would be unused.
    """
    for generator, names in sorted(plans.items()):
        yield from _images(folder, generator, names)
        yield from _of_former_plans(folder, generator, names)
        yield from _of_former_scorers(folder / "margins" / generator)
    yield from _masks(folder / "masks", folder / "masks.tsv", "no mask of the data set")
    for index in sorted(folder.glob("index/*.tsv")):
        yield from _masks(folder / "labels" / index.stem, index, "no mask of the data set")


def _images(folder: Path, generator: str, plans: list[str]) -> Iterator[Unused]:
    """Images of a generator that neither the plans nor those of the data set's other runs hold."""
    shared = folder.with_name(own_id(folder.name))
    images = shared / "synthesis" / generator / "images"
    found = sorted(images.glob("*/*.jpg"))
    if not found:
        return
    tables = {table for plan in plans if (table := folder / "plans" / f"{plan}.tsv").exists()}
    if not tables:
        raise InputError(
            f"{images}: holds {len(found)} images, but none of {generator}'s plans {', '.join(plans)} is made in "
            f"{folder}/plans, so all would be unused; make them first: snakemake {folder}/plans/{plans[0]}.tsv"
        )
    for run in {shared, *shared.parent.glob(f"{shared.name}{RUN}*")} - {folder}:  # their configuration isn't known here
        tables |= set(run.glob("plans/*.tsv"))
    used = {str(image_path(images, *row)) for table in tables for row in _rows(table)}
    yield from _listed((path for path in found if str(path) not in used), "in no plan")


def _rows(plan: Path) -> Iterable[tuple[str, int]]:
    rows = read_table(plan, ["mask_id", "seed"], only=True)
    return zip(rows.mask_id, rows.seed.astype(int), strict=True)


def _of_former_plans(folder: Path, generator: str, plans: list[str]) -> Iterator[Unused]:
    """Tables of plans that no synthetic set uses."""
    for stage in BY_PLAN:
        for made in sorted((folder / stage / generator).glob("*")):
            if made.name.partition("~")[0] not in plans and made.name != "images" and not any(made.glob("*.index")):
                yield from _listed(sorted(made.rglob("*.tsv")), "of a plan that no synthetic set uses")


def _of_former_scorers(margins: Path) -> Iterator[Unused]:
    """Packs of margin maps that no table names: of other weights or class losses."""
    tables = (read_table(table, ["margin"], only=True) for table in margins.glob("*/*.tsv"))
    named = {Path(path).parent.name for table in tables for path in table.margin.dropna()}
    for packs in sorted({index.parent for index in margins.glob("*/*.index")}):
        if packs.name not in named:
            yield from _listed(sorted(packs.glob("*")), "margin maps of a former scorer")


def _masks(masks: Path, table: Path, why: str) -> Iterator[Unused]:
    """Masks in a folder that a table doesn't name."""
    if masks.is_dir() and table.exists():
        named = set(read_table(table, ["mask"], only=True)["mask"])
        yield from _listed((path for path in sorted(masks.rglob("*.png")) if str(path) not in named), why)


def _listed(paths: Iterable[Path], why: str) -> Iterator[Unused]:
    for path in paths:
        if path.is_file():
            yield Unused(str(path), path.stat().st_size, why)
