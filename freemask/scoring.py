"""How far a pixel's loss lies above its class's mean: class-wise mean loss and margin codes.

Source: FreeMask (https://arxiv.org/abs/2310.15160), section on filtering, and its released preprocess/filter.py.
"""

import torch
from torch.nn import functional

from freemask.labels import IGNORE_INDEX

ALPHA_STEP = 5  # hundredths: margin codes tell apart the alphas 0.05, 0.10, ..., 12.75
LEVELS = 255


def pixel_loss(logits: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Cross entropy of every pixel.

    Args: logits: (N, K, H, W) float; train: (N, H, W) uint8 train ids.
    Returns: (N, H, W) float32 nats, 0 where the train id is 255.
    """
    return functional.cross_entropy(logits.float(), train.long(), ignore_index=IGNORE_INDEX, reduction="none")


class ClassSums:
    """Loss summed (float64, nats) and pixels counted per class; `loss` (K,) and `pixels` (K,)."""

    def __init__(self, classes: int) -> None:
        self.loss = torch.zeros(classes, dtype=torch.float64)
        self.pixels = torch.zeros(classes, dtype=torch.int64)

    def add(self, loss: torch.Tensor, train: torch.Tensor) -> None:
        """Add pixels: loss (...) float32, train (...) uint8 of the same shape."""
        for label in _present(train):
            chosen = loss[train == label]
            self.loss[label] += chosen.double().sum().cpu()
            self.pixels[label] += chosen.numel()

    def mean(self) -> torch.Tensor:
        """Class-wise mean loss (K,) float64: sum / (count + 1e-5), 0 for a class without pixels."""
        return self.loss / (self.pixels.double() + 1e-5)


def thresholds(class_loss: torch.Tensor) -> torch.Tensor:
    """What a pixel's loss must exceed to be filtered, for every class and alpha.

    Args: class_loss: (K,) float64 nats, finite, >= 0.
    Returns: (K, 255) float32, ascending; column k - 1 is float32(class_loss * alpha) with alpha the double nearest to
    k * 0.05: what comparing a float32 loss with the Python number class_loss * alpha rounds to.
    """
    alphas = torch.tensor([ALPHA_STEP * k / 100 for k in range(1, LEVELS + 1)], dtype=torch.float64)
    return (class_loss.double()[:, None] * alphas).float()


def margin_codes(loss: torch.Tensor, train: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """How many alphas filter a pixel: it is filtered at alpha = k * 0.05 if and only if its code is k or more.

    Args: loss: (...) float32 nats; train: (...) uint8 train ids; limits: (K, 255) of `thresholds`, same device.
    Returns: (...) uint8; 0 at ignored pixels; 255 also stands for anything above 255.
    """
    codes = torch.zeros_like(train)
    for label in _present(train):
        chosen = train == label
        # bucketize counts the limits below a value: limit < loss, strictly
        codes[chosen] = torch.bucketize(loss[chosen], limits[label].contiguous()).to(torch.uint8)
    return codes


def _present(train: torch.Tensor) -> list[int]:
    return [label for label in torch.unique(train).tolist() if label != IGNORE_INDEX]
