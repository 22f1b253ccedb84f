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

from freemask.filtering.margins import margin_code


@dataclass(frozen=True)
class ScoredMask:
    """What a rule may look at: the mask of one synthetic image and how the scorer rates its pixels.

    Attributes:
        mask: (H, W) uint8 raw labels.
        margin: (H, W) uint8 margin codes: number of the alphas 0.05, 0.10, ... that filter a pixel.
        alpha: Tolerance margin of the synthetic set; finite, or inf if the configuration says so.
        ignored: Raw label that means "ignored".
        prediction: (H, W) uint8 raw labels, what the scorer predicts; only for rules that read predictions.
        confidence: (H, W) uint8, the scorer's probability of its prediction * 255, rounded down; likewise.
    """

    mask: np.ndarray
    margin: np.ndarray
    alpha: float
    ignored: int
    prediction: np.ndarray | None = None
    confidence: np.ndarray | None = None


Rule = Callable[[ScoredMask], np.ndarray]
CONFIDENT = 0.9  # probability from which `relabel` believes the scorer


def margin(scored: ScoredMask) -> np.ndarray:
    """The paper's rule: pixels with loss > alpha * class-wise mean loss become ignored.

    Source: FreeMask, section on filtering, and its preprocess/filter.py (alpha 1.25).
    """
    return np.where(scored.margin >= margin_code(scored.alpha), np.uint8(scored.ignored), scored.mask)


def none(scored: ScoredMask) -> np.ndarray:
    """No filtering. Needs no margin maps."""
    return scored.mask


def relabel(scored: ScoredMask) -> np.ndarray:
    """Pixels that the paper's rule ignores get the scorer's prediction where it is confident: probability >= 0.9."""
    confident = scored.confidence >= CONFIDENT * 255
    changed = np.where(confident, scored.prediction, np.uint8(scored.ignored))
    return np.where(scored.margin >= margin_code(scored.alpha), changed, scored.mask)


relabel.reads_predictions = True


def reads_predictions(rule: Rule) -> bool:
    """Whether a rule reads predictions, which then are stored: its attribute `reads_predictions` is true."""
    return getattr(rule, "reads_predictions", False)


FILTERS: dict[str, Rule] = {"margin": margin, "none": none, "relabel": relabel}
