"""Failures of a generator, made on purpose and known pixel by pixel."""

import zlib

import numpy as np

from freemask.data.label_space import LabelSpace

SHARE = 0.25  # of the regions that fail


def painted(mask: np.ndarray, mask_id: str, seed: int, label_space: LabelSpace) -> np.ndarray:
    """The mask that is painted instead: a class's region, with probability SHARE, as another class.

    Half of the time that is a class of the same mask, as if the region were missing; else any other class.

    Args: mask: (H, W) uint8 raw labels; seed: of the image.
    """
    rng = np.random.default_rng([seed, zlib.crc32(mask_id.encode())])
    present = [label for label in np.unique(mask) if label != label_space.ignored]
    result = mask.copy()
    for label in present:
        fails, missing = rng.random(2)
        others = [other for other in (present if missing < 0.5 else label_space.ids) if other != label]
        if fails < SHARE and others:
            result[mask == label] = rng.choice(others)
    return result
