"""Plans: the images to synthesize, one row per mask_id and seed. See docs/selection.md.

The n images of a mask have the first n seeds of one fixed sequence: a plan with a larger n_max holds the images of the
smaller plan.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from freemask.errors import InputError
from freemask.files import LONGEST_ID
from freemask.tables import read_table


def read_ranked(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read hardness.tsv: N mask ids, and their ranks (N,) int64.

    Raises: InputError unless the ranks are 1 to N, each once, and each id can be the name of a file.
    """
    table = read_table(path, ["mask_id", "rank"], only=True)
    for mask_id in table.mask_id.fillna(""):
        if not 1 <= len(mask_id.encode()) <= LONGEST_ID or "\0" in mask_id:
            raise InputError(f"{path}: mask_id {mask_id!r} can't be the name of a file; make the table again")
    rank = table["rank"].to_numpy()
    if not np.array_equal(np.sort(rank), np.arange(1, len(rank) + 1)):
        raise InputError(f"{path}: ranks aren't 1 to {len(rank)}; make the table again")
    return table.mask_id.tolist(), rank


def rows(mask_ids: list[str], counts: np.ndarray, first_seed: int) -> pd.DataFrame:
    """The plan (mask_id, seed): counts[i] rows for mask i, with the seeds first_seed, first_seed + 1, ..."""
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
