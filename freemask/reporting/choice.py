"""Which masks a sheet or page shows."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from freemask.data.masks import LabelCounts, read_masks
from freemask.tables import read_table

SHOWN = 0.01  # minimum share of a mask's labelled pixels for a class to count as shown


class Shown(NamedTuple):
    """A mask to show with its real image (paths), its raw labels, and rows of a synthetic set, ascending seeds."""

    mask_id: str
    mask: str
    real: str
    labels: np.ndarray
    synthetic: pd.DataFrame


def choose_images(masks: Path, index: Path, synthetic: Path, rows: int, columns: int) -> list[Shown]:
    """Choose `rows` masks (see `choose_masks`), and `columns` synthetic images of each; fewer if no mask has so many.

    masks, index, synthetic: Tables of resize_masks, of the training split, and of the synthetic set.
    """
    table, counts = read_masks(masks)
    names = ["image", "mask", "margin", "stamp", "filter", "alpha", "mask_id", "seed", "filtered"]
    train = read_table(synthetic, names, only=True)
    images = train.groupby("mask_id").size().reindex(table.mask_id, fill_value=0).to_numpy()
    columns = min(columns, int(images.max()))
    real = read_table(index, ["mask_id", "image"], only=True).set_index("mask_id").image
    shown = []
    for position in choose_masks(counts, images >= columns, rows):
        mask_id, mask = table.mask_id[position], table["mask"][position]
        own = train[train.mask_id == mask_id].sort_values("seed").head(columns)
        shown.append(Shown(mask_id, mask, real[mask_id], counts.label[counts.row == position], own))
    return shown


def choose_masks(counts: LabelCounts, usable: np.ndarray, rows: int) -> list[int]:
    """Choose masks that show the rare classes: rarest class first, each time the mask that shows it largest.

    A class that a chosen mask already shows is passed over; when every class is shown, another round begins.

    Args:
        counts: Label counts of N masks.
        usable: (N,) bool.
        rows: Number of masks to choose.
    Returns: At most `rows` indices, in the order of choice.
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
                shown |= share[best] >= SHOWN
        if not shown.any():
            break
    return chosen
