"""Which masks a sheet or page shows."""

import numpy as np

from freemask.data.masks import LabelCounts

SHOWN = 0.01  # minimum share of a mask's labelled pixels for a class to count as shown


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
