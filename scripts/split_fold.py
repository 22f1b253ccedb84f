"""One fold of the real training images; see `split_fold`."""

from pathlib import Path

from freemask import cli


def split_fold(*, index: Path, fold: str, train: Path, held: Path) -> None:
    """Split the real training pairs into those that a fold's segmentor is trained on and those that it scores.

    Args:
        index: Table of real training pairs.
        fold: Number and count, i-of-k.
        train: Output: all rows but i, i + k, i + 2k, ...
        held: Output: those rows.
    """
    from freemask.selection.folds import split
    from freemask.tables import read_table, write_table

    for path, rows in zip((train, held), split(read_table(index, ["mask_id"]), fold), strict=True):
        write_table(path, rows, counted=True)
        cli.tell(f"{path}: {len(rows)} images")


if __name__ == "__main__":
    cli.run(split_fold)
