"""Evidence: questions to the method, each answered by paired differences between trainings, with intervals.

An arm is an experiment. Arms share train seeds, real images and masks, so a difference is taken seed by seed; its
interval covers the chance of validation images and of train seeds (freemask.reporting.intervals).
"""

import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask.cli import commit
from freemask.files import read_json
from freemask.reporting.class_gains import Classes, compare, read_classes
from freemask.reporting.differences import RARE, WHOLE
from freemask.reporting.figures import GREY, INK, name_rows, new_figure
from freemask.reporting.intervals import RESAMPLES, SEEDS, SameImages, gain_interval
from freemask.reporting.pictures import template

ABOVE, BELOW, OPEN, NOT_RUN = "above", "below", "open", "not run"  # a difference's interval against 0
COLORS = {ABOVE: "#029e73", BELOW: "#d55e00", OPEN: GREY}


@dataclass(frozen=True)
class Arm:
    """The trainings of one experiment.

    Attributes:
        miou: mIoU of each train seed [percent].
        classes: IoU of each class and train seed, also of resampled images.
    """

    miou: dict[int, float]
    classes: Classes

    def means(self, chosen: np.ndarray) -> dict[int, float]:
        """Mean IoU [percent] of chosen classes, (K,) bool, by train seed, without absent ones."""
        return {seed: np.nanmean(table.iou.to_numpy()[chosen]) for seed, table in self.classes.ious.items()}

    def resampled(self, chosen: np.ndarray) -> dict[int, np.ndarray | None]:
        """The same of resampled images, (RESAMPLES,); None without areas."""
        found = self.classes.resampled
        return {seed: None if iou is None else np.nanmean(iou[:, chosen], axis=1) for seed, iou in found.items()}


def read_arms(training: Path, experiments: pd.DataFrame) -> dict[str, Arm]:
    """Read the evaluations of every experiment.

    Args:
        training: Folder of <experiment>/seed-<s>/.
        experiments: experiment, train_seeds.
    Raises: InputError for a missing or damaged file, or evaluations of different images.
    """
    images, arms = SameImages(), {}
    for name, seeds in zip(experiments.experiment, experiments.train_seeds, strict=True):
        folders = {seed: training / name / f"seed-{seed}" for seed in seeds}
        miou = {seed: read_json(folder / "metrics.json")["mIoU"] for seed, folder in folders.items()}
        tables = {seed: folder / "per_class_iou.tsv" for seed, folder in folders.items()}
        arms[name] = Arm(miou, read_classes(tables, images))
    return arms


def differences(questions: dict[str, dict[str, Any]], arms: dict[str, Arm], rare: np.ndarray) -> pd.DataFrame:
    """Every difference that a question asks for.

    Args:
        questions: Of each question: differences, lists of an arm, the arm that it is over, and perhaps the paper's
            direction.
        arms: Of each experiment that was run.
        rare: (K,) bool, the rare group.
    Returns: question, of, over, paper, seeds, miou_of, miou_over [percent]; difference, low, high [points of mIoU];
        rare, rare_low, rare_high [points of the rare group's mean IoU]; result (ABOVE, BELOW, OPEN, NOT_RUN).
    """
    rows = []
    for question, asked in questions.items():
        for of, over, *paper in asked["differences"]:
            row = {"question": question, "of": of, "over": over, "paper": "".join(paper)}
            if of in arms and over in arms and arms[of].miou.keys() & arms[over].miou.keys():
                row |= _difference(arms[of], arms[over], rare)
            rows.append({"result": NOT_RUN, "seeds": 0} | row)
    return pd.DataFrame(rows)


def _difference(of: Arm, over: Arm, rare: np.ndarray) -> dict[str, Any]:
    """One row of `differences`."""
    seeds = sorted(of.miou.keys() & over.miou.keys())
    sides = [np.array([arm.miou[seed] for seed in seeds]) for arm in (of, over)]
    rares = [np.array([arm.means(rare)[seed] for seed in seeds]) for arm in (of, over)]
    whole, part = (gain_interval(over.resampled(chosen), of.resampled(chosen)) for chosen in (np.ones_like(rare), rare))
    return {
        "seeds": len(seeds),
        "miou_of": sides[0].mean(),
        "miou_over": sides[1].mean(),
        "difference": np.mean(sides[0] - sides[1]),
        "low": whole.low,
        "high": whole.high,
        "rare": np.mean(rares[0] - rares[1]),
        "rare_low": part.low,
        "rare_high": part.high,
        "result": result_of(whole.low, whole.high),
    }


def beside(found: pd.DataFrame, another_world: pd.DataFrame) -> pd.DataFrame:
    """The same differences measured on another world, and the means of both, beside those of this one.

    Args: found: made by `differences`; another_world: read by `read_differences`.
    Returns: found with the other's difference, low, high, rare, rare_low, rare_high, result, each with the prefix
        other_, and the means with the prefix both_; NaN where the other world has none.
    """
    values = [*WHOLE, *RARE, "result"]
    other = another_world[another_world.seeds > 0].drop_duplicates(["of", "over"]).set_index(["of", "over"])[values]
    table = found.join(other.add_prefix("other_"), on=["of", "over"])
    for names in (WHOLE, RARE):
        both = _mean_of_two(*(table[[prefix + name for name in names]].to_numpy(float) for prefix in ("", "other_")))
        table[[f"both_{name}" for name in names]] = both
    table["both_result"] = [result_of(low, high) for low, high in zip(table.both_low, table.both_high, strict=True)]
    return table


def _mean_of_two(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean of two independent numbers and its interval; arrays (N, 3) of value, low, high.

    Source: Zou and Donner 2008, construction of confidence limits about effect measures: the squares of the limits'
    distances from the values add up.
    """
    middle = (one[:, :1] + other[:, :1]) / 2
    distances = np.hypot(one[:, :1] - one[:, 1:], other[:, :1] - other[:, 1:]) / 2
    return np.hstack([middle, middle + distances * [-1, 1]])


def result_of(low: float, high: float) -> str:
    """Where an interval lies: ABOVE or BELOW 0, or OPEN."""
    return ABOVE if low > 0 else BELOW if high < 0 else OPEN


def class_gains(of: Arm, over: Arm, classes: pd.DataFrame) -> pd.DataFrame:
    """What each class gains, the rarest one first.

    Args:
        of, over: The arms.
        classes: label, name, pixels (of real training masks), in train-id order.
    Returns: these columns, share of the pixels, iou_of, iou_over [percent], gain, low, high [points].
    """
    names = {"before": "iou_over", "after": "iou_of", "gain_low": "low", "gain_high": "high"}
    table = compare(over.classes, of.classes, "gain").rename(columns=names)
    columns = ["iou_of", "iou_over", "gain", "low", "high"]
    table = classes.assign(share=classes.pixels / classes.pixels.sum(), **dict(table[columns].items()))
    return table.sort_values("pixels", kind="stable", ignore_index=True)


def forest(table: pd.DataFrame) -> Figure:
    """One line per difference: mean and interval, of all classes and, fainter, the rare ones; another world's mean."""
    figure, axes = _around_zero(0.62 * len(table))
    for place, row in enumerate(table.itertuples()):
        _line(axes, place, (row.difference, row.low, row.high), width=5, alpha=1.0)
        _line(axes, place + 0.26, (row.rare, row.rare_low, row.rare_high), width=3, alpha=0.45)
        axes.plot(getattr(row, "other_difference", math.nan), place, "D", color=INK, fillstyle="none", markersize=8)
        axes.annotate(
            f"{row.difference:+.1f}", (row.difference, place), (0, 8), textcoords="offset points", ha="center"
        )
    axes.set_yticks(range(len(table)), table.of + " over " + table.over)
    axes.set_ylim(len(table) - 0.3, -0.7)
    other = "; diamond: another world" if "other_difference" in table else ""
    axes.set_xlabel(f"difference of mIoU [points], 95 % interval; fainter: the rare classes' mean IoU{other}")
    axes.grid(visible=False, axis="y")
    return figure


def _around_zero(height: float) -> tuple[Figure, Axes]:
    """A figure for rows of this height [inches] altogether, with a line at 0."""
    figure = new_figure(8.5, 1.3 + height)
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    return figure, axes


def _line(axes: Axes, place: float, values: tuple[float, float, float], width: float, alpha: float) -> None:
    """Draw a mean and its interval."""
    mean, low, high = values
    axes.plot([low, high], [place, place], color=COLORS[result_of(low, high)], alpha=alpha, linewidth=width)
    axes.plot(mean, place, "o", color=INK, alpha=alpha, markersize=width + 1)


def by_frequency(classes: pd.DataFrame) -> Figure:
    """Gain of each class and its interval, the rarest class first; `classes`: made by `class_gains`."""
    figure, axes = _around_zero(0.32 * len(classes))
    for place, row in enumerate(classes.itertuples()):
        _line(axes, place, (row.gain, row.low, row.high), width=5, alpha=1.0)
    name_rows(axes, classes.name + (100 * classes.share).map("  {:.2g} %".format))
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlabel("gain in IoU [points] and its 95 % interval; beside a class: its share of the training pixels")
    return figure


def machine() -> str:
    """This machine's cores, e.g. "2 cores (AMD EPYC 7B13)"."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"^model name\s*: (.*\S)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return f"{os.cpu_count()} cores ({names[0] if names else platform.processor() or platform.machine()})"


def render(facts: dict[str, Any], found: pd.DataFrame, experiments: pd.DataFrame, measured: dict[str, Any]) -> str:
    """The page, as Markdown.

    Args:
        facts: See scripts/write_evidence.py.
        found: Made by `differences`, or by `beside`.
        experiments: The experiments that were run.
        measured: rare_names, classes (`class_gains`, None if they weren't run), kinds (name and table of each set),
            sheets (paths), quality (table), hours.
    """
    seeds = sorted({seed for row in experiments.train_seeds for seed in row})
    run = set(found.question[found.seeds > 0])
    questions = [
        {"comment": "", "paper": "not asked.", "figure": f"{name}.png"}
        | asked
        | {"rows": found[found.question == name].to_dict("records")}
        for name, asked in facts["questions"].items()
        if name in run
    ]
    return template("evidence.md").render(
        facts
        | {
            "questions": questions,
            "advice": [_advice(found, **one) for one in facts["advice"]],
            "not_run": [asked["question"] for name, asked in facts["questions"].items() if name not in run],
            "experiments": len(experiments),
            "trainings": int(experiments.train_seeds.map(len).sum()),
            "seeds": ", ".join(map(str, seeds)),
            "over_seeds": found.seeds.max() >= SEEDS,
            "another": "other_result" in found,
            "resamples": f"{RESAMPLES:,}",
            "rare_names": measured["rare_names"],
            "gains_of": facts["classes"][0],
            "gains_over": facts["classes"][1],
            "classes": [] if measured["classes"] is None else measured["classes"].to_dict("records"),
            "kinds": [
                {"set": name, "kinds": table.to_dict("records"), "all": table.filtered.sum() / table.pixels.sum()}
                for name, table in measured["kinds"]
            ],
            "sheets": [{"set": path.stem, "path": f"kinds/{path.name}"} for path in measured["sheets"]],
            "quality": measured["quality"].to_dict("records"),
            "job_hours": measured["hours"],
            "machine": machine(),
            "commit": commit(),
        }
    )


def _advice(found: pd.DataFrame, text: str, difference: Sequence[str]) -> dict[str, Any]:
    """An advice with its difference, the mean of both worlds if there are two, and whether that supports it."""
    of, over, wanted, *wanted_of_rare = difference
    rows = found[(found.of == of) & (found.over == over) & (found.seeds > 0)]
    if rows.empty:
        return {"text": text, "number": f"{of} over {over}: not run", "supported": True}
    row = rows.iloc[0]
    both = not pd.isna(row.get("both_difference", math.nan))
    prefix = "both_" if both else ""
    number = f"{of} over {over}: {_points(row, prefix)}, " + ("both worlds" if both else "this world")
    results = [row[f"{prefix}result"], result_of(row[f"{prefix}rare_low"], row[f"{prefix}rare_high"])]
    supported = results[: 1 + len(wanted_of_rare)] == [wanted, *wanted_of_rare]
    return {"text": text, "number": number, "supported": supported}


def _points(row: pd.Series, prefix: str) -> str:
    """A difference and that of the rare classes, with intervals; the sign of an end says on which side of 0 it lies."""
    form = "{:+z.1f} [{:+.1f}, {:+.1f}] points, rare {:+z.1f} [{:+.1f}, {:+.1f}]"
    return form.format(*(row[prefix + name] for name in (*WHOLE, *RARE)))
