"""Sizes of a split's images: how many have which width and height, and one file of each."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from freemask.tables import read_table, write_table


class Size(NamedTuple):
    """Images of one size: width and height as shown [pixels], their number, and the path of one."""

    width: int
    height: int
    images: int
    example: str


def write_sizes(path: str | Path, sizes: list[Size]) -> None:
    """Write a table of width, height, images, example; the largest images first."""
    rows = sorted(sizes, key=lambda size: (-size.width * size.height, -size.width))
    write_table(path, pd.DataFrame(rows, columns=list(Size._fields)))


def read_sizes(path: str | Path) -> list[Size]:
    """Read a table that `write_sizes` wrote."""
    columns = list(Size._fields)
    return [Size(*row) for row in read_table(path, columns)[columns].itertuples(index=False)]
