"""Write the paper's tables as files that a manuscript includes; see `paper`."""

from pathlib import Path

from freemask import cli


def paper(
    *, experiments: Path, results: Path, comparisons: cli.Json, sets: cli.Json, reported: Path, tables: Path
) -> None:
    """Write the paper's tables of what is evaluated so far; nothing is trained or evaluated.

    main (every model and data set), pretraining (against joint training), ablations, classes (the most improved) and
    cost, each as .md, .csv, .tex (booktabs) and .html. mIoU and IoU in percent, gains in points.

    Args:
        experiments: Experiments table.
        results: Folder of <dataset>/training/.
        comparisons: Of each data set, JSON: title, baseline, improved, perhaps control and top.
        sets: Of each synthetic set, JSON: strategy, n_max, filter.
        reported: YAML file of the authors' numbers.
        tables: Output folder.
    """
    from freemask.files import write_atomic
    from freemask.reporting import layout, paper
    from freemask.reporting.reported import read_all_reported

    studies = [
        paper.read_study(experiments, dataset, results / dataset / "training", compared)
        for dataset, compared in comparisons.items()
    ]
    authors = read_all_reported(reported)
    for name, (title, text, table) in paper.make_tables(studies, sets, authors).items():
        note = paper.note(name, table, studies, authors)
        for suffix, content in layout.formats(table, text, title, note, f"tab:freemask-{name}").items():
            write_atomic(tables / f"{name}.{suffix}", content.encode())
        cli.tell(f"{tables / name}.md .csv .tex .html: {len(table)} rows, {paper.unfinished(table)} of them not run")


if __name__ == "__main__":
    cli.run(paper)
