"""Class-wise mean loss: sums per image and class from shards, and their exact total for any number of shards.

A shard holds every n-th block of the index, and batches never cross a block. So the batch that an image is scored in
doesn't depend on the number of shards, and neither does a bit of the total.
Source of the mean: FreeMask, section on filtering, and its preprocess/filter.py.
"""

import math
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.parallel import shard_number, some
from freemask.selection.hardness import class_wise_mean
from freemask.tables import read_table

BLOCK = 32  # rows of the index that stay together


def shard_rows(index: pd.DataFrame, item: str) -> pd.DataFrame:
    """Rows of the index in blocks i, i + n, i + 2n, ... for the scatter item 'i-of-n'."""
    number, count = shard_number(item)
    return index[np.arange(len(index)) // BLOCK % count == number - 1]


def image_sums(loss: np.ndarray, train: np.ndarray, label_space: LabelSpace) -> str:
    """One image's loss summed per class, as text: 'label:pixels:loss label:pixels:loss ...', raw labels.

    Sums are float64, from the first pixel to the last; the text has all their digits.

    Args: loss: (H, W) float32 [nats]; train: (H, W) uint8 train ids.
    """
    pixels = np.bincount(train.ravel(), minlength=256)[: len(label_space)]
    total = np.bincount(train.ravel(), weights=loss.ravel(), minlength=256)
    return " ".join(f"{label_space.ids[k]}:{pixels[k]}:{total[k]!s}" for k in np.flatnonzero(pixels))


def gather_sums(indexes: Sequence[str | Path], shards: Sequence[str | Path], label_space: LabelSpace) -> pd.DataFrame:
    """Class-wise mean loss from the sums of all shards.

    Args:
        indexes: Table of real training pairs: mask_id; or the held-out pairs of each fold.
        shards: Tables of mask_id, sums (see image_sums) for the items 1-of-n, 2-of-n, ..., in this order; those of the
            first index, then those of the second one, ...
        label_space: Label space of the data set.
    Returns: label, name, loss_sum [nats], pixels, class_loss [nats]. loss_sum is rounded once (math.fsum), so it
        depends on no order.
    Raises: InputError if the shards don't hold exactly the rows of their indexes, or a sum isn't valid.
    """
    parts = len(shards) // len(indexes)
    if parts * len(indexes) != len(shards):
        raise InputError(f"{len(shards)} shards of {len(indexes)} indexes: want as many of each; give all of them")
    rows = [read_table(index, ["mask_id"], only=True) for index in indexes]
    losses: dict[int, list[float]] = {label: [] for label in label_space.ids}
    pixels = dict.fromkeys(label_space.ids, 0)
    for place, path in enumerate(shards):
        fold, number = divmod(place, parts)
        shard = read_table(path, ["mask_id", "sums"])
        expected = shard_rows(rows[fold], f"{number + 1}-of-{parts}").mask_id
        _refuse_other_rows(path, shard.mask_id, indexes[fold], expected)
        for mask_id, sums in zip(shard.mask_id, shard.sums.fillna(""), strict=True):
            try:
                for entry in sums.split():
                    label, count, loss = entry.split(":")
                    if not 0 <= float(loss) < math.inf:
                        raise ValueError
                    pixels[int(label)] += int(count)
                    losses[int(label)].append(float(loss))
            except (ValueError, KeyError):
                raise InputError(
                    f"{path}: the sums of {mask_id} aren't 'label:pixels:loss ...' of the data set's classes; make the"
                    " shard again"
                ) from None
    columns = {"loss_sum": [math.fsum(losses[label]) for label in label_space.ids], "pixels": list(pixels.values())}
    table = pd.DataFrame({"label": label_space.ids, "name": label_space.names, **columns})
    return table.assign(class_loss=class_wise_mean(table.loss_sum, table.pixels))


def _refuse_other_rows(path: str | Path, found: pd.Series, index: str | Path, expected: pd.Series) -> None:
    """Raise InputError if a shard's mask ids aren't the expected ones, in this order."""
    for one, other in zip_longest(found, expected):
        if other is None:
            raise InputError(f"{path}: holds {one} beyond the rows of {index}; make all shards again")
        if one != other:
            raise InputError(f"{path}: holds {one or 'nothing'} where {index} has {other}; make all shards again")


def read_class_loss(path: str | Path, held: Collection[int] = (), label_space: LabelSpace | None = None) -> np.ndarray:
    """Read class_loss.tsv.

    Args:
        path: Table of label, pixels, class_loss.
        held: Raw labels that must have been measured on at least one pixel.
        label_space: Label space whose labels must be those of the table.
    Returns: (256,) float64, class-wise mean loss of each raw label [nats], NaN for a label without one.
    Raises: InputError if a loss is negative or not finite, or as said above.
    """
    table = read_table(path, ["label", "pixels", "class_loss"])
    if label_space and tuple(table.label) != label_space.ids:
        raise InputError(f"{path}: its labels aren't those of the data set; measure the class losses again")
    unusable = table.label[~(np.isfinite(table.class_loss) & (table.class_loss >= 0))]
    if len(unusable):
        raise InputError(
            f"{path}: class_loss must be finite and not negative, unlike that of label(s) {some(unusable.tolist())};"
            " measure the class losses again"
        )
    without = np.setdiff1d(held, table.label[table.pixels > 0])
    if len(without):
        raise InputError(
            f"{path}: no finite loss on any pixel for label(s) {some(without.tolist())}, which the masks hold; measure"
            " the class losses on the same images and masks"
        )
    class_loss = np.full(256, np.nan)
    class_loss[table.label] = table.class_loss
    return class_loss


def class_loss_warnings(table: pd.DataFrame) -> list[str]:
    """A sentence on the classes whose mean loss on real images is that of a guess, or more; [] if there are none.

    Args: table: name, pixels, class_loss [nats].
    """
    guess = math.log(max(len(table), 1))
    lost = table[(table.pixels > 0) & (table.class_loss >= guess)]
    if lost.empty:
        return []
    classes = [f"{name} ({loss:.2f})" for name, loss in zip(lost.name, lost.class_loss, strict=True)]
    return [
        f"the scorer knows {len(lost)} class(es) no better than a guess ({guess:.2f} nats): {some(classes)}; their "
        "limits are so high that the filter keeps what is wrong, so train the scorer longer or join classes"
    ]
