"""Plot the class-wise mean loss on real images [nats], hardest class first, and its histogram."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--class-loss", type=Path, required=True, help="table made by class_loss")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask import tables
    from freemask.reporting import figures

    table = tables.read_table(arguments.class_loss, ["label", "name", "pixels", "class_loss"])
    figures.save(figures.plot_class_loss(table), arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
