"""Print what a run costs before it is paid; see `cost`."""

from pathlib import Path

from freemask import cli


def cost(
    *,
    run: cli.Json,
    reported: Path,
    paper: Path,
    cards: list[Path] | None = None,
    card: str = "",
    results: Path = Path("results"),
    logs: Path = Path("logs"),
) -> None:
    """Print jobs, GPU hours, wall time, disk space and files of each stage, and what the project's measures save.

    Hours come from the run's own finished jobs, else from a file of the same card, else from the authors' figures.

    Args:
        run: What is configured, JSON: gpus, training_gpus, shards, views (of an image in an evaluation),
            seconds_per_image, rules (stage, files, gpus), generators, models, datasets (pairs, jobs, plans, trainings).
        reported: The authors' figures, config/reported.yaml.
        paper: More of their card, resources/costs/v100.yaml.
        cards: Files that benchmarks/gpu.sh wrote.
        card: Type of the run's GPUs, e.g. h200 (default: as the preflight found it, else the first of cards if it was
            measured in this folder, else the authors').
        results: Folder of results.
        logs: Folder of logs.
    """
    from freemask.reporting.budget import report
    from freemask.reporting.gpu_seconds import Done, read_sources

    chosen, sources = read_sources(run, reported, paper, cards or [], card, results)
    cli.tell(report(run, chosen, sources, Done(results, logs)))


if __name__ == "__main__":
    cli.run(cost)
