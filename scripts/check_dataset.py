"""Check every image and mask of a split; see `check_dataset`."""

from pathlib import Path

from freemask import cli

SHOWN = 10  # classes without a pixel that are named


def check_dataset(
    *,
    index: Path,
    label_space: Path,
    frequencies: Path,
    offenders: Path,
    cache: Path,
    threads: cli.Positive = 1,
) -> None:
    """Open every image and mask of a split once; write a table of class frequencies: label, name, pixels, images.

    Files that can't be used are listed in one table (path, what, remedy), and the script ends with code 1: empty,
    truncated or damaged files, masks that aren't 8-bit labels, labels outside the class table, an image and a mask of
    different sizes, masks without a labelled pixel. Files that haven't changed since the last check aren't read again.

    Args:
        index: Table of the split from index_dataset.
        label_space: The data set's label space (JSON).
        frequencies: Output: table of label, name, pixels, images.
        offenders: Output, only if there are offenders: table of path, what, remedy.
        cache: File that remembers what was found in each file.
        threads: Number of processes.
    """
    import pandas as pd

    from freemask.data.check import check_split, refuse
    from freemask.data.label_space import LabelSpace
    from freemask.tables import read_table, write_table

    offenders.unlink(missing_ok=True)
    space = LabelSpace.read(label_space)
    table = read_table(index, ["image", "mask"], only=True)
    pairs = list(zip(table["image"], table["mask"], strict=True))
    report = check_split(pairs, space, cache, threads, f"check {index.stem}")
    if report.offenders:
        refuse(offenders, report)
    ids = list(space.ids)
    columns = {"label": ids, "name": space.names, "pixels": report.pixels[ids], "images": report.images[ids]}
    write_table(frequencies, pd.DataFrame(columns))
    unseen = [name for name, images in zip(space.names, report.images[ids], strict=True) if not images]
    note = f"; no pixel of {len(unseen)} class(es): {', '.join(unseen[:SHOWN])}" if unseen else ""
    cli.tell(f"{index}: {report.pairs} pairs are good, {report.read} files read{note}")


if __name__ == "__main__":
    cli.run(check_dataset)
