"""Folds of the real training images: each is scored by a segmentor that wasn't trained on it (cross-fitting).

A segmentor that has seen few images often has far smaller losses on them than on others, so that class-wise losses
measured on them make the filter too strict. With k folds, k segmentors are trained on all images but every k-th.
"""

import pandas as pd

from freemask.errors import InputError
from freemask.parallel import shard_number


def split(index: pd.DataFrame, fold: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split an index into the rows that a fold's segmentor is trained on, and the rows held out: i, i + k, i + 2k, ...

    Args:
        index: Table of real training pairs.
        fold: Number and count, "i-of-k".
    Raises: InputError for another text, or fewer rows than two per fold.
    """
    number, count = shard_number(fold)
    if len(index) < 2 * count:
        raise InputError(f"class_loss.folds = {count}, but there are {len(index)} training images; choose fewer folds")
    held = index.iloc[number - 1 :: count]
    return index.drop(held.index), held
