"""A sheet to look at: rows of real image, mask, filtered mask and synthetic images of the same mask.

Filtered regions are white and ignored ones black, as in the figures of FreeMask's supplement.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from freemask.data.label_space import LabelSpace
from freemask.data.masks import LabelCounts, resize_nearest

TILE = 160  # pixels: smaller images are repeated pixel by pixel to at least this, larger ones shrunk to LARGE_TILE
LARGE_TILE = 256
GAP, MARGIN, HEADER, CAPTION, LEGEND_ROW = 6, 24, 46, 30, 26  # pixels
INK, FAINT, PAPER = (43, 47, 54), (120, 126, 136), (255, 255, 255)
HELD = 0.01  # share of a mask's labelled pixels from which on a row shows a class


@dataclass(frozen=True)
class Row:
    """One mask: its title and pictures, each (S, S, 3) uint8; None leaves a tile empty."""

    title: str
    real: np.ndarray
    mask: np.ndarray
    filtered: np.ndarray
    synthetic: tuple[np.ndarray | None, ...]


def choose_masks(counts: LabelCounts, usable: np.ndarray, rows: int) -> list[int]:
    """Choose masks that show the rare classes: rarest class first, each time the mask that shows it largest.

    A class that a chosen mask already shows (1 % of its labelled pixels) is passed over; when every class is shown,
    another round begins.
    Args: counts: of N masks; usable: (N,) bool; rows: how many to choose.
    Returns: at most `rows` indices, in the order of choice.
    """
    pixels = np.zeros((counts.masks, 256), np.float32)
    pixels[counts.row, counts.label] = counts.pixels
    share = pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
    rarest_first = sorted(np.flatnonzero(pixels.sum(0)), key=lambda label: (pixels[:, label].sum(), label))
    left, chosen = usable.copy(), []
    while left.any() and len(chosen) < rows:
        shown = np.zeros(256, bool)
        for label in rarest_first:
            best = int(np.argmax(np.where(left, share[:, label], -1)))
            if left[best] and share[best, label] > 0 and not shown[label] and len(chosen) < rows:
                chosen.append(best)
                left[best] = False
                shown |= share[best] >= HELD
        if not shown.any():
            break
    return chosen


def paint_filtered(mask: np.ndarray, filtered: np.ndarray, space: LabelSpace) -> np.ndarray:
    """Paint a filtered mask (H, W) of raw labels: classes in their colors, filtered white, ignored black."""
    painted = space.colorize(filtered)
    painted[(mask != space.ignored) & (filtered == space.ignored)] = 255
    return painted


def tile_side(side: int) -> int:
    """The tile's side [pixels] for pictures of a side: a whole multiple of it, or less for large ones."""
    return LARGE_TILE if side > LARGE_TILE else side * -(-TILE // side)


def fit(picture: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """Scale a picture (H, W, 3) to (side, side, 3): nearest, or area-averaging where `smooth` and it shrinks."""
    if smooth and max(picture.shape[:2]) > side:
        return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))
    return np.stack([resize_nearest(picture[..., channel], side) for channel in range(3)], axis=-1)


def compose(rows: list[Row], labels: list[int], space: LabelSpace, title: str) -> np.ndarray:
    """Draw the sheet: (H, W, 3) uint8.

    Args: labels: raw labels in the legend; title: a line above everything.
    """
    side = tile_side(rows[0].mask.shape[0])
    names = ["real image", "its mask", "filtered mask of no. 1"]
    names += [f"synthetic no. {number + 1}" for number in range(len(rows[0].synthetic))]
    width = 2 * MARGIN + len(names) * (side + GAP) - GAP
    legend = legend_cells(labels, space, width, [(PAPER, "filtered"), ((0, 0, 0), "ignored")])
    top = MARGIN + HEADER + 26
    bottom = top + len(rows) * (side + CAPTION + GAP)
    sheet = Image.new("RGB", (width, bottom + len(legend) * LEGEND_ROW + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, font(20))
    for column, name in enumerate(names):
        draw.text((MARGIN + column * (side + GAP), top - 10), name, INK, font(14), anchor="ls")
    for number, row in enumerate(rows):
        y = top + number * (side + CAPTION + GAP)
        for column, picture in enumerate((row.real, row.mask, row.filtered, *row.synthetic)):
            if picture is not None:
                tile = fit(picture, side, smooth=column not in (1, 2))
                sheet.paste(Image.fromarray(tile), (MARGIN + column * (side + GAP), y))
                draw.rectangle(_box(MARGIN + column * (side + GAP), y, side), outline=(214, 218, 224))
        draw.text((MARGIN, y + side + 6), clip(row.title, width - 2 * MARGIN, 13), FAINT, font(13))
    draw_legend(draw, legend, bottom + 4)
    return np.asarray(sheet)


def _box(x: int, y: int, side: int) -> tuple[int, int, int, int]:
    return x - 1, y - 1, x + side, y + side


def font(size: int) -> ImageFont.FreeTypeFont:
    """The sheets' font; it ships with Pillow: the same pixels on every machine."""
    return ImageFont.load_default(size)


def clip(text: str, width: int, size: int) -> str:
    """A text cut to a width [pixels]."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + " ...") > width:
        text = text[:-1]
    return text.rstrip(", ") + " ..."


def legend_cells(
    labels: list[int], space: LabelSpace, width: int, others: list[tuple[tuple[int, int, int], str]]
) -> list[list[tuple[tuple[int, int, int], str, int]]]:
    """Legend entries (color, name, x) of labels and of `others`, broken into lines of the sheet's width."""
    of_label = dict(zip(space.ids, zip(space.colors, space.names, strict=True), strict=True))
    lines, x = [[]], MARGIN
    for color, name in [*(of_label[label] for label in labels), *others]:
        step = 22 + int(font(14).getlength(name)) + 20
        if lines[-1] and x + step > width - MARGIN + 20:
            lines.append([])
            x = MARGIN
        lines[-1].append((color, name, x))
        x += step
    return lines


def draw_legend(draw: ImageDraw.ImageDraw, lines: list[list[tuple[tuple[int, int, int], str, int]]], top: int) -> None:
    """Draw legend entries from y = `top` on."""
    for number, line in enumerate(lines):
        for color, name, x in line:
            y = top + number * LEGEND_ROW
            draw.rectangle((x, y, x + 15, y + 15), fill=color, outline=FAINT)
            draw.text((x + 22, y + 13), name, INK, font(14), anchor="ls")
