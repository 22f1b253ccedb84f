"""Colors (red, green, blue; 0..255) of what a mask shows beside its classes, as in FreeMask's figures."""

import re
from collections.abc import Iterable

Color = tuple[int, int, int]

# The first of each that can be told from every class's color.
IGNORED = [(0, 0, 0), (64, 64, 64), (128, 128, 128), (192, 192, 192)]  # never labelled, or outside the class table
FILTERED = [(255, 255, 255), (255, 0, 255), (0, 255, 0)]  # set to the ignored label by a filter rule
APART = 16  # difference in a channel that people see


def of_hexadecimal(color: str) -> Color:
    """#rrggbb as numbers. Raises: ValueError for anything else."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise ValueError(color)
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def hexadecimal(color: Color) -> str:
    """A color as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def apart_from(classes: Iterable[Color], candidates: list[Color]) -> Color:
    """The first candidate that differs visibly from every class's color; the first one if none does."""
    for candidate in candidates:
        if all(max(abs(a - b) for a, b in zip(candidate, one, strict=True)) >= APART for one in classes):
            return candidate
    return candidates[0]
