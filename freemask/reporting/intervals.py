"""Intervals of gains: a paired bootstrap over validation images, wider by the chance of train seeds if they are enough.

Every resample draws as many images as there are, with replacement, the same ones for every segmentor; IoU and mIoU are
computed of the drawn images as the evaluation computes them of all. An interval holds the middle 95 % of the gains
(percentile bootstrap). With SEEDS train seeds or more, Student's interval of their mean gain is added: the squares of
both intervals' distances from the mean of the resampled gains add up. A bootstrap of so few seeds would be too narrow:
of five it holds the true gain in 83 % of all cases. Source of the sum: Zou and Donner 2008, construction of confidence
limits about effect measures.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from freemask.data import windows
from freemask.errors import InputError
from freemask.segmentation.areas import Areas, read_areas

RESAMPLES = 1000
LEVEL = 0.95
SEEDS = 3
IMAGES, IMAGES_AND_SEEDS, NOT_KEPT = "images", "images and train seeds", "not kept"  # over what an interval is


@dataclass(frozen=True)
class Interval:
    """An interval of a gain [points].

    Attributes:
        low, high: Its ends, numbers or an array of one for each class; NaN without an interval.
        over: What chance it covers; NOT_KEPT if an evaluation has no areas, "" where there is no gain.
    """

    low: float | np.ndarray = np.nan
    high: float | np.ndarray = np.nan
    over: str = ""


class SameImages:
    """Reads the areas of evaluations that shall be of the same validation images."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.mask_ids = np.array([])

    def read(self, per_class_iou: Path) -> Areas | None:
        """Read the areas beside a table of IoU per class; None where none were kept.

        Raises: InputError for an evaluation of other images than the first one, and as `read_areas` does.
        """
        areas = read_areas(per_class_iou)
        if areas is not None:
            if self.path is None:
                self.path, self.mask_ids = per_class_iou, areas.mask_ids
            if not np.array_equal(areas.mask_ids, self.mask_ids):
                raise InputError(
                    f"{self.path} and {per_class_iou}: evaluated on different images; evaluate both again, or delete"
                    " the image_areas.npz beside one of them (gains then have no interval)"
                )
        return areas


def resampled_ious(areas: Areas) -> np.ndarray:
    """(RESAMPLES, K) IoU [percent] of each class in resampled images; NaN where no drawn image has the class.

    Windows are drawn together with the others of their image, since they aren't independent of each other.
    Sums are whole numbers below 2**53, so the same areas give the same bytes on every machine.
    """
    images, names = windows.cut_from(pd.Series(areas.mask_ids, dtype=str))
    weights = _weights(len(names))[:, images]
    with np.errstate(invalid="ignore"):
        return 100 * (weights @ areas.intersection.astype(float)) / (weights @ areas.union.astype(float))


@cache
def _weights(images: int) -> np.ndarray:
    """(RESAMPLES, images) float64: how often each resample draws each image."""
    drawn = np.random.default_rng(0).integers(images, size=(RESAMPLES, images))
    flat = drawn + images * np.arange(RESAMPLES)[:, None]
    return np.bincount(flat.ravel(), minlength=flat.size).reshape(flat.shape).astype(float)


def gain_interval(before: dict[int, np.ndarray | None], after: dict[int, np.ndarray | None]) -> Interval:
    """The interval of a gain, averaged over the train seeds that both sides have.

    Args:
        before: Resampled numbers of each train seed, (RESAMPLES,) mIoU or (RESAMPLES, K) IoU; None without areas.
        after: The same.
    """
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return Interval()
    pairs = [(before[seed], after[seed]) for seed in seeds]
    if any(one is None for pair in pairs for one in pair):
        return Interval(over=NOT_KEPT)
    gains = np.stack([better - base for base, better in pairs])  # (seeds, RESAMPLES, ...)
    low, high = _quantiles(_mean(gains, axis=0))
    if len(seeds) < SEEDS:
        return Interval(low, high, IMAGES)
    of_seeds = _mean(gains, axis=1)
    gain, count = _mean(of_seeds, axis=0), (~np.isnan(of_seeds)).sum(axis=0)  # a class may lack an IoU in some seeds
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(np.nansum((of_seeds - gain) ** 2, axis=0) / (count - 1))
        chance = stdtrit(count - 1, (1 + LEVEL) / 2) * deviation / np.sqrt(count)
    return Interval(gain - np.hypot(gain - low, chance), gain + np.hypot(high - gain, chance), IMAGES_AND_SEEDS)


def _mean(gains: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what isn't NaN along an axis; NaN where all is."""
    counts = (~np.isnan(gains)).sum(axis)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, np.nansum(gains, axis=axis) / counts, np.nan)


def _quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the middle LEVEL of (RESAMPLES, ...) values.

    NaN where more resamples than lie beyond one end lack the class: in fewer than about four images, too few to say.
    """
    tail = (1 - LEVEL) / 2
    unknown = np.isnan(values).mean(axis=0) > tail
    ends = np.nanquantile(np.where(unknown, 0.0, values), [tail, 1 - tail], axis=0)
    low, high = np.where(unknown, np.nan, ends)
    return low, high
