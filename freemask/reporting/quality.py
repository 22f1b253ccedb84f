"""How good synthetic images are, by a segmentor trained on real images alone: does it find their masks, and do its
features tell them from real images?
"""

from collections.abc import Iterable

import numpy as np
import torch

from freemask.data.label_space import IGNORE_INDEX
from freemask.segmentation.evaluation import confusion


def mean_iou(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], classes: int) -> float:
    """Mean IoU [percent] of predictions over the classes that masks or predictions hold.

    Args:
        pairs: Train ids of mask and prediction, (H, W) uint8 each.
        classes: Number of classes.
    """
    matrix = sum(confusion(predicted, truth, classes, IGNORE_INDEX) for truth, predicted in pairs)
    intersection, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return float(100 * np.mean(intersection[union > 0] / union[union > 0]))


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets of features, unbiased, with KID's kernel (x·y / d + 1)^3.

    Source: Binkowski et al., Demystifying MMD GANs (ICLR 2018). The published KID takes an Inception network's
    features; with another network's the numbers compare with each other only.

    Args:
        first: (N, d) features.
        second: (M, d) features.
    """

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (one @ other.T / one.shape[1] + 1) ** 3

    def within(features: np.ndarray) -> float:
        values = kernel(features, features)
        return (values.sum() - np.trace(values)) / (len(features) * (len(features) - 1))

    return float(within(first) + within(second) - 2 * kernel(first, second).mean())


class Features:
    """Collects what a segmentor's backbone finds in each image: its last stage, averaged over all pixels."""

    def __init__(self, model: torch.nn.Module):
        self.found: list[np.ndarray] = []
        self.hook = model.backbone.register_forward_hook(self._keep)

    def _keep(self, _module: torch.nn.Module, _inputs: tuple, stages: tuple[torch.Tensor, ...]) -> None:
        self.found += list(stages[-1].double().mean(dim=(2, 3)).cpu().numpy())

    def take(self) -> np.ndarray:
        """(N, d) features of the images since the last call."""
        taken, self.found = np.stack(self.found), []
        return taken
