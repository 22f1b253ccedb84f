"""Plot training loss and learning rate over iterations, from the logs that mmengine leaves."""

import argparse
from pathlib import Path

from freemask import cli

NONE = "No training was run: every row is imported."


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--work", type=Path, nargs="*", required=True, help="mmengine work directories; may be none")
    parser.add_argument("--names", nargs="*", required=True, help="what to call each training")
    parser.add_argument("--models", nargs="*", required=True, help="the model of each training: panels are by model")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask.errors import InputError
    from freemask.reporting import figures
    from freemask.segmentation.outputs import read_scalars

    if not len(arguments.names) == len(arguments.models) == len(arguments.work):
        given = f"{len(arguments.names)} --names and {len(arguments.models)} --models"
        raise InputError(f"{given} for {len(arguments.work)} --work; want as many")
    curves: dict[str, dict] = {}
    for model, name, work in zip(arguments.models, arguments.names, arguments.work, strict=True):
        curves.setdefault(model, {})[name] = read_scalars(work)
    figure = figures.plot_training(curves) if curves else figures.sentence(NONE)
    figures.save(figure, arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
