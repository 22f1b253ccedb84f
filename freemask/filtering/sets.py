"""Masks of a synthetic set: filtered whenever they are read, and stored nowhere.

A row of a set names mask, margin map, filter and alpha; the filtered mask follows from them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from freemask import packs, plugins
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.filtering.filters import FILTERS, ScoredMask, reads_predictions
from freemask.images import read_layers, read_mask


class MaskFilter(NamedTuple):
    """What filters the mask of one synthetic image: a rule with its alpha, by a margin map.

    margin: Path of the map as if it lay beside its pack.
    place: Where the map lies in its pack.
    rule: Name in FILTERS, or "package.module:function".
    """

    margin: str
    place: packs.Place
    rule: str
    alpha: float

    def apply(self, mask: np.ndarray, ignored: int) -> np.ndarray:
        """Filter a mask, (H, W) uint8 raw labels; `ignored` is the raw label that means "ignored".

        Raises: InputError for a damaged margin map, one of another size, or a rule that gives no such array.
        """
        rule = plugins.find(FILTERS, self.rule, "filter")
        content, predicted = packs.read(self.place), []
        if reads_predictions(rule):
            layers = np.moveaxis(read_layers(self.margin, content), -1, 0)
            codes, *predicted = (np.ascontiguousarray(layer) for layer in layers)
        else:
            codes = read_mask(self.margin, content)
        if mask.shape != codes.shape:
            sizes = f"{codes.shape[1]}x{codes.shape[0]}, its mask {mask.shape[1]}x{mask.shape[0]}"
            raise InputError(f"{self.margin}: the margin map is {sizes}; run verify, then measure it again")
        filtered = rule(ScoredMask(mask, codes, self.alpha, ignored, *predicted))
        if filtered.shape != mask.shape or filtered.dtype != np.uint8:
            found = f"{filtered.dtype} {filtered.shape}"
            raise InputError(f"filter {self.rule} gives {found}, want uint8 {mask.shape}; correct the rule")
        return filtered


def mask_filters(table: pd.DataFrame) -> list[MaskFilter | None]:
    """What filters the mask of each row; None where nothing does.

    Args: table: with the columns margin, stamp, filter, alpha; a table without the column margin has no filters.
    Raises: InputError for a margin map that isn't there, or an unknown rule.
    """
    filters: list[MaskFilter | None] = [None] * len(table)
    if "margin" not in table:
        return filters
    rows = np.flatnonzero(table.margin.notna())
    some = table.iloc[rows]
    for rule in some["filter"].unique():
        plugins.find(FILTERS, rule, "filter")
    places = packs.find(some.margin.tolist(), some.stamp.tolist())
    for row, margin, place, rule, alpha in zip(rows, some.margin, places, some["filter"], some.alpha, strict=True):
        if place is None:
            raise InputError(f"{margin}: no such margin map of this image and mask; run measure_margins again")
        filters[row] = MaskFilter(margin, place, rule, float(alpha))
    return filters


def read_filtered(mask: str, mask_filter: MaskFilter | None, label_space: LabelSpace) -> np.ndarray:
    """Read the mask that a synthetic image is trained with: (H, W) uint8 raw labels.

    Args: mask: path of the square mask; mask_filter: see `mask_filters`.
    Raises: InputError for a mask or margin map that can't be read, or a label that isn't the data set's.
    """
    labels = read_mask(mask)
    if mask_filter:
        labels = mask_filter.apply(labels, label_space.ignored)
        label_space.to_train(labels, f"{mask} after filter {mask_filter.rule}")  # refuses unknown labels
    return labels
