"""Cost of trainings: wall time and GPU hours, from the recorded time of each segment.

A segment goes from a start of the training to its end or to a kill. Its file time/*.json in the work folder holds
inputs (digest of what the training is made from), started (UTC), seconds, gpus (0 on a CPU) and device.
"""

import math
from html import escape
from typing import Any

import pandas as pd

from freemask.reporting import layout
from freemask.reporting.reported import reported_logs

NOTE = (
    "Time that trainings held their GPUs, summed over train seeds, validations during training included; evaluation,"
    " scoring and synthesis are not. Segments: starts of a training, one if nothing interrupted it. Every segment's"
    " time counts; a killed one may lack its last 20 seconds and its last iteration. GPU hours: hours times GPUs, 0 on"
    " a CPU. A dash: no times were recorded."
)
NOTE_REPORTED = " Authors: one joint training, by their logs, on V100s."
COLUMNS = ["experiment", "model", "regime", "schedule", "trainings", "segments", "device", "gpus", "hours", "gpu_hours"]


def summarize(experiments: pd.DataFrame, segments: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Cost of every experiment: COLUMNS, hours [h] and gpu_hours [h] summed over its trainings.

    Args:
        experiments: experiment, model, regime, schedule.
        segments: Of each experiment, the segments of each train seed.
    Returns: One row per experiment; hours and gpu_hours are NaN if a training left no times.
    """
    rows = []
    for row in experiments[COLUMNS[:4]].to_dict("records"):
        each = segments[row["experiment"]]
        joined = pd.concat(each, ignore_index=True)
        row |= {"trainings": len(each), "segments": len(joined)}
        row |= {"device": _joined(joined.device), "gpus": _joined(joined.gpus)}
        known = all(map(len, each))
        row["hours"] = joined.seconds.sum() / 3600 if known else math.nan
        row["gpu_hours"] = (joined.seconds * joined.gpus).sum() / 3600 if known else math.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def add_reported(costs: pd.DataFrame, reported: dict[str, Any], dataset: str) -> pd.DataFrame:
    """Add the authors' cost of one joint training: reported_hours, reported_gpu_hours; no columns if they give none.

    Args:
        costs: Made by `summarize`.
        reported: The authors' numbers: logs (model, hours, perhaps dataset and gpus) and cost.training_gpus.
        dataset: Id of the data set.
    """
    logs = reported_logs(reported, dataset)
    if not logs:
        return costs
    models = costs.model.where((costs.regime == "joint") & (costs.schedule == 2))
    theirs = {key: models.map({name: row[key] for name, row in logs.items()}) for key in ("hours", "gpu_hours")}
    return costs.assign(**{f"reported_{key}": values for key, values in theirs.items()})


def _joined(values: pd.Series) -> str:
    """Different values in the order of their appearance, e.g. 8 or 8, 4."""
    return ", ".join(dict.fromkeys(map(str, values)))


def page(costs: pd.DataFrame, title: str) -> str:
    """The cost table with its sums as one HTML page that needs no other file."""
    table = pd.DataFrame(
        {
            "Experiment": costs.experiment,
            "Model": costs.model,
            "Images": costs.regime.map(layout.images),
            "Schedule": costs.schedule.map("{:g}x".format),
            "Trainings": costs.trainings.map(str),
            "Segments": costs.segments.map(str),
            "Device": costs.device.replace("", "–"),
            "GPUs": costs.gpus.replace("", "–"),
            "Hours": costs.hours.map(hours),
            "GPU hours": costs.gpu_hours.map(hours),
        }
    )
    sum_of_hours, sum_of_gpu_hours = (f"<b>{hours(costs[key].sum())}</b>" for key in ("hours", "gpu_hours"))
    sums = [str(costs[key].sum()) for key in ("trainings", "segments")]
    table.loc[len(table)] = ["<b>all</b>", "", "", "", *sums, "", "", sum_of_hours, sum_of_gpu_hours]
    note = NOTE
    if "reported_hours" in costs:
        table["Authors' hours"] = [*costs.reported_hours.map(hours), ""]
        table["Authors' GPU hours"] = [*costs.reported_gpu_hours.map(hours), ""]
        note += NOTE_REPORTED
    return layout.page(title, layout.html_table(table), f"<p>{escape(note)}</p>")


def hours(value: float) -> str:
    """'12.3', with more digits for short ones; a dash for NaN."""
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.3f}"
