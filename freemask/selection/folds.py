"""Folds of the real training images: each is scored by a segmentor that wasn't trained on it (cross-fitting).

A segmentor that has seen few images often has far smaller losses on them than on others, so that class-wise losses
measured on them make the filter too strict. With k folds, k segmentors are trained on all images but every k-th.
"""

import pandas as pd

from freemask.data import windows
from freemask.errors import InputError
from freemask.parallel import shard_number


def split(index: pd.DataFrame, fold: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split an index into the rows that a fold's segmentor is trained on, and those held out: images i, i + k, ...

    Windows of one image stay together: they overlap.

    Args: index: table of real training pairs; fold: number and count, "i-of-k".
    Raises: InputError for another text, or fewer images than two per fold.
    """
    number, count = shard_number(fold)
    images, names = windows.cut_from(index.mask_id)
    if len(names) < 2 * count:
        raise InputError(f"class_loss.folds = {count}, but there are {len(names)} training images; choose fewer folds")
    held = images % count == number - 1
    return index[~held], index[held]
