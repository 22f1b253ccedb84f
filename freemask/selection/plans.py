"""Plans: the images to synthesize, one row per mask_id and seed. See docs/selection.md.

The n images of a mask have the first n seeds of one fixed sequence: a plan with a larger n_max holds the images of the
smaller plan.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from freemask.errors import InputError
from freemask.tables import read_table

LONGEST_ID = 255  # bytes; a mask_id is part of a file's name, which can't be longer


def read_ranked(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read hardness.tsv.

    Returns: N mask ids, and their ranks (N,) int64, each of 1..N once.
    Raises: InputError for other ranks, or an id that can't be a file's name.
    """
    table = read_table(path, ["mask_id", "rank"], only=True)
    ids = table.mask_id.fillna("").tolist()
    if not all(1 <= len(mask_id.encode()) <= LONGEST_ID for mask_id in ids):
        raise InputError(f"{path}: a mask_id is empty or longer than {LONGEST_ID} bytes; make the table again")
    if any("\0" in mask_id for mask_id in ids):
        raise InputError(f"{path}: a mask_id holds a zero byte; make the table again")
    rank = table["rank"].to_numpy()
    if not np.array_equal(np.sort(rank), np.arange(1, len(ids) + 1)):
        raise InputError(f"{path}: ranks aren't 1 to {len(ids)}; make the table again")
    return ids, rank.astype(np.int64)


def rows(mask_ids: list[str], counts: np.ndarray, first_seed: int) -> pd.DataFrame:
    """The plan: counts[i] rows for mask i, with the seeds first_seed, first_seed + 1, ...

    Returns: mask_id, seed.
    """
    plan = pd.DataFrame({"mask_id": np.repeat(np.arange(len(mask_ids)), counts)})
    plan["seed"] = first_seed + plan.groupby("mask_id").cumcount()
    return plan.assign(mask_id=np.asarray(mask_ids, object)[plan.mask_id])


def read_plan(path: str | Path) -> pd.DataFrame:
    """Read a plan: mask_id, seed.

    Raises: InputError for a repeated row.
    """
    plan = read_table(path, ["mask_id", "seed"])[["mask_id", "seed"]]
    repeated = plan[plan.duplicated()]
    if len(repeated):
        row = repeated.iloc[0]
        raise InputError(f"{path}: mask {row.mask_id}, seed {row.seed} stands there twice; make the plan again")
    return plan
