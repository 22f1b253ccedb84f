"""Rank the classes by what synthetic images gain: IoU [percent] of two trainings, mean over the same train seeds.

Makes a table, largest gain first: label, name, real, joint, gain, gain_seed_<s>, and reported_gain (the authors')
where they report one [points].
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--real", type=Path, nargs="+", required=True, help="per_class_iou.tsv of each seed, real images"
    )
    parser.add_argument("--joint", type=Path, nargs="+", required=True, help="per_class_iou.tsv of each seed, joint")
    parser.add_argument("--train-seeds", type=int, nargs="+", required=True, help="the seeds, in the files' order")
    parser.add_argument("--reported", type=Path, help="config/reported.yaml: the authors' numbers")
    parser.add_argument("--dataset", help="id of the data set, to find the authors' numbers")
    parser.add_argument("--most-improved", type=Path, required=True, help="output: the table")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Read, rank, write."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.reporting import results
    from freemask.reporting.results import read_reported
    from freemask.segmentation.outputs import read_ious

    seeds = arguments.train_seeds
    if not (len(arguments.real) == len(arguments.joint) == len(seeds) == len(set(seeds))):
        raise InputError(f"--train-seeds {seeds}: want one --real and one --joint table for each seed")
    real, joint = (
        {seed: read_ious(path) for seed, path in zip(seeds, paths, strict=True)}
        for paths in (arguments.real, arguments.joint)
    )
    table = results.most_improved(real, joint)
    if arguments.reported:
        reported = read_reported(arguments.reported, f"most_improved_{arguments.dataset}")
        if reported:
            table["reported_gain"] = table.name.map({row["class"]: row["gain"] for row in reported})
    tables.write_table(arguments.most_improved, table)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
