"""Resize a data set's masks to squares, by nearest neighbour, in raw labels, and count their labels [pixels].

Makes one PNG per mask and a table: mask_id, mask (path), counts ("label:pixels ...", ascending, ignored left out),
mask_sha256.
A label outside the class table is an error. A PNG that holds the right bytes already isn't written again.
"""

import argparse
from functools import partial
from pathlib import Path

from freemask import cli


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
    import pandas as pd

    from freemask import files, masks
    from freemask.errors import InputError
    from freemask.labels import LabelSpace
    from freemask.parallel import LISTED, map_files

    if arguments.mask_size < 1:
        raise InputError(f"--mask-size {arguments.mask_size}: want 1 or more pixels")
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    index = files.read_table(arguments.index, ["mask_id", "mask"])
    targets = [str(arguments.masks_dir / f"{mask_id}.png") for mask_id in index.mask_id]
    work = partial(masks.resize_file, space=space, side=arguments.mask_size)
    jobs = list(zip(index["mask"], targets, strict=True))
    made = list(map_files(work, jobs, arguments.threads, "resize masks", "mask"))
    wrong = [error for *_, error in made if error]
    if wrong:
        raise InputError("\n  ".join([f"{len(wrong)} of {len(made)} masks can't be used:", *wrong[:LISTED]]))
    rows = [(target, counts, digest) for target, (counts, digest, _) in zip(targets, made, strict=True)]
    table = pd.DataFrame(rows, columns=["mask", "counts", "mask_sha256"])
    table.insert(0, "mask_id", index.mask_id)
    files.write_table(arguments.masks, table)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
