"""Plot training loss and learning rate over iterations, from the logs that mmengine leaves."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--work", type=Path, nargs="*", required=True, help="mmengine work directories; may be none")
    parser.add_argument("--names", nargs="*", required=True, help="what to call each training")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask import figures, tables
    from freemask.errors import InputError

    if len(arguments.names) != len(arguments.work):
        raise InputError(f"{len(arguments.names)} --names for {len(arguments.work)} --work; want as many")
    curves = {name: tables.read_scalars(work) for name, work in zip(arguments.names, arguments.work, strict=True)}
    figure = (
        figures.plot_training(curves) if curves else figures.sentence("No training was run: every row is imported.")
    )
    figures.save(figure, arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
