"""The experiments table's optional columns, and which of its rows belong together: main results, ablations."""

from pathlib import Path

import pandas as pd

from freemask.errors import InputError
from freemask.tables import read_table

OPTIONAL_COLUMNS = {"balance": "exact", "study": "main"}  # and what an empty cell, or a table without them, means


def with_optional_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The experiments table with the columns that may be left out, filled with what that means."""
    columns = {name: table.get(name, pd.Series(index=table.index, dtype=object)) for name in OPTIONAL_COLUMNS}
    return table.assign(**{name: column.fillna(OPTIONAL_COLUMNS[name]) for name, column in columns.items()})


def of_study(table: pd.DataFrame, study: str) -> pd.DataFrame:
    """Rows of one study: main leaves ablations out; ablation takes them and what they are compared with.

    That is the main rows of the same models.
    """
    compared = (table.study == "main") & table.model.isin(table.model[table.study == study])
    return table[compared | (table.study == study)]


def read_experiments(path: str | Path, dataset: str, study: str = "main") -> pd.DataFrame:
    """Read one data set's rows of experiments.tsv: schedule as float, synthetic_set "" for none, train_seeds a list.

    Args: study: main leaves ablations out, ablation takes them (see freemask.studies.of_study).
    Raises: InputError where there are none, or a row's seeds aren't whole numbers joined by commas.
    """
    columns = ["experiment", "dataset", "model", "regime", "schedule", "synthetic_set", "train_seeds"]
    table = with_optional_columns(read_table(path, columns))
    table = of_study(table[table.dataset == dataset], study).reset_index(drop=True)
    if not len(table):
        raise InputError(f"{path}: no experiment on data set {dataset!r} in study {study}; add a row")
    table["synthetic_set"] = table.synthetic_set.fillna("").astype(str)
    table["schedule"] = table.schedule.astype(float)
    try:
        table["train_seeds"] = [[int(seed) for seed in str(seeds).split(",")] for seeds in table.train_seeds]
    except ValueError:
        raise InputError(f"{path}: train_seeds want whole numbers joined by commas, e.g. 0,1") from None
    return table
