"""Tabulate what each experiment's trainings cost: wall hours and GPU hours, over all segments of interrupted ones."""

import argparse
from pathlib import Path

from freemask import cli, files, tables


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--experiments", type=Path, required=True, help="config/experiments.tsv")
    parser.add_argument("--dataset", required=True, help="id of the data set: its rows are taken")
    parser.add_argument("--training", type=Path, required=True, help="folder of <experiment>/seed-<s>/work/time/*.json")
    parser.add_argument("--cost", type=Path, required=True, help="output: the table, TSV")
    parser.add_argument("--html", type=Path, required=True, help="output: the table, HTML")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Collect, sum up, write."""
    from freemask.reporting import cost
    from freemask.segmentation.experiments import read_experiments
    from freemask.segmentation.outputs import read_segments

    experiments = read_experiments(arguments.experiments, arguments.dataset)
    segments = {
        row.experiment: [
            read_segments(arguments.training / row.experiment / f"seed-{seed}" / "work") for seed in row.train_seeds
        ]
        for row in experiments.itertuples()
    }
    costs = cost.summarize(experiments, segments)
    tables.write_table(arguments.cost, costs)
    files.write_atomic(arguments.html, cost.page(costs, f"{arguments.dataset}: cost of the trainings").encode())


if __name__ == "__main__":
    cli.run(main, options().parse_args())
