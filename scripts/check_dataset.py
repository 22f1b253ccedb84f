"""Open every image and mask of a split once; make a table of class frequencies: label, name, pixels, images.

Where a file can't be used, all offenders are listed in one table (path, what, remedy) and the script ends with code 1:
empty, truncated or damaged files, masks that aren't 8-bit labels, labels outside the class table, an image and a mask
of different sizes, masks without a labelled pixel. Files that haven't changed since the last check aren't read again.
"""

import argparse
from pathlib import Path

from freemask import cli

SHOWN = 10  # classes without a pixel that are named


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--index", type=Path, required=True, help="table of the split: image, mask (index_dataset)")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--frequencies", type=Path, required=True, help="output: label, name, pixels, images")
    parser.add_argument("--offenders", type=Path, required=True, help="output, only where there are some")
    parser.add_argument("--cache", type=Path, required=True, help="what is known of files that were read before")
    parser.add_argument("--threads", type=int, default=1, help="processes (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Check, then write the frequencies or the offenders."""
    import pandas as pd

    from freemask import tables
    from freemask.data import check
    from freemask.data.label_space import LabelSpace

    arguments.offenders.unlink(missing_ok=True)  # of an earlier check
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    pairs = tables.stream_table(arguments.index, ["image", "mask"])
    total = tables.count_rows(arguments.index)
    description = f"check {arguments.index.stem}"
    checked = check.check_split(pairs, total, space, arguments.cache, arguments.threads, description)
    if checked.offenders:
        check.refuse(arguments.offenders, checked)
    ids = list(space.ids)
    columns = {"label": ids, "name": space.names, "pixels": checked.pixels[ids], "images": checked.images[ids]}
    tables.write_table(arguments.frequencies, pd.DataFrame(columns))
    unseen = [name for name, images in zip(space.names, checked.images[ids], strict=True) if not images]
    note = f"; no pixel of {len(unseen)} class(es): {', '.join(unseen[:SHOWN])}" if unseen else ""
    cli.tell(f"{arguments.index}: {checked.pairs} pairs are good, {checked.read} files read{note}")


if __name__ == "__main__":
    cli.run(main, options().parse_args())
