"""The experiments table's optional columns, and which of its rows belong together: main results, ablations."""

import pandas as pd

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
