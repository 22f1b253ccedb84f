"""Margin codes: by how many tolerance margins a pixel's loss exceeds its class's mean.

Source: FreeMask (https://arxiv.org/abs/2310.15160), section on filtering, and its released preprocess/filter.py.
"""

import cv2
import numpy as np
import torch

from freemask.data.label_space import IGNORE_INDEX, LabelSpace
from freemask.filtering.margins import ALPHAS, LARGEST_CODE

PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 6),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT),
    *(cv2.IMWRITE_PNG_ZLIBBUFFER_SIZE, 2**20),  # one chunk
]


def thresholds(class_loss: torch.Tensor) -> torch.Tensor:
    """Loss above which a pixel is filtered, for every class and alpha.

    Args: class_loss: (K,) float64 [nats], finite, >= 0.
    Returns: (K, 255) float32 [nats], ascending; column k - 1 is float32(class_loss * alpha) with alpha the double
        nearest to k * 0.05, as when a float32 loss is compared with the Python number class_loss * alpha.
    """
    return (class_loss.double()[:, None] * torch.tensor(ALPHAS, dtype=torch.float64)).float()


def margin_codes(loss: torch.Tensor, train: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Number of alphas that filter a pixel: it is filtered at alpha = k * 0.05 if and only if its code is k or more.

    Args: loss: (...) float32 [nats]; train: (...) uint8 train ids; limits: (K, 255) of `thresholds`, same device.
    Returns: (...) uint8; 0 at ignored pixels; 255 also stands for anything above 255.
    """
    label = torch.where(train == IGNORE_INDEX, 0, train).long()
    # loss / (0.05 h) is within one of the code; comparing with the two limits around it is exact
    guess = torch.nan_to_num(loss / limits[:, 0][label], nan=0.0).clamp(1, LARGEST_CODE - 1).long()
    column = label * LARGEST_CODE + guess  # limit of guess + 1; the one before it is that of guess
    flat = limits.flatten()
    codes = guess - 1 + (flat[column - 1] < loss).long() + (flat[column] < loss).long()
    return torch.where(train == IGNORE_INDEX, 0, codes).to(torch.uint8)


def margin_map(
    loss: torch.Tensor,
    train: torch.Tensor,
    prediction: torch.Tensor | None = None,
    confidence: torch.Tensor | None = None,
    *,
    limits: torch.Tensor,
    label_space: LabelSpace,
) -> np.ndarray:
    """What is stored of one image's pixels.

    Args: loss, train, limits: see `margin_codes`; prediction: (H, W) uint8 predicted train ids, if filters shall read
        them; confidence: (H, W) uint8, their probability * 255.
    Returns: (H, W) uint8 margin codes; with predictions (H, W, 3): codes, predicted raw labels, confidences.
    """
    codes = margin_codes(loss, train, limits).cpu().numpy()
    if prediction is None:
        return codes
    return np.stack([codes, label_space.to_raw(prediction.cpu().numpy()), confidence.cpu().numpy()], axis=-1)


def margin_png(codes: np.ndarray) -> bytes:
    """Encode margin codes (H, W) uint8 as PNG; or (H, W, 3): codes, predicted raw labels, confidences as RGB.

    Every row has the filter "up", which trainings decode in about 55 % of the time that Pillow's choice of a filter for
    each row takes, at nearly the same size.
    """
    return cv2.imencode(".png", codes if codes.ndim == 2 else codes[..., ::-1], PNG)[1].tobytes()
