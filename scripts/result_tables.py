"""Tabulate every evaluated segmentor of a data set: mIoU, gains, IoU per class [all in percent].

Makes the mIoU table as Markdown, CSV (with a column per train seed) and LaTeX, and a table of IoU per class with one
column per experiment (mean over train seeds). Reads <training>/<experiment>/seed-<s>/{metrics.json,per_class_iou.tsv}.
"""

import argparse
from pathlib import Path

from freemask import cli

HOW = {"checkpoint": "last", "scales": [1.0], "flip": False, "best_mIoU": float("nan")}  # of metrics that don't say


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--experiments", type=Path, required=True, help="config/experiments.tsv")
    parser.add_argument("--dataset", required=True, help="id of the data set: its rows are taken")
    parser.add_argument(
        "--study",
        choices=["main", "ablation"],
        default="main",
        help="main: without ablations (default); ablation: them",
    )
    parser.add_argument("--training", type=Path, required=True, help="folder of <experiment>/seed-<s>/metrics.json")
    parser.add_argument(
        "--masks", type=Path, required=True, help="table of counts (resize_masks): which classes are rare"
    )
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--reported", type=Path, help="config/reported.yaml: the authors' numbers, shown beside ours")
    parser.add_argument("--reported-set", help="the synthetic set that is the authors' (default: any)")
    parser.add_argument("--best", nargs="*", default=[], help="experiments with <training>/.../best/metrics.json")
    parser.add_argument("--markdown", type=Path, required=True, help="output: mIoU table, Markdown")
    parser.add_argument("--csv", type=Path, required=True, help="output: mIoU table, CSV, every column")
    parser.add_argument("--latex", type=Path, required=True, help="output: mIoU table, LaTeX (booktabs)")
    parser.add_argument("--html", type=Path, required=True, help="output: mIoU and IoU per class, HTML")
    parser.add_argument("--per-class", type=Path, required=True, help="output: label, name, IoU of each experiment")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Collect, summarize, write."""
    import numpy as np

    from freemask import files, tables
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import read_masks
    from freemask.reporting import layout, results
    from freemask.reporting.results import read_reported
    from freemask.segmentation.experiments import read_experiments

    experiments = read_experiments(arguments.experiments, arguments.dataset, arguments.study)
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    _, counts = read_masks(arguments.masks)
    pixels = np.bincount(counts.label, weights=counts.pixels, minlength=256)
    rare = results.rare_labels({label: int(pixels[label]) for label in space.ids})
    metrics, ious = collect(arguments.training, experiments, rare, arguments.best)
    how = results.describe_evaluations(metrics)
    summary = results.summarize(experiments, metrics)
    if arguments.reported:
        reported = read_reported(arguments.reported, arguments.dataset)
        summary = results.add_reported(summary, reported, arguments.reported_set)
    text = layout.markdown(summary, arguments.dataset, how)
    csv = summary.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    files.write_atomic(arguments.markdown, text.encode())
    files.write_atomic(arguments.csv, csv.encode())
    files.write_atomic(arguments.latex, layout.latex(summary, arguments.dataset, how).encode())
    per_class = results.class_means(ious)
    tables.write_table(arguments.per_class, per_class)
    files.write_atomic(arguments.html, layout.page(summary, per_class, arguments.dataset, how).encode())
    cli.tell(text)


def collect(training: Path, experiments, rare: list[int], best: list[str]):
    """Metrics of every experiment and train seed (one row each), and their tables of IoU per class.

    best: experiments whose best checkpoint was evaluated as well.
    """
    import pandas as pd

    from freemask import files
    from freemask.errors import InputError
    from freemask.reporting import results
    from freemask.segmentation.outputs import read_ious

    rows, ious = [], {}
    for experiment in experiments.itertuples():
        ious[experiment.experiment] = []
        for seed in experiment.train_seeds:
            folder = training / experiment.experiment / f"seed-{seed}"
            metrics = HOW | files.read_json(folder / "metrics.json")
            missing = [key for key in ("mIoU", "mAcc", "aAcc", "iterations") if key not in metrics]
            if missing:
                raise InputError(f"{folder / 'metrics.json'}: {missing[0]} is missing; evaluate again")
            if experiment.experiment in best:
                metrics["best_mIoU"] = files.read_json(folder / "best/metrics.json")["mIoU"]
            per_class = read_ious(folder / "per_class_iou.tsv")
            ious[experiment.experiment].append(per_class)
            own = {"experiment": experiment.experiment, "train_seed": seed}
            rows.append(own | metrics | {"rare_mIoU": results.rare_miou(per_class, rare)})
    return pd.DataFrame(rows), ious


if __name__ == "__main__":
    cli.run(main, options().parse_args())
