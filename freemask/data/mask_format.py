"""What the values in a data set's mask files stand for: labels, or colors of classes.

Everything after the index reads labels: masks of another kind are written as label PNGs once, see `store`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path, write_mask
from freemask.errors import InputError
from freemask.files import sha256
from freemask.images import pack, read_colors, read_mask
from freemask.parallel import map_files

SHOWN = 3  # unknown colors of a mask that its message names
UNSMOOTHED = "export exact colours: as PNG, without smoothed edges"


@dataclass(frozen=True)
class MaskFormat:
    """How mask files are read.

    Attributes:
        values: Raw label of each value that a mask may hold: the label itself, or a color 0xrrggbb.
        ignored: Raw label that means "ignored".
        colors: Whether the values are colors.
    """

    values: dict[int, int]
    ignored: int
    colors: bool = False

    @classmethod
    def of_labels(cls, space: LabelSpace, ignored: bool = True) -> "MaskFormat":
        """Masks that hold the labels of a label space, and its ignored label if `ignored`."""
        return cls({label: label for label in (*space.ids, *([space.ignored] if ignored else []))}, space.ignored)

    @classmethod
    def of_colors(cls, space: LabelSpace, ignored_color: tuple[int, int, int] | None) -> "MaskFormat":
        """Masks that hold the colors of a label space, and perhaps one of ignored pixels."""
        values = dict(zip(space.colors, space.ids, strict=True))
        if ignored_color:
            values[ignored_color] = space.ignored
        return cls({int.from_bytes(color): label for color, label in values.items()}, space.ignored, colors=True)

    @classmethod
    def of_json(cls, settings: dict[str, Any]) -> "MaskFormat":
        """The format that `to_json` wrote."""
        return cls({int(value): label for value, label in settings["values"]}, settings["ignored"], settings["colors"])

    def to_json(self) -> dict[str, Any]:
        """The format as values that JSON holds."""
        return {"values": sorted(self.values.items()), "ignored": self.ignored, "colors": self.colors}

    def is_stored(self, path: str) -> bool:
        """Whether a mask file is already what everything else reads: labels in a PNG."""
        return not self.colors and path.lower().endswith(".png")

    def unknown(self, counts: list[tuple[int, int]]) -> tuple[str, str] | None:
        """What is wrong with a mask of these values and numbers of pixels, and the remedy; None for a good one."""
        found = sorted((-pixels, value) for value, pixels in counts if value not in self.values)
        if not found:
            return None
        if not self.colors:
            labels = sorted(value for _, value in found)
            return f"label(s) {labels} not in the class table", "fix them in the masks, or add them to the class table"
        shown = [f"{hexadecimal(value)} ({-pixels} pixels, nearest {self._nearest(value)})" for pixels, value in found]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        what = f"colour(s) not in the class table: {', '.join(shown[:SHOWN])}{more}"
        return what, f"correct the class's colour, add a class or ignored_color, or {UNSMOOTHED}"

    def shown(self, value: int) -> str:
        """A value as people write it: 255, #a0b0c0."""
        return hexadecimal(value) if self.colors else str(value)

    def _nearest(self, value: int) -> str:
        """The class color that is nearest to a color in RGB."""

        def distance(color: int) -> int:
            return sum((a - b) ** 2 for a, b in zip(color.to_bytes(3), value.to_bytes(3), strict=True))

        return hexadecimal(min(self.values, key=distance))

    def read(self, path: str) -> np.ndarray:
        """Read a mask that the check accepts as raw labels (H, W) uint8.

        Raises: InputError if the file can't be read, or holds another color.
        """
        if not self.colors:
            return read_mask(path)
        values = read_colors(path)
        known = np.array(sorted(self.values))
        labels = np.array([self.values[value] for value in known], np.uint8)
        which = np.searchsorted(known, values).clip(max=len(known) - 1)
        if (known[which] != values).any():
            raise InputError(f"{path}: changed while it was read; run again")
        return labels[which]


ANY_LABELS = MaskFormat({label: label for label in range(256)}, ignored=-1)


def store(table: pd.DataFrame, mask_format: MaskFormat, bad: set[str], folder: Path, processes: int) -> pd.DataFrame:
    """Write the masks of an index as label PNGs below a folder, unless the files have these bytes already.

    Args: table: mask_id, mask, mask_sha256, ...; bad: masks that can't be used (check_dataset lists them).
    Returns: The table with the label PNGs as masks, and the masks themselves as `source`.
    """
    good = ~table["mask"].isin(bad)
    paths = [(row.mask, str(mask_path(folder, row.mask_id))) for row in table.itertuples()]
    wanted = [pair for pair, used in zip(paths, good, strict=True) if used]
    digests = map_files(partial(_store_file, mask_format=mask_format), wanted, processes, "write labels", "mask")
    stored = table.assign(source=table["mask"], mask=[target for _, target in paths])
    stored.loc[good, "mask_sha256"] = list(digests)
    return stored


def _store_file(paths: tuple[str, str], mask_format: MaskFormat) -> str:
    """Write a mask, the first path, as a label PNG, the second; returns the SHA-256 of that."""
    source, target = paths
    write_mask(target, mask_format.read(source))
    return sha256(target)


def count_colors(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Colors (0xrrggbb, ascending) of an image and their numbers of pixels."""
    values = pack(np.asarray(image.convert("RGB"))).ravel()
    starts = np.flatnonzero(np.diff(values, prepend=-1))  # masks are runs of one color: far fewer values to sort
    lengths = np.diff(starts, append=values.size)
    colors, run_of = np.unique(values[starts], return_inverse=True)
    pixels = np.bincount(run_of, weights=lengths).astype(np.int64)
    return zip(colors.tolist(), pixels.tolist(), strict=True)


def hexadecimal(value: int) -> str:
    """0xrrggbb as #rrggbb."""
    return f"#{value:06x}"
