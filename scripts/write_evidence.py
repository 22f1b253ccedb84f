"""Answer the questions of a configuration; see `write_evidence`."""

from pathlib import Path

from freemask import cli


def write_evidence(
    *,
    facts: cli.Json,
    experiments: Path,
    dataset: str,
    training: Path,
    masks: Path,
    label_space: Path,
    kinds: list[Path],
    sheets: list[Path] | None = None,
    quality: Path,
    another_world: Path | None = None,
    benchmarks: Path,
    differences: Path,
    page: Path,
) -> None:
    """Answer every question by differences between trainings, as a table, a figure each, and a page in Markdown.

    Args:
        facts: Questions, advice, title, numbers of images, what classes are compared, how to repeat it (JSON).
        experiments: Experiments table.
        dataset: Id of the data set.
        training: Folder of <experiment>/seed-<s>/.
        masks: Table of mask_id, mask, counts (resize_masks).
        label_space: Label space of the data set.
        kinds: Tables of filter_kinds, <set>.tsv.
        sheets: Pictures of filter_kinds that the page shows, <set>.png.
        quality: Table of generator_quality.
        another_world: Differences that another run measured, shown beside.
        benchmarks: Folder of the jobs' benchmark files, for the hours.
        differences: Output: table (freemask.reporting.evidence.differences).
        page: Output: Markdown. Figures, <question>.png and by-frequency.png, lie beside it.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import read_masks
    from freemask.files import write_atomic
    from freemask.reporting import evidence, figures
    from freemask.reporting.differences import read_differences
    from freemask.reporting.results import rare_labels
    from freemask.segmentation.experiments import read_experiments
    from freemask.selection.estimates import job_seconds
    from freemask.tables import read_table, write_table

    space, rows = LabelSpace.read(label_space), read_experiments(experiments, dataset)
    arms = evidence.read_arms(training, rows)
    pixels = read_masks(masks)[1].sum_by_label(space.ids)
    classes = pd.DataFrame({"label": space.ids, "name": space.names, "pixels": list(pixels.values())})
    rare = classes.label.isin(rare_labels(pixels)).to_numpy()
    found = evidence.differences(facts["questions"], arms, rare)
    write_table(differences, found)
    shown = evidence.beside(found, read_differences(another_world)) if another_world else found
    for question, own in shown[shown.seeds > 0].groupby("question", sort=False):
        figures.save(evidence.forest(own), [page.with_name(f"{question}.png")])
    of, over = (arms.get(arm) for arm in facts["classes"])
    both = of and over and of.miou.keys() & over.miou.keys()
    gains = evidence.class_gains(of, over, classes) if both else None
    if gains is not None:
        figures.save(evidence.by_frequency(gains), [page.with_name("by-frequency.png")])
    columns = ["kind", "pixels", "filtered", "share", "of_filtered"]
    text = evidence.render(
        facts,
        shown,
        rows,
        {
            "rare_names": ", ".join(classes.name[rare]),
            "classes": gains,
            "kinds": [(path.stem, read_table(path, columns)) for path in kinds],
            "sheets": sheets or [],
            "quality": read_table(quality, ["generator", "images", "mIoU", "kernel_distance"]),
            "hours": sum(job_seconds(path) or 0 for path in benchmarks.rglob("*.benchmark.tsv")) / 3600,
        },
    )
    write_atomic(page, text.encode())
    for row in found[found.seeds > 0].itertuples():
        cli.tell(
            f"{row.of} over {row.over}: {row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] points, {row.result}"
        )
    cli.tell(f"{page}: {len(facts['questions'])} questions, {(found.seeds == 0).sum()} differences not run")


if __name__ == "__main__":
    cli.run(write_evidence)
