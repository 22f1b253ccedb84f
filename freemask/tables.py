"""Tab-separated tables."""

import csv
import re
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from freemask.errors import InputError
from freemask.files import unread, write_atomic

TEXT = [  # columns read as text
    "mask_id", "name", "word", "filter", "counts", "image", "mask", "margin",
    "experiment", "dataset", "model", "regime", "synthetic_set", "train_seeds",
    "stamp", "digest", "sha256", "image_sha256", "mask_sha256",
]  # fmt: skip
ROWS = "rows"  # column of counted tables: their number of rows, on each row


def write_table(path: str | Path, table: pd.DataFrame, counted: bool = False) -> None:
    """Write a tab-separated table, atomically; floats with 9 significant digits (exact for float32).

    counted: Add the column `rows`, the number of rows, by which a reader notices that the table was cut off at the end
        of a line. For tables that other jobs read. A table without rows gets no such column.
    """
    if counted and len(table):
        table = table.assign(**{ROWS: len(table)})

    def write(file: BinaryIO) -> None:
        table.to_csv(file, mode="wb", sep="\t", index=False, float_format="%.9g", lineterminator="\n")

    write_atomic(path, write)


def read_table(path: str | Path, columns: list[str], only: bool = False) -> pd.DataFrame:
    """Read a tab-separated table; ids, paths and digests stay text. The column `rows` is checked and left out.

    Args: columns: those that it must have; only: read no others, which saves time and memory.
    Raises: InputError with the file, and the column or line that is wrong.
    """
    try:
        # keep_default_na=False: a class may be called "null", a mask "NA".
        table = pd.read_csv(
            path,
            sep="\t",
            encoding="utf-8-sig",  # Excel begins UTF-8 with a mark
            dtype=dict.fromkeys(TEXT, str),
            keep_default_na=False,
            na_values=["nan", ""],
            usecols={*columns, ROWS}.__contains__ if only else None,
        )
        _refuse_short_lines(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; run the rule that makes it, or check the path") from None
    except (PermissionError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(unread(path, error)) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, csv.Error) as error:
        raise InputError(
            f"{path}: not a tab-separated table ({error}); if you wrote it, mend it, otherwise delete it and run again"
        ) from None
    missing = [column for column in columns if column not in table.columns]
    separators = {" ": "spaces", ",": "commas", ";": "semicolons"}
    if missing and len(table.columns) == 1 and {*columns} <= {*re.split(r"[ ,;]+", str(table.columns[0]).strip())}:
        found = next(name for mark, name in separators.items() if mark in str(table.columns[0]))
        raise InputError(f"{path}: columns are separated by {found}, want tabs; replace them, also in the other lines")
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing (found: {', '.join(map(str, table.columns))})")
    if ROWS in table:
        _refuse_other_number(path, table.pop(ROWS))
    return table


def _refuse_other_number(path: str | Path, written: pd.Series) -> None:
    """Raise InputError for a table with another number of rows than it was written with."""
    if not len(written) or (written != len(written)).any():
        number = f"{written.iloc[0]:.0f} rows" if len(written) else "at least one row"
        raise InputError(
            f"{path}: {len(written)} rows, but it was written with {number}: it was cut off or edited. Delete it and"
            f" run again; if you edited it, take out the column {ROWS!r}"
        )


def _refuse_short_lines(path: str | Path) -> None:
    """Raise InputError for a line of too few fields, e.g. of a table that was cut off; pandas fills it with NaN."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        header = next(rows)
        for row in rows:
            if row and len(row) != len(header):
                raise InputError(f"{path}, line {rows.line_num}: {len(row)} fields, want {len(header)}")
