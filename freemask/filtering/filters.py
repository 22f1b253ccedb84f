"""Filter rules: the mask that a synthetic image is trained with. See docs/filtering.md.

A rule is a function ScoredMask -> mask (H, W) uint8 raw labels: it sets pixels that can't be trusted to the ignored
label, or to another label of the data set. To add one, write a function and name it in FILTERS; one outside this
package is named "package.module:function" in the configuration. For instance, a rule that also ignores all of label 7:

    def without_seven(scored: ScoredMask) -> np.ndarray:
        return np.where(scored.mask == 7, np.uint8(scored.ignored), margin(scored))
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from freemask.data.label_space import LabelSpace
from freemask.data.masks import write_mask
from freemask.errors import InputError
from freemask.files import sha256
from freemask.filtering.margins import margin_code
from freemask.images import read_mask


@dataclass(frozen=True)
class ScoredMask:
    """What a rule may look at: the mask of one synthetic image and how the scorer rates its pixels.

    Attributes:
        mask: (H, W) uint8 raw labels.
        margin: (H, W) uint8 margin codes: number of the alphas 0.05, 0.10, ... that filter a pixel.
        alpha: Tolerance margin of the synthetic set; finite, or inf if the configuration says so.
        ignored: Raw label that means "ignored".
    """

    mask: np.ndarray
    margin: np.ndarray
    alpha: float
    ignored: int


def margin(scored: ScoredMask) -> np.ndarray:
    """The paper's rule: pixels with loss > alpha * class-wise mean loss become ignored.

    Source: FreeMask, section on filtering, and its preprocess/filter.py (alpha 1.25).
    """
    return np.where(scored.margin >= margin_code(scored.alpha), np.uint8(scored.ignored), scored.mask)


def none(scored: ScoredMask) -> np.ndarray:
    """No filtering. filter_masks names the square masks themselves and copies nothing."""
    return scored.mask


FILTERS = {"margin": margin, "none": none}


def filter_file(
    paths: tuple[str, str, str], rule: Callable[[ScoredMask], np.ndarray], alpha: float, label_space: LabelSpace
) -> tuple[np.ndarray, str]:
    """Filter one image's mask and write it, unless the file has these bytes already.

    Args:
        paths: Mask (square, raw labels), its margin map, and the filtered mask (output).
        rule: One of FILTERS, or alike.
        alpha: Tolerance margin.
        label_space: Label space of the data set.
    Returns: (2, 256) int64, each raw label's pixels in the mask, and how many of them the rule changed (ignored label:
        0); and the SHA-256 of the filtered mask's file.
    Raises: InputError if mask and margin map differ in size, or the rule gives anything but labels of the data set.
    """
    mask_path, margin_path, target = paths
    mask, codes = read_mask(mask_path), read_mask(margin_path)
    if mask.shape != codes.shape:
        sizes = f"{codes.shape[1]}x{codes.shape[0]}, its mask {mask_path} {mask.shape[1]}x{mask.shape[0]}"
        raise InputError(f"{margin_path}: the margin map is {sizes}; delete the map and measure it again")
    filtered = rule(ScoredMask(mask, codes, alpha, label_space.ignored))
    if filtered.shape != mask.shape or filtered.dtype != np.uint8:
        found = f"{filtered.dtype} {filtered.shape}"
        raise InputError(f"{target}: the filter rule gives {found}, want uint8 {mask.shape}; correct the rule")
    label_space.to_train(filtered, target)  # refuses unknown labels
    write_mask(target, filtered)
    changed = mask[filtered != mask]
    pixels = np.stack([np.bincount(mask.ravel(), minlength=256), np.bincount(changed, minlength=256)])
    pixels[:, label_space.ignored] = 0
    return pixels, sha256(target)
