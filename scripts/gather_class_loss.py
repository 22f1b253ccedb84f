"""Class-wise mean loss on the real training images from all shards: label, name, loss_sum, pixels, class_loss.

Losses in nats; class_loss = loss_sum / (pixels + 1e-5), 0 for a class without pixels. However it was cut into shards,
the table is the same.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--index", type=Path, required=True, help="table of real training pairs: mask_id")
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="tables of class_loss, 1-of-n to n-of-n")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--class-loss", type=Path, required=True, help="output: class_loss.tsv")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Add up and write."""
    from freemask import tables
    from freemask.data.label_space import LabelSpace
    from freemask.selection import class_loss

    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    table = class_loss.gather_sums(arguments.index, arguments.shards, labels)
    tables.write_table(arguments.class_loss, table)
    mean = table.loss_sum.sum() / max(table.pixels.sum(), 1)
    cli.tell(f"{arguments.class_loss}: {table.pixels.sum():,} pixels, {mean:.4g} nats on average")


if __name__ == "__main__":
    cli.run(main, options().parse_args())
