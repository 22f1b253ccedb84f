"""Write the page that shows the results of all data sets; see `write_report`."""

from pathlib import Path

from freemask import cli


def write_report(
    *,
    facts: cli.Json,
    experiments: Path,
    results: Path,
    logs: Path,
    reported: Path,
    report: Path,
) -> None:
    """Write the page that shows the results of all data sets: one HTML file that needs no other file and no network.

    Args:
        facts: Of each data set, in the order of the page: title, baseline, control, improved, contact_sheet, top,
            train_seed, pictures, sets, ablations (JSON; see freemask.reporting.recorded.Dataset).
        experiments: Experiments table.
        results: Folder of <dataset>/tables, training, synthetic, ...
        logs: Folder of <dataset>/train/<experiment>/seed-<s>.log, ...: commands, commits and versions are read there.
        reported: YAML file of the authors' numbers.
        report: Output, HTML.
    """
    from freemask.files import write_atomic
    from freemask.reporting import headline
    from freemask.reporting.page import render
    from freemask.reporting.recorded import read_dataset
    from freemask.reporting.reported import read_all_reported

    datasets = [read_dataset(name, own, results, logs, experiments) for name, own in facts.items()]
    write_atomic(report, render(datasets, read_all_reported(reported)).encode())
    cli.tell(f"report: {report}\n{headline.text(datasets)}")


if __name__ == "__main__":
    cli.run(write_report)
