"""A sheet to look at: rows of a validation image, its mask, and what segmentors predict."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.reporting import contact_sheet
from freemask.reporting.contact_sheet import GAP, HEADER, INK, LARGE_TILE, LEGEND_ROW, MARGIN, PAPER, TILE


@dataclass(frozen=True)
class Row:
    """One validation image: image (H, W, 3) uint8; truth and predictions (H, W) uint8 raw labels."""

    image: np.ndarray
    truth: np.ndarray
    predictions: tuple[np.ndarray, ...]


def spread(total: int, number: int, source: str | Path) -> list[int]:
    """`number` positions spread evenly over 0..total-1: the middles of as many equal parts.

    Raises: InputError where there are fewer than `number`.
    """
    if number > total:
        raise InputError(f"{source}: {total} image(s), but evaluation.pictures is {number}; lower it")
    return [(2 * part + 1) * total // (2 * number) for part in range(number)]


def compose(rows: list[Row], names: list[str], space: LabelSpace, title: str) -> np.ndarray:
    """Draw the sheet: (H, W, 3) uint8. Pictures keep their shape; small ones grow by whole pixels.

    Args: names: of the predictions' columns; title: a line above everything.
    """
    tiles = [[tile(row.image, smooth=True)] for row in rows]
    for line, row in zip(tiles, rows, strict=True):
        line += [tile(space.colorize(labels), smooth=False) for labels in (row.truth, *row.predictions)]
    side = max(line[0].shape[1] for line in tiles)
    shown = sorted(set(np.unique([*(value for row in rows for value in np.unique(row.truth)),
                                  *(value for row in rows for one in row.predictions for value in np.unique(one))])
                       .tolist()) - {space.ignored})  # fmt: skip
    headings = ["validation image", "its mask", *names]
    width = 2 * MARGIN + len(headings) * (side + GAP) - GAP
    legend = contact_sheet.legend_cells(shown, space, width, [((0, 0, 0), "ignored")])
    top = MARGIN + HEADER + 26
    bottom = top + sum(line[0].shape[0] + GAP for line in tiles) + GAP
    sheet = Image.new("RGB", (width, bottom + len(legend) * LEGEND_ROW + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, contact_sheet.font(20))
    for column, name in enumerate(headings):
        place = (MARGIN + column * (side + GAP), top - 10)
        draw.text(place, contact_sheet.clip(name, side, 14), INK, contact_sheet.font(14), anchor="ls")
    y = top
    for line in tiles:
        for column, picture in enumerate(line):
            sheet.paste(Image.fromarray(picture), (MARGIN + column * (side + GAP), y))
        y += line[0].shape[0] + GAP
    contact_sheet.draw_legend(draw, legend, bottom + 4)
    return np.asarray(sheet)


def tile(picture: np.ndarray, smooth: bool) -> np.ndarray:
    """Shrink a picture (H, W, 3) that is larger than LARGE_TILE to that; repeat the pixels of one smaller than TILE."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= LARGE_TILE:
        return picture.repeat(-(-TILE // longer), 0).repeat(-(-TILE // longer), 1)
    size = (max(1, round(width * LARGE_TILE / longer)), max(1, round(height * LARGE_TILE / longer)))
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, how))
