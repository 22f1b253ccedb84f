"""Rate every mask by the mean class-wise loss [nats] over its labelled pixels.

Makes a table: mask_id, hardness [nats], rank (1 = easiest). From label counts; no mask is read again.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--masks", type=Path, required=True, help="table of mask_id, mask, counts (resize_masks)")
    parser.add_argument(
        "--class-loss", type=Path, required=True, help="table of label, pixels, class_loss (class_loss)"
    )
    parser.add_argument("--hardness", type=Path, required=True, help="output: table of mask_id, hardness, rank")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Rate, refuse masks that can't be rated, write."""
    import pandas as pd

    from freemask import tables
    from freemask.data.masks import read_masks
    from freemask.errors import InputError
    from freemask.parallel import some
    from freemask.selection import hardness
    from freemask.selection.class_loss import read_class_loss

    masks, counts = read_masks(arguments.masks)
    empty = masks.mask_id[masks.counts.isna()]
    if len(empty):
        raise InputError(
            f"{len(empty)} of {len(masks)} masks have no labelled pixel: {some(list(empty))};"
            " they can neither be rated nor teach anything: take them out of the data set"
        )
    class_loss = read_class_loss(arguments.class_loss, needed=counts)
    rated = hardness.mask_hardness(counts, class_loss)
    tables.write_table(
        arguments.hardness,
        pd.DataFrame({"mask_id": masks.mask_id, "hardness": rated, "rank": hardness.ranks(rated)}),
    )
    cli.tell(f"{arguments.hardness}: {len(rated)} masks, {rated.min():.3g} to {rated.max():.3g} nats")


if __name__ == "__main__":
    cli.run(main, options().parse_args())
