"""Sampling strategies: how many images each mask gets. Formulas: docs/selection.md.

A strategy is a function (masks, n_max) -> (N,) int64: images of each mask, 0 to n_max, in the order of `masks`. It may
use everything that `Masks` holds. To add one, write a function and name it in STRATEGIES; one outside this package
is named "package.module:function" in the configuration. For instance, images for the hardest tenth only:

    def hardest_tenth(masks: Masks, n_max: int) -> np.ndarray:
        return np.where(masks.rank > 0.9 * len(masks.rank), n_max, 0)

Plans stay nested (docs/selection.md) if a larger n_max gives no mask fewer images.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from freemask.data.masks import LabelCounts, read_masks
from freemask.errors import InputError
from freemask.selection.class_loss import read_class_loss
from freemask.selection.hardness import images_at_rank

# Minimum share of a mask's labelled pixels for a class to count as held (class_balanced), so that a few stray pixels
# don't. Below 1/256 every mask holds a class: its most frequent one.
PRESENCE = 1e-3


@dataclass(frozen=True)
class Masks:
    """The input of a strategy: N masks in the order of hardness.tsv.

    Attributes:
        mask_ids: N names.
        rank: (N,) int64, hardness rank 1..N, 1 = easiest.
        masks_table: masks.tsv; `counts` needs it.
        class_loss_table: class_loss.tsv; `class_loss` needs it.
    """

    mask_ids: list[str]
    rank: np.ndarray
    masks_table: Path | None = None
    class_loss_table: Path | None = None

    @cached_property
    def counts(self) -> LabelCounts:
        """Pixels of each raw label in each mask."""
        if not self.masks_table:
            raise InputError("this strategy needs --masks and --class-loss; give both")
        masks, counts = read_masks(self.masks_table)
        if masks.mask_id.tolist() != self.mask_ids:
            raise InputError(f"{self.masks_table} and hardness.tsv list different masks; make both again")
        return counts

    @cached_property
    def class_loss(self) -> np.ndarray:
        """(256,) float64, class-wise mean loss of each raw label that a mask holds [nats]."""
        if not self.class_loss_table:
            raise InputError("this strategy needs --masks and --class-loss; give both")
        return read_class_loss(self.class_loss_table, held=self.counts.label)


def hardness(masks: Masks, n_max: int) -> np.ndarray:
    """The paper's strategy: 1 to n_max images, more for harder masks."""
    return images_at_rank(masks.rank, n_max)


def uniform(masks: Masks, n_max: int) -> np.ndarray:
    """The same number of images for every mask; the total is that of `hardness`.

    The masks whose ids have the smallest SHA-256 get one image of the remainder each: a choice that doesn't depend on
    what the mask shows and changes little when masks are added.
    """
    share, rest = divmod(int(images_at_rank(masks.rank, n_max).sum()), max(len(masks.rank), 1))
    digests = [hashlib.sha256(mask_id.encode()).digest() for mask_id in masks.mask_ids]
    counts = np.full(len(digests), share, np.int64)
    counts[sorted(range(len(digests)), key=digests.__getitem__)[:rest]] += 1
    return counts


def all_masks(masks: Masks, n_max: int) -> np.ndarray:
    """n_max images for every mask."""
    return np.full(len(masks.rank), n_max)


def class_balanced(masks: Masks, n_max: int) -> np.ndarray:
    """The formula of `hardness` with masks ranked by class priority, ties by hardness; the total is the same."""
    priority = class_priority(masks.counts, masks.class_loss)
    return images_at_rank(np.argsort(np.lexsort((masks.rank, priority))) + 1, n_max)


def class_priority(counts: LabelCounts, class_loss: np.ndarray) -> np.ndarray:
    """Priority of a mask by its rarest and hardest class: max over the classes c that it holds of h_c / sqrt(F_c).

    F_c is the share of all masks that hold c. 1 / sqrt(F_c) is, up to a constant, the repeat factor of LVIS
    (Gupta et al. 2019); h_c is the class-wise mean loss.

    Args:
        counts: Label counts of N masks, each with labelled pixels.
        class_loss: (256,), class-wise mean loss of each raw label [nats].
    Returns: (N,) float64 [nats].
    """
    labelled = counts.sum_by_mask(counts.pixels)
    held = (counts.pixels > 0) & (counts.pixels >= PRESENCE * labelled[counts.row])
    row, label = counts.row[held], counts.label[held]
    frequency = np.bincount(label, minlength=256) / max(counts.masks, 1)
    priority = np.full(counts.masks, -np.inf)
    np.maximum.at(priority, row, class_loss[label] / np.sqrt(frequency[label]))
    return priority


STRATEGIES = {"hardness": hardness, "uniform": uniform, "all": all_masks, "class_balanced": class_balanced}
