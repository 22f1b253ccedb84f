"""How far a pixel's loss lies above its class's mean: class-wise mean loss and margin codes.

Source: FreeMask (https://arxiv.org/abs/2310.15160), section on filtering, and its released preprocess/filter.py.
"""

import torch

from freemask.data.label_space import IGNORE_INDEX

ALPHA_STEP = 5  # hundredths: margin codes tell apart the alphas 0.05, 0.10, ..., 12.75
LEVELS = 255


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
    label = torch.where(train == IGNORE_INDEX, 0, train).long()
    # loss / (0.05 h) names the code up to one; comparing with the two limits around it is exact
    guess = torch.nan_to_num(loss / limits[:, 0][label], nan=0.0).clamp(1, LEVELS - 1).long()
    column = label * LEVELS + guess  # limit of guess + 1; the one before it is that of guess
    flat = limits.flatten()
    codes = guess - 1 + (flat[column - 1] < loss).long() + (flat[column] < loss).long()
    return torch.where(train == IGNORE_INDEX, 0, codes).to(torch.uint8)
