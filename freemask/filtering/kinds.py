"""What a filter takes, by kinds of pixels: failures of the generator, small regions, boundaries, the rest."""

import cv2
import numpy as np
import pandas as pd

KINDS = ("failure", "small", "boundary", "rest")  # a pixel is of the first one that fits
BOUNDARY = 2  # pixels from a pixel of another label
SMALL = 0.02  # share of the image below which a region is small


def kinds_of(mask: np.ndarray, painted: np.ndarray | None, ignored: int) -> np.ndarray:
    """The kind of each pixel.

    Args: mask: (H, W) uint8 raw labels; painted: the same, what the generator painted instead, or None where that isn't
        known; ignored: raw label that means "ignored".
    Returns: (H, W) int8, place in KINDS; -1 at ignored pixels.
    """
    window = np.ones((2 * BOUNDARY + 1, 2 * BOUNDARY + 1), np.uint8)
    boundary = cv2.dilate(mask, window) != cv2.erode(mask, window)
    small = np.zeros(mask.shape, bool)
    for label in np.unique(mask):
        _, regions, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=4)
        little = stats[:, cv2.CC_STAT_AREA] < SMALL * mask.size
        little[0] = False  # everything else
        small |= little[regions]
    failure = np.zeros(mask.shape, bool) if painted is None else painted != mask
    kinds = np.select([failure, small, boundary], [0, 1, 2], 3)
    return np.where(mask == ignored, -1, kinds).astype(np.int8)


def count_kinds(kinds: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Pixels of each kind (`kinds_of`), and those that a filter `changed`, (H, W) bool: (2, len(KINDS)) int64."""
    counted = kinds >= 0
    return np.stack([np.bincount(kinds[chosen], minlength=len(KINDS)) for chosen in (counted, counted & changed)])


def shares_of_kinds(counts: np.ndarray) -> pd.DataFrame:
    """A table of the counts, the sum of `count_kinds` over images.

    Returns: kind, pixels, filtered [pixels], share (filtered of the kind), of_filtered (the kind's share of all that
        is filtered).
    """
    table = pd.DataFrame({"kind": KINDS, "pixels": counts[0], "filtered": counts[1]})
    return table.assign(share=table.filtered / table.pixels, of_filtered=table.filtered / table.filtered.sum())
