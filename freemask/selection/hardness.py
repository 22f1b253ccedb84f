"""Hardness of masks for a segmentor trained on real images, and the number of images at each rank.

Source: FreeMask, sections on filtering (class-wise mean loss) and on re-sampling, and its preprocess/resample.py.
"""

import numpy as np

from freemask.data.masks import LabelCounts

EPSILON = 1e-5  # pixels; the released filter.py divides by count + 1e-5


def class_wise_mean(loss_sum: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Class-wise mean loss h_j = loss_sum / (pixels + 1e-5).

    Args:
        loss_sum: (K,) float64, summed cross-entropy of real pixels [nats].
        pixels: (K,), number of these pixels.
    Returns: (K,) float64 [nats]; 0 for a class without pixels.
    Raises: ValueError if shapes differ, a sum isn't finite, or either is negative.
    """
    loss_sum, pixels = np.asarray(loss_sum, np.float64), np.asarray(pixels, np.float64)
    if loss_sum.shape != pixels.shape:
        raise ValueError(f"loss_sum has shape {loss_sum.shape}, pixels {pixels.shape}; want the same")
    if not np.isfinite(loss_sum).all() or (loss_sum < 0).any() or (pixels < 0).any():
        raise ValueError("loss_sum must be finite and both must be 0 or more")
    return loss_sum / (pixels + EPSILON)


def mask_hardness(counts: LabelCounts, class_loss: np.ndarray) -> np.ndarray:
    """Mean class-wise loss over each mask's labelled pixels, from label counts.

    Args:
        counts: Label counts of N masks.
        class_loss: (256,) float64, class-wise mean loss of each raw label [nats], NaN for a label without one.
    Returns: (N,) float64 [nats]; NaN for a mask without labelled pixels or with a label that has no class_loss.
    """
    labelled = counts.sum_by_mask(counts.pixels)
    loss = counts.sum_by_mask(counts.pixels * class_loss[counts.label])
    return np.divide(loss, labelled, out=np.full(counts.masks, np.nan), where=labelled > 0)


def ranks(hardness: np.ndarray) -> np.ndarray:
    """Rank p = 1..N by ascending hardness (1 = easiest); ties keep input order.

    Args: hardness: (N,) [nats], finite.
    Returns: (N,) int64.
    Raises: ValueError if a hardness isn't finite.
    """
    if not np.isfinite(hardness).all():
        raise ValueError(f"hardness {hardness[~np.isfinite(hardness)][0]} is not finite: a mask without labels?")
    return np.argsort(np.argsort(hardness, kind="stable")) + 1


def images_at_rank(rank: np.ndarray, n_max: int) -> np.ndarray:
    """Number of images at rank p of N: min(1 + round(n_max * p / N), n_max).

    Halves round to even, as Python's round in the released code.

    Args: rank: (N,), a permutation of 1..N; n_max: maximum number of images of a mask, 1 or more.
    Returns: (N,) int64, each in 1..n_max.
    Raises: ValueError if n_max < 1.
    """
    if n_max < 1:
        raise ValueError(f"n_max is {n_max}, want 1 or more")
    return np.minimum(1 + np.rint(n_max * rank / max(len(rank), 1)).astype(np.int64), n_max)
