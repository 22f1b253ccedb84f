"""Plot the classes that gain most from synthetic images: bars of IoU gains [points], a point per train seed."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--most-improved", type=Path, required=True, help="table made by most_improved")
    parser.add_argument("--top", type=int, default=10, help="how many classes (default: 10)")
    parser.add_argument("--title", default="Most improved classes", help="title of the figure")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.reporting import figures

    if arguments.top < 1:
        raise InputError(f"--top {arguments.top}: want 1 or more classes")
    table = tables.read_table(arguments.most_improved, ["label", "name", "real", "joint", "gain"])
    if table.gain.isna().all():
        raise InputError(f"{arguments.most_improved}: no class has a gain; is the validation set empty?")
    figures.save(figures.plot_most_improved(table, arguments.top, arguments.title), arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
