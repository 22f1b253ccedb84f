"""Resize a data set's masks to squares, by nearest neighbour, in raw labels, and count their labels [pixels].

Makes one PNG per mask and a table: mask_id, mask (path), counts ("label:pixels ...", ascending, ignored left out),
mask_sha256.
A label outside the class table is an error. A PNG that holds the right bytes already isn't written again.
"""

import argparse
from functools import partial
from pathlib import Path

from freemask import cli

COLUMNS = ["mask_id", "mask"]


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--index", type=Path, required=True, help="table of the training split (index_dataset)")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--mask-size", type=int, required=True, help="side of the square masks [pixels]")
    parser.add_argument("--masks-dir", type=Path, required=True, help="output: folder of <mask_id>.png")
    parser.add_argument("--masks", type=Path, required=True, help="output: table of mask_id, mask, counts, mask_sha256")
    parser.add_argument("--threads", type=int, default=1, help="processes (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Resize all, list every offender, write the table."""
    from freemask import tables
    from freemask.data import masks
    from freemask.data.label_space import LabelSpace
    from freemask.errors import InputError
    from freemask.parallel import map_files

    if arguments.mask_size < 1:
        raise InputError(f"--mask-size {arguments.mask_size}: want 1 or more pixels")
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    total = tables.count_rows(arguments.index)
    work = partial(masks.resize_file, space=space, side=arguments.mask_size)
    jobs = ((mask, target(arguments, mask_id)) for mask_id, mask in tables.stream_table(arguments.index, COLUMNS))
    made = map_files(work, jobs, arguments.threads, "resize masks", "mask", total)
    tables.write_rows(arguments.masks, [*COLUMNS, "counts", "mask_sha256"], usable(made, arguments, total))


def target(arguments: argparse.Namespace, mask_id: str) -> str:
    """Where a mask's square is kept."""
    return str(arguments.masks_dir / f"{mask_id}.png")


def usable(made, arguments: argparse.Namespace, total: int):
    """Yield the table's rows; InputError, once all are resized, where some can't be used."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.parallel import LISTED

    wrong, shown = 0, []
    ids = tables.stream_table(arguments.index, ["mask_id"])
    for (mask_id,), (counts, digest, error) in zip(ids, made, strict=True):
        if error:
            wrong += 1
            shown = [*shown, error][:LISTED]
        yield mask_id, target(arguments, mask_id), counts, digest
    if wrong:
        raise InputError("\n  ".join([f"{wrong} of {total} masks can't be used:", *shown]))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
