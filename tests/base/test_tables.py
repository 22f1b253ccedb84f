"""Tables of images and masks hold their number of rows: readers refuse one that was cut at the end of a line."""

import pandas as pd
import pytest

from freemask.errors import InputError
from freemask.tables import read_table, write_table

TABLE = pd.DataFrame({"mask_id": ["a", "b", "c"], "seed": [42, 43, 42]})


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_table_cut_at_the_end_of_a_line_is_refused(tmp_path, lines, only):
    """Down to its header: that of a table without rows is another one."""
    path = tmp_path / "plan.tsv"
    write_table(path, TABLE, counted=True)
    assert read_table(path, ["mask_id", "seed"], only).equals(TABLE)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(InputError, match=rf"plan\.tsv: {lines - 1} rows, but .* cut off or edited\. Delete it"):
        read_table(path, ["mask_id"], only)


def test_a_table_with_a_line_too_many_is_refused(tmp_path):
    write_table(tmp_path / "plan.tsv", TABLE, counted=True)
    with open(tmp_path / "plan.tsv", "a") as file:
        file.write("d\t42\t3\n")
    with pytest.raises(InputError, match="4 rows, but it was written with 3 rows"):
        read_table(tmp_path / "plan.tsv", ["mask_id"])


def test_tables_without_rows_or_made_by_hand_are_read(tmp_path):
    write_table(tmp_path / "empty.tsv", TABLE[:0], counted=True)
    assert len(read_table(tmp_path / "empty.tsv", ["mask_id", "seed"])) == 0
    (tmp_path / "own.tsv").write_text("mask_id\tseed\na\t42\n")
    assert read_table(tmp_path / "own.tsv", ["mask_id"]).columns.tolist() == ["mask_id", "seed"]
