"""Class-wise mean loss in parts: every image's sums per class, and their exact total whatever the number of shards.

A shard holds every n-th block of the index, and batches never cross a block. So an image is scored in the same company
however many shards there are, and the total is the same to the last bit.
Source of the mean: FreeMask, section on filtering, and its preprocess/filter.py.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.data.masks import LabelCounts
from freemask.errors import InputError
from freemask.parallel import shard_number, some
from freemask.selection.hardness import class_wise_mean
from freemask.tables import read_table, stream_table, write_rows

BLOCK = 32  # rows of the index that stay together
COLUMNS = ["mask_id", "sums"]
Row = tuple[str, str, str]  # mask_id, image, mask


def shard_rows(index: str | Path, item: str) -> Iterator[Row]:
    """Rows (mask_id, image, mask) of the index in blocks i, i + n, i + 2n, ... for the scatter item 'i-of-n'."""
    number, count = shard_number(item)
    for position, row in enumerate(stream_table(index, ["mask_id", "image", "mask"])):
        if position // BLOCK % count == number - 1:
            yield row


def image_sums(loss: np.ndarray, train: np.ndarray, labels: LabelSpace) -> str:
    """One image's loss summed per class, as text: 'label:pixels:loss label:pixels:loss ...', raw labels.

    Summed in float64 from the first pixel to the last, on any device the same; written so that it reads back exactly.
    Args: loss: (H, W) float32 nats; train: (H, W) uint8 train ids.
    """
    pixels = np.bincount(train.ravel(), minlength=256)[: len(labels)]
    total = np.bincount(train.ravel(), weights=loss.ravel(), minlength=256)
    return " ".join(f"{labels.ids[k]}:{pixels[k]}:{total[k]!s}" for k in np.flatnonzero(pixels))


def write_sums(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a shard's table, atomically: mask_id, sums (see image_sums)."""
    write_rows(path, COLUMNS, rows)


def gather_sums(index: str | Path, shards: Sequence[str | Path], labels: LabelSpace) -> pd.DataFrame:
    """Class-wise mean loss from all shards' sums: label, name, loss_sum [nats], pixels, class_loss [nats].

    loss_sum is the correctly rounded sum of the images' sums (math.fsum), so it depends on no order.
    Args: shards: of items 1-of-n, 2-of-n, ..., in this order.
    Raises: InputError where the shards don't hold exactly the index's rows, or a sum can't be used.
    """
    place = {label: k for k, label in enumerate(labels.ids)}
    losses, pixels = [array("d") for _ in place], [0] * len(place)
    for path, mask_id, sums in _in_index_order(index, shards):
        try:
            for entry in sums.split():
                label, count, loss = entry.split(":")
                if not (math.isfinite(float(loss)) and float(loss) >= 0):
                    raise ValueError
                pixels[place[int(label)]] += int(count)
                losses[place[int(label)]].append(float(loss))
        except (ValueError, KeyError):
            raise InputError(
                f"{path}: the sums of {mask_id} aren't 'label:pixels:loss ...' of the class table; make the shard again"
            ) from None
    loss_sum = np.array([math.fsum(values) for values in losses])
    mean = class_wise_mean(loss_sum, np.array(pixels))
    columns = {"loss_sum": loss_sum, "pixels": pixels, "class_loss": mean}
    return pd.DataFrame({"label": labels.ids, "name": labels.names, **columns})


def _in_index_order(index: str | Path, shards: Sequence[str | Path]) -> Iterator[tuple[str | Path, str, str]]:
    """Yield (shard, mask_id, sums) in the index's order; InputError where a row is missing, another, or left over."""
    parts = [stream_table(path, COLUMNS) for path in shards]
    rows = (mask_id for (mask_id,) in stream_table(index, ["mask_id"]))
    turn = 0
    while block := list(islice(rows, BLOCK)):
        path, part = shards[turn % len(shards)], parts[turn % len(parts)]
        turn += 1
        for mask_id in block:
            found, sums = next(part, ("nothing", ""))
            if found != mask_id:
                raise InputError(f"{path}: holds {found} where {index} has {mask_id}; make all shards again")
            yield path, mask_id, sums
    for path, part in zip(shards, parts, strict=True):
        if left := next(part, None):
            raise InputError(f"{path}: holds {left[0]} beyond the rows of {index}; make all shards again")


def read_class_loss(path: str | Path, needed: LabelCounts) -> np.ndarray:
    """Read class_loss.tsv as (256,) float64: h of each raw label [nats], NaN where there is none.

    Raises: InputError where a label that the masks hold has no finite loss or was measured on no pixel.
    """
    table = read_table(path, ["label", "pixels", "class_loss"])
    class_loss = np.full(256, np.nan)
    measured = table[table.pixels > 0]
    class_loss[measured.label.to_numpy(int)] = measured.class_loss
    without = np.setdiff1d(needed.label, np.flatnonzero(np.isfinite(class_loss)))
    if len(without):
        raise InputError(
            f"{path}: no finite loss on any pixel for label(s) {some(without.tolist())}, which the masks hold;"
            " measure the class-wise loss on the same images and masks"
        )
    return class_loss


def read_scorer_losses(path: str | Path, labels: LabelSpace) -> np.ndarray:
    """Class-wise mean losses (K,) float64 [nats] in train-id order from class_loss.tsv.

    Raises: InputError where the table's labels aren't the class table's, or a loss is negative or not finite.
    """
    table = read_table(path, ["label", "class_loss"])
    if tuple(table.label) != labels.ids:
        raise InputError(f"{path}: its labels aren't those of the class table; measure the class losses again")
    losses = table.class_loss.to_numpy(np.float64)
    if not (np.isfinite(losses) & (losses >= 0)).all():
        raise InputError(f"{path}: class_loss must be finite and not negative; measure the class losses again")
    return losses
