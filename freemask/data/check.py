"""Whether a split's images and masks can be used, before anything expensive reads them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.errors import InputError
from freemask.tables import write_table
from freemask.data.label_space import LabelSpace
from freemask.parallel import map_files
from freemask.data.probe import Facts, probe
from freemask.data.seen import Seen

Known = tuple[int, int, Facts]  # size [bytes], time of change [ns], what was found then
SHOWN = 10  # offenders that the error names; the table lists all
TABLE = "fix them in the masks, or add them to the class table"


@dataclass(frozen=True)
class Pair:
    """An image and its mask (paths), and what is known of each from an earlier check."""

    image: str
    mask: str
    known_image: Known | None = None
    known_mask: Known | None = None


@dataclass(frozen=True)
class Examined:
    """The same with what they are now; fresh: the kinds ("image", "mask") that were read, not remembered."""

    pair: Pair
    image: Known
    mask: Known
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class Offender:
    """A file that can't be used."""

    path: str
    what: str
    remedy: str


@dataclass
class Checked:
    """A split: pairs checked, files read (not remembered), offenders; pixels, images: of each raw label, (256,)."""

    pairs: int = 0
    read: int = 0
    offenders: list[Offender] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))


def check_split(
    pairs: Iterable[tuple[str, str]], total: int, space: LabelSpace, cache: Path, processes: int, description: str
) -> Checked:
    """Read every file that isn't remembered, judge every pair.

    Args: pairs: paths of image and mask; total: their number; cache: see freemask.seen.
    """
    checked = Checked()
    with Seen(cache) as seen:
        for examined in map_files(_examine, _recall(pairs, seen), processes, description, "pair", total):
            for kind in examined.fresh:
                size, changed, facts = getattr(examined, kind)
                if changed:  # a file that isn't there is looked for again
                    seen.put(kind, getattr(examined.pair, kind), size, changed, facts)
            checked.pairs += 1
            checked.read += len(examined.fresh)
            checked.offenders += judge(examined.pair, examined.image[2], examined.mask[2], space)
            for label, pixels in parse_counts(examined.mask[2].counts):
                checked.pixels[label] += pixels
                checked.images[label] += 1
    return checked


def _recall(pairs: Iterable[tuple[str, str]], seen: Seen) -> Iterator[Pair]:
    for image, mask in pairs:
        yield Pair(image, mask, seen.get("image", image), seen.get("mask", mask))


def _examine(pair: Pair) -> Examined:
    """Read what changed since it was known."""
    image, image_fresh = _facts("image", pair.image, pair.known_image)
    mask, mask_fresh = _facts("mask", pair.mask, pair.known_mask)
    fresh = tuple(kind for kind, read in (("image", image_fresh), ("mask", mask_fresh)) if read)
    return Examined(pair, image, mask, fresh)


def _facts(kind: str, path: str, known: Known | None) -> tuple[Known, bool]:
    try:
        status = os.stat(path)
        stamp = status.st_size, status.st_mtime_ns
    except OSError:
        stamp = 0, 0
    if known and known[:2] == stamp:
        return known, False
    return (*stamp, probe(kind, path)), True


def judge(pair: Pair, image: Facts, mask: Facts, space: LabelSpace) -> list[Offender]:
    """What is wrong with a pair, given the facts of its files; [] for a good one."""
    found = [
        Offender(path, facts.what, facts.remedy)
        for path, facts in ((pair.image, image), (pair.mask, mask))
        if facts.what
    ]
    if not (image.what or mask.what) and (image.width, image.height) != (mask.width, mask.height):
        what = f"{mask.width}x{mask.height} pixels, its image {pair.image} has {image.width}x{image.height}"
        remedy = "export both at one size (an image's EXIF orientation counts: turn its pixels instead)"
        found.append(Offender(pair.mask, what, remedy))
    if not mask.what:
        labels = [label for label, _ in parse_counts(mask.counts)]
        unknown = sorted(set(labels) - set(space.ids) - {space.ignored})
        if unknown:
            found.append(Offender(pair.mask, f"label(s) {unknown} not in the class table", TABLE))
        elif labels == [space.ignored]:
            what = f"no labelled pixel (all are {space.ignored}, the ignored label)"
            found.append(Offender(pair.mask, what, "label it, or take image and mask out of the data set"))
    return found


def parse_counts(counts: str) -> list[tuple[int, int]]:
    """Parse 'label:pixels label:pixels ...'."""
    return [tuple(int(number) for number in entry.split(":")) for entry in counts.split()]


def refuse(report: Path, checked: Checked) -> None:
    """Write the table of offenders: path, what, remedy.

    Raises: InputError with the first few, always.
    """
    write_table(report, pd.DataFrame(checked.offenders))
    lines = [f"{found.path}: {found.what}; {found.remedy}" for found in checked.offenders[:SHOWN]]
    left = len(checked.offenders) - len(lines)
    more = [f"... and {left} more"] if left else []
    raise InputError(
        "\n  ".join([f"{len(checked.offenders)} problem(s) in {checked.pairs} pairs, all in {report}:", *lines, *more])
    )
