"""Plot how hard the masks are [nats], and how many images each plan gives them."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--hardness", type=Path, required=True, help="table made by mask_hardness")
    parser.add_argument("--plans", type=Path, nargs="+", required=True, help="tables made by plan_synthesis")
    parser.add_argument("--names", nargs="+", required=True, help="what to call each plan")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.reporting import figures
    from freemask.selection.plans import read_plan

    if len(arguments.names) != len(arguments.plans):
        raise InputError(f"{len(arguments.names)} --names for {len(arguments.plans)} --plans; want as many")
    hardness = tables.read_table(arguments.hardness, ["mask_id", "hardness", "rank"])
    plans = {
        name: read_plan(path).groupby("mask_id").size().reindex(hardness.mask_id, fill_value=0)
        for name, path in zip(arguments.names, arguments.plans, strict=True)
    }
    figures.save(figures.plot_hardness(hardness, plans), arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
