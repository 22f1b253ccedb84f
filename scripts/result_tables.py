"""Tabulate every evaluated segmentor of a data set; see `result_tables`."""

from pathlib import Path
from typing import Literal

from freemask import cli


def result_tables(
    *,
    experiments: Path,
    dataset: str,
    study: Literal["main", "ablation"] = "main",
    training: Path,
    masks: Path,
    label_space: Path,
    reported: Path | None = None,
    reported_set: str | None = None,
    best: list[str] | None = None,
    test: list[str] | None = None,
    markdown: Path,
    csv: Path,
    latex: Path,
    html: Path,
    per_class: Path,
) -> None:
    """Tabulate every evaluated segmentor of a data set: mIoU, gains, IoU per class [all in percent].

    Args:
        experiments: Experiments table.
        dataset: Id of the data set whose rows are taken.
        study: main leaves ablations out; ablation takes them and the rows they are compared with.
        training: Folder of <experiment>/seed-<s>/metrics.json and per_class_iou.tsv.
        masks: Table made by resize_masks: its counts tell which classes are rare.
        label_space: The data set's label space.
        reported: YAML file of the authors' numbers, shown beside ours.
        reported_set: The synthetic set that corresponds to the authors' (default: any).
        best: Experiments that have <training>/.../best/metrics.json.
        test: Experiments that have <training>/.../test/metrics.json, and best/test/metrics.json if they are in `best`.
        markdown: Output, mIoU table.
        csv: Output, mIoU table with every column, also by train seed.
        latex: Output, mIoU table for booktabs.
        html: Output, mIoU and IoU per class.
        per_class: Output, label, name, and IoU of each experiment, mean over train seeds.
    """
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import read_masks
    from freemask.files import own_id, write_atomic
    from freemask.reporting import class_gains, layout, results
    from freemask.reporting.reported import add_reported, describe_synthetic_only, read_all_reported
    from freemask.segmentation.experiments import read_experiments
    from freemask.tables import write_table

    rows = read_experiments(experiments, dataset, study)
    space = LabelSpace.read(label_space)
    rare = results.rare_labels(read_masks(masks)[1].sum_by_label(space.ids))
    metrics, ious = results.read_results(training, rows, rare, best or [], test or [])
    how = results.describe_evaluations(metrics)
    summary = results.summarize(rows, metrics, results.resample_mious(training, rows))
    remarks = [class_gains.describe_absent(ious)]
    if reported:
        authors = read_all_reported(reported)
        summary = add_reported(summary, authors.get(own_id(dataset), []), reported_set)
        remarks.append(describe_synthetic_only(authors.get("synthetic_only", {}), own_id(dataset)))
    classes = space.named(class_gains.class_means(ious))
    note = layout.note(summary, how, remarks)
    shown = classes.drop(columns="label").rename(columns={"name": "Class"})
    more = ["<h2>IoU of each class [%], mean over train seeds</h2>", layout.html_table(shown)]
    made = layout.formats(layout.cells(summary), layout.TEXT, dataset, note, more=more)
    write_atomic(csv, summary.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode())
    for path, suffix in ((markdown, "md"), (latex, "tex"), (html, "html")):
        write_atomic(path, made[suffix].encode())
    write_table(per_class, classes)
    cli.tell(f"{markdown}: {len(summary)} experiments")


if __name__ == "__main__":
    cli.run(result_tables)
