"""Shards of margin maps and of filtered masks, and the synthetic sets that they make."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.data.masks import read_masks
from freemask.errors import InputError
from freemask.files import sha256_of_input
from freemask.filtering.sets import MaskFilter, mask_filters, read_filtered
from freemask.images import read_mask, stamp
from freemask.parallel import map_files, some
from freemask.selection.plans import read_plan
from freemask.tables import read_table

MOST = 0.6  # share of all pixels beyond which a filter is warned of
MOST_OF_CLASS = 0.8  # of a class
KEY = ["mask_id", "seed"]
MARGINS = [*KEY, "image", "mask", "margin", "stamp"]
SET = ["image", "mask", "margin", "stamp", "filter", "alpha", *KEY, "filtered", "digest"]
Filtered = tuple[pd.DataFrame, np.ndarray]  # SET; (2, 256) int64: pixels of each raw label, filtered ones


def margin_maps(shard: Path, masks: Path, folder: Path) -> pd.DataFrame:
    """The margin maps of a shard of synthesize, in the packs of a folder: MARGINS.

    Raises: InputError for a mask that the table `masks` doesn't hold, or that is missing.
    """
    table = _with_masks(shard, masks, read_table(masks, ["mask_id", "mask"], only=True))
    digests = {path: sha256_of_input(path) for path in table["mask"].unique()}
    table["margin"] = [f"{folder}/{row.mask_id}-{row.seed}.png" for row in table.itertuples()]
    table["stamp"] = [stamp(*pair) for pair in zip(table.sha256, table["mask"].map(digests), strict=True)]
    return table[MARGINS]


def _with_masks(shard: Path, masks: Path, known: pd.DataFrame) -> pd.DataFrame:
    """The rows of a shard of synthesize with the columns of their masks in `known`, read from `masks`."""
    table = read_table(shard, [*KEY, "image", "sha256"], only=True)
    unknown = table.mask_id[~table.mask_id.isin(known.mask_id)].unique()
    if len(unknown):
        raise InputError(f"{shard}: {masks} doesn't hold mask(s) {some(unknown.tolist())}; plan again")
    return table.merge(known, on="mask_id", how="left")


def filter_file(job: tuple[str, MaskFilter], label_space: LabelSpace) -> tuple[np.ndarray, str]:
    """Filter one image's mask.

    Args: job: path of the mask (square, raw labels), and what filters it.
    Returns: (2, 256) int64, each raw label's pixels in the mask, and how many of them the rule changed (ignored label:
        0); and 12 hex digits of the SHA-256 of the filtered labels.
    """
    mask, filtered = read_mask(job[0]), read_filtered(*job, label_space)
    changed = mask[filtered != mask]
    pixels = np.stack([np.bincount(mask.ravel(), minlength=256), np.bincount(changed, minlength=256)])
    pixels[:, label_space.ignored] = 0
    return pixels, hashlib.sha256(filtered.tobytes()).hexdigest()[:12]


def filter_shard(margins: Path, rule: str, alpha: str, label_space: LabelSpace, processes: int) -> Filtered:
    """Filter the masks of a shard of measure_margins, the table `margins`, on several processes."""
    table = read_table(margins, MARGINS, only=True).assign(filter=rule, alpha=alpha)
    jobs = list(zip(table["mask"], mask_filters(table), strict=True))
    work = partial(filter_file, label_space=label_space)
    pixels, shares, digests = np.zeros((2, 256), np.int64), [], []
    for counted, digest in map_files(work, jobs, processes, "filter masks", "mask"):
        pixels += counted
        shares.append(counted[1].sum() / max(counted[0].sum(), 1))
        digests.append(digest)
    return table.assign(filtered=shares, digest=digests)[SET], pixels


def unfiltered_shard(images: Path, masks: Path) -> Filtered:
    """The square masks (table of resize_masks) of the images of a shard of synthesize, as they are."""
    known, counts = read_masks(masks)
    known["mask_sha256"] = read_table(masks, ["mask_sha256"], only=True).mask_sha256
    table = _with_masks(images, masks, known)
    number = table.mask_id.value_counts().reindex(known.mask_id, fill_value=0).to_numpy()
    pixels = np.zeros((2, 256), np.int64)
    np.add.at(pixels[0], counts.label, counts.pixels * number[counts.row])
    stamps = [stamp(*pair) for pair in zip(table.sha256, table.mask_sha256, strict=True)]
    unfiltered = {"margin": "", "stamp": stamps, "filter": "none", "alpha": "inf", "filtered": 0, "digest": ""}
    return table.assign(**unfiltered)[SET], pixels


def in_plan_order(plan: Path, shards: Sequence[Path], columns: Sequence[str] = SET) -> pd.DataFrame:
    """Join the shards of a plan, tables with `columns`, to one table in the plan's order.

    Raises: InputError unless the shards hold each row of the plan exactly once and no other; for a plan with a repeated
        row.
    """
    planned = read_plan(plan)
    rows = pd.concat([read_table(shard, list(columns), only=True) for shard in shards])[list(columns)]
    rows = rows.astype({"seed": planned.seed.dtype})  # shards without rows have no type
    repeated = rows[rows.duplicated(KEY)].drop_duplicates(KEY)
    if len(repeated):
        raise InputError(f"the shards of {plan} hold {_names(repeated)} more than once; make the shards again")
    joined = planned.merge(rows, on=KEY, how="outer", indicator="found")
    for found, problem in (("left_only", "lack"), ("right_only", "hold, against the plan,")):
        misfits = joined[joined.found == found]
        if len(misfits):
            names = _names(misfits)
            raise InputError(f"the shards of {plan} {problem} {names}; give all its shards, or make them again")
    return planned.merge(rows, on=KEY)[list(columns)]


def _names(rows: pd.DataFrame) -> str:
    return some([f"mask {row.mask_id} seed {row.seed}" for row in rows.itertuples()])


def filtered_shares(shards: Sequence[Path], label_space: LabelSpace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of each class's pixels that is filtered in a synthetic set, and in each shard.

    Args: shards: tables of label, pixels, filtered (filter_masks).
    Returns: label, name, pixels, filtered, share (0 to 1; NaN for a class without pixels); and the same for each shard,
        with its number from 1 in the column `shard`.
    Raises: InputError for a table with other labels than the data set's, e.g. one that was cut off.
    """
    read = [read_table(shard, ["label", "pixels", "filtered"]) for shard in shards]
    for shard, part in zip(shards, read, strict=True):
        if tuple(part.label) != label_space.ids:
            raise InputError(f"{shard}: its labels aren't those of the data set; delete it and run again")
    parts = pd.concat([part.assign(shard=number) for number, part in enumerate(read, start=1)])
    parts["name"] = parts.label.map(dict(zip(label_space.ids, label_space.names, strict=True)))
    pixels = parts.groupby("label")[["pixels", "filtered"]].sum().reindex(label_space.ids, fill_value=0)
    whole = pd.DataFrame({"label": label_space.ids, "name": label_space.names}).join(pixels, on="label")
    columns = ["label", "name", "pixels", "filtered", "share"]
    whole, parts = (table.assign(share=table.filtered / table.pixels) for table in (whole, parts))
    return whole[columns], parts[["shard", *columns]]


def filter_warnings(shares: pd.DataFrame) -> list[str]:
    """What is doubtful in what a filter takes, a sentence each; [] if nothing is.

    Args: shares: name or label, pixels, filtered [pixels] of each class.
    """
    found, total = [], shares.filtered.sum() / max(shares.pixels.sum(), 1)
    if total > MOST:
        found.append(
            f"the filter takes {total:.0%} of the pixels, so little is left to train on; raise alpha, or look whether "
            "generator and scorer fit the data set"
        )
    names = shares.get("name", shares.label)
    share = shares.filtered / shares.pixels.clip(lower=1)
    classes = [f"{name} ({part:.0%})" for name, part in zip(names, share, strict=True) if part > MOST_OF_CLASS]
    if classes and total <= MOST:
        found.append(f"the filter takes most pixels of {len(classes)} class(es): {some(classes)}")
    return found
