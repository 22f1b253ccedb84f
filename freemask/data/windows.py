"""Large images, cut into windows before anything else reads them.

Trainings see windows that overlap. Images that are evaluated are covered by windows as well, but each of their pixels
is labelled in one window only, the one in which it lies deepest; elsewhere it is ignored. So a score over all windows
is that of sliding windows over the whole images, and needs the memory of a window.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from freemask.data.mask_format import MaskFormat
from freemask.errors import InputError
from freemask.files import LONGEST_ID, sha256, subfolder, write_changed
from freemask.images import png_bytes, read_image
from freemask.parallel import map_files

COLUMNS = ["mask_id", "image", "mask", "image_sha256", "mask_sha256"]
NAME = "{image}__y{y:05d}_x{x:05d}"  # of a window, with its upper left corner
END = r"__y\d{5,}_x\d{5,}$"  # what follows the image's name in it


def cut_from(mask_ids: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """The images that windows were cut from; an image that wasn't cut is its own.

    Returns: (N,) int64, the place of each one's image among the names; the names, in order of appearance.
    """
    return pd.factorize(mask_ids.str.replace(END, "", regex=True))


class Windows(NamedTuple):
    """size: side of a window [pixels]; overlap: of neighbours [pixels], at most half a side."""

    size: int
    overlap: int


class Span(NamedTuple):
    """Where a window lies on an axis, and the part of it whose pixels lie deepest in it: begins and ends [pixels]."""

    begin: int
    end: int
    core_begin: int
    core_end: int


def spans(length: int, windows: Windows) -> list[Span]:
    """Windows that cover an axis: the last one ends with it, so it may overlap more; a short axis is one window."""
    size = min(windows.size, length)
    begins = list(range(0, max(length - size, 0), windows.size - windows.overlap)) + [length - size]
    borders = [0, *((before + size + after) // 2 for before, after in zip(begins, begins[1:], strict=False)), length]
    return [Span(begin, begin + size, *borders[n : n + 2]) for n, begin in enumerate(begins)]


def cut(
    table: pd.DataFrame, mask_format: MaskFormat, windows: Windows, evaluated: bool, folder: Path, processes: int
) -> pd.DataFrame:
    """Cut the images and masks of an index into windows, PNGs below a folder; files that are there already stay.

    Args: table: mask_id, image, mask of checked pairs; evaluated: whether each pixel is labelled in one window only.
    Returns: COLUMNS of the windows, without those that have no labelled pixel.
    Raises: InputError if none has one, or for an image whose windows would have too long names.
    """
    for mask_id, image in zip(table["mask_id"], table["image"], strict=True):
        if len(NAME.format(image=mask_id, y=0, x=0).encode()) > LONGEST_ID:
            raise InputError(f"{image}: ids of its windows would have more than {LONGEST_ID} bytes; rename it")
    folder = folder / f"{windows.size}-{windows.overlap}"
    work = partial(_cut_pair, mask_format=mask_format, windows=windows, evaluated=evaluated, folder=folder)
    pairs = list(table[["mask_id", "image", "mask"]].itertuples(index=False, name=None))
    rows = [row for found in map_files(work, pairs, processes, "cut", "pair") for row in found]
    if not rows:
        raise InputError(f"{folder}: no window has a labelled pixel; look at the masks")
    return pd.DataFrame(rows, columns=COLUMNS)


def _cut_pair(
    pair: tuple[str, str, str], mask_format: MaskFormat, windows: Windows, evaluated: bool, folder: Path
) -> list[tuple[str, ...]]:
    """Write the windows of an image and its mask; their rows."""
    mask_id, image_path, mask_path = pair
    image, labels = read_image(image_path), mask_format.read(mask_path)
    rows = []
    for y in spans(labels.shape[0], windows):
        for x in spans(labels.shape[1], windows):
            mask = labels[y.begin : y.end, x.begin : x.end].copy()
            if evaluated:
                inner = np.zeros(mask.shape, bool)
                core = (slice(one.core_begin - one.begin, one.core_end - one.begin) for one in (y, x))
                inner[tuple(core)] = True
                mask[~inner] = mask_format.ignored
            if (mask == mask_format.ignored).all():
                continue
            name = NAME.format(image=mask_id, y=y.begin, x=x.begin)
            paths = [folder / kind / subfolder(mask_id) / f"{name}.png" for kind in ("images", "masks")]
            for path, array in zip(paths, (image[y.begin : y.end, x.begin : x.end], mask), strict=True):
                write_changed(path, png_bytes(np.ascontiguousarray(array)))
            rows.append((name, *map(str, paths), *map(sha256, paths)))
    return rows
