"""Plot a confusion matrix: of each true class's pixels, the share that is predicted as each class [%]."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--confusion", type=Path, nargs="+", required=True, help="tables of evaluate, added up")
    parser.add_argument("--title", default="Confusion matrix", help="title of the figure")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask.errors import InputError
    from freemask.reporting import confusion, figures
    from freemask.segmentation.outputs import read_confusion

    names, counts = read_confusion(arguments.confusion[0])
    for path in arguments.confusion[1:]:
        other, more = read_confusion(path)
        if other != names:
            raise InputError(f"{path}: other classes than {arguments.confusion[0]}; evaluate again")
        counts = counts + more
    figures.save(confusion.plot(names, counts, arguments.title), arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
