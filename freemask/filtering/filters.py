"""Which pixels of a synthetic image a tolerance margin alpha takes out of training.

A pixel of class j is filtered where its loss exceeds alpha * h_j (h_j: class-wise mean loss of real images, nats).
The margin map of an image holds, per pixel, how many of the multiples of 0.05 its loss exceeds as alpha, so that one
forward pass serves every alpha. Source: FreeMask, section on filtering, and its preprocess/filter.py (alpha 1.25).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from freemask.data.masks import write_mask
from freemask.errors import InputError
from freemask.files import sha256
from freemask.images import read_mask

STEP = 0.05  # margin code k: loss > (k * STEP) * h_j
LARGEST_CODE = 255  # where codes saturate: it stands for 255 and more, so alpha 12.75 is still exact


def parse_alpha(text: str) -> float:
    """Read a tolerance margin: a multiple of 0.05 from 0.05 to 12.75, or inf (no filtering).

    Raises: InputError with the value.
    """
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if alpha != math.inf and not (math.isfinite(alpha) and _is_code(alpha)):
        raise InputError(f"alpha {text}: want a multiple of {STEP} from {STEP} to {LARGEST_CODE * STEP:g}, or inf")
    return alpha


def _is_code(alpha: float) -> bool:
    code = round(alpha / STEP)
    return 1 <= code <= LARGEST_CODE and math.isclose(alpha, code * STEP, rel_tol=1e-9)


def margin_code(alpha: float) -> int:
    """The smallest margin code that a finite alpha filters: k = alpha / 0.05."""
    return round(alpha / STEP)


def filter_mask(mask: np.ndarray, margin: np.ndarray, alpha: float, ignored: int) -> np.ndarray:
    """Set the pixels that exceed the tolerance margin to the ignored label.

    Args: mask: (H, W) uint8 raw labels; margin: (H, W) uint8 margin codes; alpha: see parse_alpha, finite.
    Returns: (H, W) uint8 raw labels.
    Raises: ValueError if the shapes differ.
    """
    if mask.shape != margin.shape:
        raise ValueError(f"mask has shape {mask.shape}, margin map {margin.shape}; want the same")
    return np.where(margin >= margin_code(alpha), np.uint8(ignored), mask)


@dataclass(frozen=True)
class FilterJob:
    """One image's files: mask (square, raw labels), its margin map, and where the filtered mask goes."""

    mask: str
    margin: str
    filtered: str


def filter_file(job: FilterJob, alpha: float, ignored: int) -> tuple[np.ndarray, str]:
    """Filter one image's mask and write it (not again where the file holds the same bytes).

    Returns: (2, 256) int64: each raw label's pixels in the mask, and how many of them were filtered (ignored: 0); and
    the SHA-256 of the filtered mask's file.
    Raises: InputError where mask and margin map are of different sizes.
    """
    mask, margin = read_mask(job.mask), read_mask(job.margin)
    if mask.shape != margin.shape:
        sizes = f"{margin.shape[1]}x{margin.shape[0]}, its mask {job.mask} {mask.shape[1]}x{mask.shape[0]}"
        raise InputError(f"{job.margin}: the margin map is {sizes}; delete the map and measure it again")
    filtered = filter_mask(mask, margin, alpha, ignored)
    write_mask(job.filtered, filtered)
    before, after = np.bincount(mask.ravel(), minlength=256), np.bincount(filtered.ravel(), minlength=256)
    pixels = np.stack([before, before - after])
    pixels[:, ignored] = 0
    return pixels, sha256(job.filtered)


def filtered_path(folder: Path, mask_id: str, seed: int) -> str:
    """Where an image's filtered mask is kept."""
    return str(folder / mask_id / f"{seed}.png")
