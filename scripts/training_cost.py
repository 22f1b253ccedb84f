"""Tabulate the cost of trainings; see `training_cost`."""

from pathlib import Path

from freemask import cli


def training_cost(
    *, experiments: Path, dataset: str, training: Path, reported: Path | None = None, cost: Path, html: Path
) -> None:
    """Tabulate hours and GPU hours of each experiment's trainings, over all segments of interrupted ones.

    Args:
        experiments: Experiments table.
        dataset: Id of the data set whose rows are taken.
        training: Folder of <experiment>/seed-<s>/work/time/*.json.
        reported: YAML file of the authors' numbers, shown beside ours.
        cost: Output, TSV.
        html: Output, the same as HTML.
    """
    from freemask.files import write_atomic
    from freemask.reporting.cost import add_reported, page, summarize
    from freemask.reporting.reported import read_all_reported
    from freemask.segmentation.experiments import read_experiments
    from freemask.segmentation.outputs import read_segments
    from freemask.tables import write_table

    rows = read_experiments(experiments, dataset)
    segments = {
        row.experiment: [read_segments(training / row.experiment / f"seed-{seed}" / "work") for seed in row.train_seeds]
        for row in rows.itertuples()
    }
    costs = summarize(rows, segments)
    if reported:
        costs = add_reported(costs, read_all_reported(reported), dataset)
    write_table(cost, costs)
    write_atomic(html, page(costs, f"{dataset}: cost of the trainings").encode())


if __name__ == "__main__":
    cli.run(training_cost)
