"""Sheets: rows of pictures under headings, with a legend of classes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from freemask.data.label_space import LabelSpace
from freemask.reporting import fonts

Color = tuple[int, int, int]
Legend = list[list[tuple[Color, str, int]]]  # lines of (color, name, x)

TILE, LARGE_TILE = 160, 256  # pixels: smaller pictures grow to at least TILE, larger ones shrink to LARGE_TILE
GAP, MARGIN, HEADER, CAPTION, LEGEND_ROW = 6, 24, 46, 30, 26  # pixels
PAPER, INK, FAINT, OUTLINE = (255, 255, 255), (43, 47, 54), (120, 126, 136), (214, 218, 224)


@dataclass(frozen=True)
class Row:
    """A row of tiles of the same size, each (H, W, 3) uint8; and a line of text below."""

    tiles: list[np.ndarray]
    caption: str = ""


def tile_size(height: int, width: int) -> tuple[int, int]:
    """Height and width [pixels] of a picture's tile: whole multiples for small pictures, LARGE_TILE for large ones."""
    longer = max(height, width)
    if longer <= LARGE_TILE:
        times = -(-TILE // longer)
        return height * times, width * times
    return max(1, round(height * LARGE_TILE / longer)), max(1, round(width * LARGE_TILE / longer))


def tile(picture: np.ndarray, size: tuple[int, int], smooth: bool) -> np.ndarray:
    """Scale a picture (H, W, 3) to a height and width: averaged where `smooth` and it shrinks, else nearest pixels."""
    shrinks = max(picture.shape[:2]) > max(size)
    how = Image.Resampling.LANCZOS if smooth and shrinks else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size[::-1], how))


def legend(labels: Iterable[int], label_space: LabelSpace) -> list[tuple[Color, str]]:
    """Color and name of raw labels."""
    positions = [label_space.ids.index(label) for label in labels]
    return [(label_space.colors[position], label_space.names[position]) for position in positions]


def draw_sheet(rows: list[Row], headings: list[str], entries: list[tuple[Color, str]], title: str) -> np.ndarray:
    """Draw a sheet: (H, W, 3) uint8.

    Args:
        rows: From top to bottom.
        headings: Of the columns.
        entries: Color and name of the legend's entries.
        title: Line above everything.
    """
    tile_width = max(row.tiles[0].shape[1] for row in rows)
    heights = [row.tiles[0].shape[0] + GAP + (CAPTION if row.caption else 0) for row in rows]
    lefts = [MARGIN + column * (tile_width + GAP) for column in range(len(headings))]
    width = lefts[-1] + tile_width + MARGIN
    lines = _legend_lines(entries, width)
    top = MARGIN + HEADER + 26
    bottom = top + sum(heights) + (0 if rows[-1].caption else GAP)
    sheet = Image.new("RGB", (width, bottom + len(lines) * LEGEND_ROW + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, fonts.font(20, title))
    for left, heading in zip(lefts, headings, strict=True):
        shown = _clip(heading, tile_width, 14)
        draw.text((left, top - 10), shown, INK, fonts.font(14, shown), anchor="ls")
    y = top
    for row, height in zip(rows, heights, strict=True):
        for x, picture in zip(lefts, row.tiles, strict=True):
            sheet.paste(Image.fromarray(picture), (x, y))
            draw.rectangle((x - 1, y - 1, x + picture.shape[1], y + picture.shape[0]), outline=OUTLINE)
        caption = _clip(row.caption, width - 2 * MARGIN, 13)
        draw.text((MARGIN, y + row.tiles[0].shape[0] + 6), caption, FAINT, fonts.font(13, caption))
        y += height
    _draw_legend(draw, lines, bottom + 4)
    return np.asarray(sheet)


def _clip(text: str, width: int, size: int) -> str:
    """A text cut to a width [pixels]."""
    font = fonts.font(size, text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + " ...") > width:
        text = text[:-1]
    return text.rstrip(", ") + " ..."


def _legend_lines(entries: list[tuple[Color, str]], width: int) -> Legend:
    """Legend entries with their x [pixels], broken into lines of the sheet's width."""
    lines: Legend = [[]]
    x = MARGIN
    for color, name in entries:
        step = 22 + int(fonts.font(14, name).getlength(name)) + 20
        if lines[-1] and x + step > width - MARGIN + 20:
            lines.append([])
            x = MARGIN
        lines[-1].append((color, name, x))
        x += step
    return lines


def _draw_legend(draw: ImageDraw.ImageDraw, lines: Legend, top: int) -> None:
    """Draw legend entries from y = `top` on."""
    for number, line in enumerate(lines):
        y = top + number * LEGEND_ROW
        for color, name, x in line:
            draw.rectangle((x, y, x + 15, y + 15), fill=color, outline=FAINT)
            draw.text((x + 22, y + 13), name, INK, fonts.font(14, name), anchor="ls")
