"""What trainings cost: wall time and GPU hours, from the times that each segment of a training left.

A segment goes from a start of the training to its end or to a kill. Its file time/*.json in the work folder holds
inputs (digest of what the training is made from), started (UTC), seconds, gpus (0 on a CPU) and device.
"""

from html import escape

import pandas as pd

from freemask.reporting.layout import SIMPLE_PAGE, html_table
from freemask.reporting.results import REGIMES

NOTE = (
    "Time that trainings held their GPUs, summed over train seeds, validations during training included; evaluation,"
    " scoring and synthesis are not. Segments: starts of a training, one where nothing interrupted it; every segment's"
    " time counts, up to 20 seconds and an iteration of one that was killed. GPU hours: hours times GPUs, 0 on a CPU."
    " A dash: this training left no times."
)
COLUMNS = ["experiment", "model", "regime", "schedule", "trainings", "segments", "device", "gpus", "hours", "gpu_hours"]


def summarize(experiments: pd.DataFrame, segments: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Cost of every experiment: COLUMNS, hours [h] and gpu_hours [h] summed over its trainings.

    Args: experiments: experiment, model, regime, schedule; segments: of each experiment, those of each train seed.
    Returns: one row per experiment; hours and gpu_hours NaN where a training left no times.
    """
    rows = []
    for experiment in experiments.itertuples():
        trainings = segments[experiment.experiment]
        row = {key: getattr(experiment, key) for key in ("experiment", "model", "regime", "schedule")}
        known = all(len(training) for training in trainings)
        joined = pd.concat(trainings, ignore_index=True)
        row |= {"trainings": len(trainings), "segments": len(joined)}
        row |= {"device": _joined(joined.device), "gpus": _joined(joined.gpus)}
        row["hours"] = joined.seconds.sum() / 3600 if known else float("nan")
        row["gpu_hours"] = (joined.seconds * joined.gpus).sum() / 3600 if known else float("nan")
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _joined(values: pd.Series) -> str:
    """Different values in the order of their appearance, e.g. 8 or 8, 4."""
    return ", ".join(dict.fromkeys(map(str, values)))


def page(costs: pd.DataFrame, title: str) -> str:
    """The cost table with its sums as one HTML page that needs no other file."""
    header = [
        "Experiment",
        "Model",
        "Images",
        "Schedule",
        "Trainings",
        "Segments",
        "Device",
        "GPUs",
        "Hours",
        "GPU hours",
    ]
    rows = []
    for row in costs.itertuples():
        line = [row.experiment, row.model, REGIMES.get(row.regime, row.regime), f"{row.schedule:g}x"]
        line += [str(row.trainings), str(row.segments), row.device or "–", row.gpus or "–"]
        rows.append([*map(escape, line), _hours(row.hours), _hours(row.gpu_hours)])
    total = ["<b>all</b>", "", "", "", str(costs.trainings.sum()), str(costs.segments.sum()), "", ""]
    rows.append([*total, *(f"<b>{_hours(costs[key].sum())}</b>" for key in ("hours", "gpu_hours"))])
    return SIMPLE_PAGE.format(title=escape(title), table=html_table(header, rows), note=escape(NOTE))


def _hours(value: float) -> str:
    """'12.3', with more digits for short ones; a dash where it isn't known."""
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.3f}"
