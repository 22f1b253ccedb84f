"""How hard a mask is for a segmentor that learned from real images, and how many images it gets for that.

Source: FreeMask, sections on filtering (class-wise mean loss) and on re-sampling, and its preprocess/resample.py.
"""

import numpy as np

from freemask.data.masks import LabelCounts

EPSILON = 1e-5  # pixels; the released filter.py divides by count + 1e-5


def class_wise_mean(loss_sum: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Class-wise mean loss h_j = loss_sum / (pixels + 1e-5).

    Args: loss_sum: (K,) float64, summed cross-entropy of real pixels [nats]; pixels: (K,), how many were summed.
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
    """Mean class-wise loss over each mask's labelled pixels, from label counts: no pixel is read again.

    Args: counts: of N masks; class_loss: (256,) float64, h of each raw label [nats], NaN where there is none.
    Returns: (N,) float64 [nats]; NaN for a mask without labelled pixels or with a label that has no class_loss.
    """
    labelled = counts.sum_by_mask(counts.pixels)
    lost = counts.sum_by_mask(counts.pixels * class_loss[counts.label])
    return np.divide(lost, labelled, out=np.full(counts.masks, np.nan), where=labelled > 0)


def ranks(hardness: np.ndarray) -> np.ndarray:
    """Rank p = 1..N by ascending hardness (1 = easiest); ties keep input order. (N,) -> (N,) int64."""
    rank = np.empty(len(hardness), np.int64)
    rank[np.argsort(hardness, kind="stable")] = np.arange(1, len(hardness) + 1)
    return rank


def images_at_rank(rank: np.ndarray, n_max: int) -> np.ndarray:
    """min(1 + round(n_max * p / N), n_max) at rank p of N; halves round to even, as Python's round in the release.

    Args: rank: (N,) a permutation of 1..N; n_max >= 1.
    Returns: (N,) int64, each in 1..n_max.
    Raises: ValueError if n_max < 1.
    """
    if n_max < 1:
        raise ValueError(f"n_max is {n_max}, want 1 or more")
    return np.minimum(1 + np.rint(n_max * rank / max(len(rank), 1)).astype(np.int64), n_max)


def images_per_mask(hardness: np.ndarray, n_max: int) -> np.ndarray:
    """Give harder masks more images: min(1 + round(n_max * p / N), n_max) at rank p = 1..N.

    Ties keep input order. Source: FreeMask, section on re-sampling and its preprocess/resample.py.
    Args: hardness: (N,), mean class-wise loss over labelled pixels [nats], finite; n_max >= 1.
    Returns: (N,) int64, input order, each in 1..n_max.
    Raises: ValueError if n_max < 1 or a hardness is not finite (a mask without labels).
    """
    if not np.isfinite(hardness).all():
        raise ValueError(f"hardness {hardness[~np.isfinite(hardness)][0]} is not finite: a mask without labels?")
    return images_at_rank(ranks(hardness), n_max)
