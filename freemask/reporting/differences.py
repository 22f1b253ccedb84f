"""The table of differences between arms that a run of evidence writes, and another run may show beside its own."""

from pathlib import Path

import pandas as pd

from freemask.tables import read_table

WHOLE, RARE = ("difference", "low", "high"), ("rare", "rare_low", "rare_high")  # columns: a number and its interval


def read_differences(path: Path) -> pd.DataFrame:
    """Read what another run needs of the table: of, over, seeds, the columns of WHOLE and RARE, result.

    Raises: InputError for a missing file or column.
    """
    return read_table(path, ["of", "over", "seeds", *WHOLE, *RARE, "result"])
