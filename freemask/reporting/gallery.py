"""Rows of pictures of the page: masks with what is synthesized from them, and predictions with their errors."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from freemask.data.label_space import LabelSpace
from freemask.filtering.sets import mask_filters, read_filtered
from freemask.images import read_image, read_mask
from freemask.reporting import pictures
from freemask.reporting.choice import choose_images
from freemask.reporting.pictures import Picture
from freemask.segmentation.outputs import spread
from freemask.tables import read_table

ROWS, COLUMNS = 8, 4  # masks, and synthetic images of each


@dataclass(frozen=True)
class Row:
    """A row of columns of pictures: a column holds one picture, or several below each other."""

    title: str
    note: str
    columns: list[list[Picture]]


def synthetic_rows(folder: Path, synthetic_set: str, label_space: LabelSpace) -> list[Row]:
    """Masks that show the rare classes: real image, mask, and synthetic images, each with its own filtered mask.

    Args:
        folder: The data set's results.
        synthetic_set: Name of a synthetic set.
        label_space: The data set's.
    """
    table = folder / "synthetic" / synthetic_set / "train.tsv"
    rows = []
    for shown in choose_images(folder / "masks.tsv", folder / "index/train.tsv", table, ROWS, COLUMNS):
        labels = read_mask(shown.mask)
        first = [
            pictures.photo(_squashed(read_image(shown.real), labels.shape), "real image"),
            pictures.painted(label_space.colorize(labels), "its mask", pictures.region_names(labels, label_space)),
        ]
        own = shown.synthetic
        synthetic = [_synthetic(labels, own.iloc[[place]], label_space) for place in range(len(own))]
        rows.append(Row(shown.mask_id, "", [first, *synthetic]))
    return rows


def _squashed(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A real image (H, W, 3) at the proportions of its square mask, as the generator and the scorer see it."""
    height, width = picture.shape[:2]
    side = max(min(height, width), min(shape))
    return np.asarray(Image.fromarray(picture).resize((side * shape[1] // shape[0], side)))


def _synthetic(labels: np.ndarray, own: pd.DataFrame, label_space: LabelSpace) -> list[Picture]:
    """A synthetic image, one row of the set, above its filtered mask."""
    row = next(own.itertuples())
    filtered = read_filtered(row.mask, mask_filters(own)[0], label_space)
    colored = pictures.colorize_filtered(labels, filtered, label_space)
    return [
        pictures.photo(read_image(row.image), f"synthetic, seed {row.seed}"),
        pictures.painted(colored, "its filtered mask", note=f"{row.filtered:.0%} filtered"),
    ]


def prediction_rows(val: Path, sides: dict[str, list[Path]], label_space: LabelSpace) -> list[Row]:
    """Validation images, their masks, and each side's prediction above its error map; largest gain first.

    Args:
        val: Table of the validation split.
        sides: Predictions of the control and of the improved segmentor by name, of the same images.
        label_space: The data set's.
    """
    table = read_table(val, ["image", "mask"])
    number = len(next(iter(sides.values())))
    shown = table.iloc[spread(len(table), number, val)]
    found: list[tuple[Row, float]] = []  # and its gain
    for place, (image, mask) in enumerate(zip(shown["image"], shown["mask"], strict=True)):
        labels = read_mask(mask)
        names = pictures.region_names(labels, label_space)
        truth = pictures.painted(label_space.colorize(labels), "its mask", names)
        columns = [[pictures.photo(read_image(image), "validation image"), truth]]
        scores = []
        for side, paths in sides.items():
            predicted = pictures.read_prediction(paths[place], mask, labels)
            scores.append(pictures.image_miou(labels, predicted, label_space))
            named = pictures.region_names(predicted, label_space)
            columns.append([
                pictures.painted(label_space.colorize(predicted), side, named, f"IoU {scores[-1]:.1f}"),
                pictures.painted(pictures.errors(labels, predicted, label_space), f"errors of {side}"),
            ])  # fmt: skip
        gain = scores[-1] - scores[0]
        found.append((Row(Path(image).name, f"{gain:+.1f} points of mean IoU in this image", columns), gain))
    rows = [row for row, _ in sorted(found, key=lambda one: -one[1])]
    if len(rows) > 1:
        rows[0] = replace(rows[0], note=f"largest gain of these {len(rows)}: {rows[0].note}")
        rows[-1] = replace(rows[-1], note=f"smallest gain of these {len(rows)}: {rows[-1].note}")
    return rows
