"""The paper's tables for a manuscript, of what is evaluated so far: cells of text, a dash for what can't be.

All mIoU and IoU in percent, gains in points. A cell of an experiment that isn't evaluated says so.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freemask.files import own_id
from freemask.reporting import class_gains, cost, results
from freemask.reporting.intervals import NOT_KEPT, SameImages, gain_interval
from freemask.reporting.layout import interval, note_on_intervals, number, validation_images
from freemask.reporting.reported import reported_logs
from freemask.segmentation.experiments import read_all_experiments
from freemask.segmentation.outputs import read_segments

NOT_RUN, NONE = "not run", "–"
MAIN = {"Real": ("real", 1), "Real 2x": ("real", 2), "Synthetic, then real": ("finetune", 1), "Joint": ("joint", 2)}
PRETRAINING = {
    "Real": ("real", 1), "Synthetic": ("synthetic", 1), "Synthetic, then real": ("finetune", 1), "Joint": ("joint", 2)
}  # fmt: skip
BOLD = " Bold: the best of a row, where the intervals of its gains over the others lie above 0."
NOTES = {
    "main": "mIoU in percent, mean ± sample standard deviation over train seeds; gains of joint training in points over"
    " real images alone, for the normal schedule and for twice that (2x), which is joint training's." + BOLD,
    "pretraining": "mIoU in percent; joint over it: gain in points of joint training over training on synthetic images,"
    " then on real ones. The authors' abstract doesn't name the model of its synthetic images alone." + BOLD,
    "ablations": "Joint training on another synthetic set or with repeated real images; the first row of a model is the"
    " main experiment. mIoU in percent, gains in points.",
    "classes": "IoU in percent, gains in points, by gain over the control (real images for twice the schedule; without"
    " a control: over real images). Images: validation images whose mask shows the class. A dash for an interval: too"
    " few images show the class. Authors: their rank and gain over real images.",
    "cost": "One joint training of each model, mean over train seeds. The authors trained on V100s, {training_gpus}"
    " unless their log says otherwise; an image took {seconds_per_image_v100} s on each of {synthesis_gpus}.",
}
SIDES = ("Real", "Control", "Joint")
AUTHORS_RANK = "authors: rank (gain)"
CLASS_COLUMNS = [
    "Data set", "Rank", "Class", "n", "Images", *SIDES, "over real", "interval, over real", "over control",
    "interval, over control", AUTHORS_RANK,
]  # fmt: skip
COST_COLUMNS = [
    "Data set", "Model", "Device", "GPUs", "Hours", "GPU hours", "authors: hours", "authors: GPU hours",
    "authors: last mIoU", "authors: best mIoU",
]  # fmt: skip


@dataclass(frozen=True)
class Study:
    """One data set's experiments.

    Attributes:
        dataset: Its id.
        training: Folder of <experiment>/seed-<s>/.
        rows: Its rows of the experiments table, ablations as well; index: experiment.
        evaluated: Those with an evaluated train seed, with these seeds only; index: experiment.
        summary: Of the evaluated ones, made by `results.summarize`; index: experiment.
        resampled: Of the evaluated ones, as `results.resample_mious` gives it.
        compared: title of the data set; baseline, improved, perhaps control: experiments whose classes are compared;
            perhaps top: how many classes are shown.
    """

    dataset: str
    training: Path
    rows: pd.DataFrame
    evaluated: pd.DataFrame
    summary: pd.DataFrame
    resampled: dict[str, dict[int, np.ndarray | None]]
    compared: dict[str, Any]

    @property
    def title(self) -> str:
        """The data set's name in tables."""
        return self.compared["title"]

    @property
    def models(self) -> list[str]:
        """Models of the main study, in the order of the experiments table."""
        return self.rows.model[self.rows.study == "main"].unique().tolist()

    def find(self, model: str, regime: str, schedule: int) -> str | None:
        """The main experiment of a model in a regime, on the improved segmentor's synthetic set; None without one."""
        rows = self.rows[(self.rows.study == "main") & (self.rows.model == model) & (self.rows.regime == regime)]
        own = ["", self.rows.synthetic_set[self.compared["improved"]]]
        return next(iter(rows.index[(rows.schedule == schedule) & rows.synthetic_set.isin(own)]), None)

    def miou(self, experiment: str | None) -> str:
        """The cell of an experiment's mIoU; says how many of its train seeds it is of if some aren't evaluated."""
        if experiment is None:
            return NONE
        if experiment not in self.summary.index:
            return NOT_RUN
        row = self.summary.loc[experiment]
        planned = len(self.rows.train_seeds[experiment])
        return number(row.mIoU, row.mIoU_std) + ("" if row.seeds == planned else f" ({row.seeds} of {planned} seeds)")

    def gain(self, before: str | None, after: str | None) -> list[str]:
        """The cells of a gain and of its interval."""
        if before is None or after is None or before == after:
            return [NONE, NONE]
        if not {before, after} <= {*self.summary.index}:
            return [NOT_RUN, NOT_RUN]
        seeds = [column for column in self.summary if column.startswith("mIoU_seed_")]
        gains = (self.summary.loc[after, seeds] - self.summary.loc[before, seeds]).astype(float)
        found = gain_interval(self.resampled[before], self.resampled[after])
        return [number(gains.mean(), gains.std(), sign=True), interval(found.low, found.high, found.over)]

    def seeds(self, names: Iterable[str | None]) -> str:
        """How many train seeds experiments have: '1', or e.g. '3, 1' where they differ."""
        known = self.summary.seeds.reindex([name for name in names if name in self.summary.index])
        return ", ".join(map(str, dict.fromkeys(known))) or NONE


def read_study(experiments: Path, dataset: str, training: Path, compared: dict[str, Any]) -> Study:
    """Read the evaluations of a data set that there are; see `Study`."""
    dataset = own_id(dataset)
    rows = read_all_experiments(experiments)
    rows = rows[rows.dataset == dataset].set_index("experiment", drop=False)
    done = [
        tuple(seed for seed in row.train_seeds if (training / row.experiment / f"seed-{seed}/metrics.json").exists())
        for row in rows.itertuples()
    ]
    evaluated = rows.assign(train_seeds=done)
    evaluated = evaluated[evaluated.train_seeds.map(len) > 0]
    resampled = results.resample_mious(training, evaluated)
    summary = pd.DataFrame({"seeds": [], "images": []})
    if len(evaluated):
        metrics, _ = results.read_results(training, evaluated, rare=[], best=[])
        summary = results.summarize(evaluated, metrics, resampled).set_index("experiment", drop=False)
    return Study(dataset, training, rows, evaluated, summary, resampled, compared)


def make_tables(
    studies: list[Study], sets: dict[str, dict[str, Any]], reported: dict[str, Any]
) -> dict[str, tuple[str, int, pd.DataFrame]]:
    """Title, number of text columns and cells of each table, by the name of its files; without rows: left out.

    Args:
        studies: The data sets.
        sets: Of each synthetic set: strategy, n_max, filter.
        reported: The authors' numbers.
    """
    against = "Pre-training on synthetic images against joint training"
    tables = {
        "main": ("Joint training on real and synthetic images", 2, main_table(studies, reported)),
        "pretraining": (against, 2, pretraining_table(studies, reported)),
        "ablations": ("Ablations", 7, ablation_table(studies, sets)),
        "classes": ("Most improved classes", 3, class_table(studies, reported)),
        "cost": ("Cost of joint training", 3, cost_table(studies, reported)),
    }
    return {name: table for name, table in tables.items() if len(table[2])}


def note(name: str, table: pd.DataFrame, studies: list[Study], reported: dict[str, Any]) -> str:
    """What the columns of a table mean."""
    images = [f"{study.title}: {validation_images(study.summary.images)}" for study in studies]
    shared = f" {'; '.join(images)}. n: train seeds." if name != "cost" else ""
    said = f' "{NOT_RUN}": no evaluation yet.' if unfinished(table) else ""
    text = NOTES[name].format(**reported["cost"]) if name == "cost" and "cost" in reported else NOTES[name]
    return text + shared + note_on_intervals(table) + said


def unfinished(table: pd.DataFrame) -> int:
    """Rows with a cell that wasn't run."""
    return int((table == NOT_RUN).any(axis=1).sum())


def _models(studies: list[Study], kinds: dict[str, tuple[str, int]]) -> Iterator[tuple[Study, str, dict, dict]]:
    """Study, model, its experiments of some kinds by title, and the first cells of its line."""
    for study in studies:
        for model in study.models:
            names = {title: study.find(model, *kind) for title, kind in kinds.items()}
            line = {"Data set": study.title, "Model": model, "n": study.seeds(names.values())}
            yield study, model, names, line | _mious(study, names)


def main_table(studies: list[Study], reported: dict[str, Any]) -> pd.DataFrame:
    """Every model on every data set: the regimes, joint training's gains over both controls, the authors' numbers."""
    lines = []
    for study, model, names, line in _models(studies, MAIN):
        for title, control in {"over real": "Real", "over real 2x": "Real 2x"}.items():
            line[title], line[f"interval, {title}"] = study.gain(names[control], names["Joint"])
        theirs = {row["model"]: (row["real"], row["joint"]) for row in reported.get(study.dataset, [])}
        real, joint = theirs.get(model, (math.nan, math.nan))
        numbers = {"real": f"{real:.1f}", "joint": f"{joint:.1f}", "gain": f"{joint - real:+.1f}"}
        lines.append(line | {f"authors: {key}": text if model in theirs else NONE for key, text in numbers.items()})
    return pd.DataFrame(lines)


def _mious(study: Study, names: dict[str, str | None]) -> dict[str, str]:
    """Cells of mIoU of some experiments of one model; bold where the intervals over all others lie above 0."""
    rows = study.evaluated[study.evaluated.experiment.isin([*filter(None, names.values())])]
    best = results.clearly_best(rows, study.summary.mIoU, study.resampled) if len(rows) else {}
    cells = {title: study.miou(name) for title, name in names.items()}
    return {title: f"**{cell}**" if best.get(names[title]) else cell for title, cell in cells.items()}


def pretraining_table(studies: list[Study], reported: dict[str, Any]) -> pd.DataFrame:
    """Pre-training on synthetic images against joint training; the authors' synthetic images alone in rows below."""
    lines = []
    for study, _, names, line in _models(studies, PRETRAINING):
        line["joint over it"], line["interval"] = study.gain(names["Synthetic, then real"], names["Joint"])
        lines.append(line)
    for study in studies:
        if authors := reported.get("synthetic_only", {}).get(study.dataset):
            line = {"Data set": study.title, "Model": "authors, model not named", "n": NONE}
            lines.append(line | {"Real": f"{authors['real']:.1f}", "Synthetic": f"{authors['synthetic']:.1f}"})
    return pd.DataFrame(lines).fillna(NONE)


def ablation_table(studies: list[Study], sets: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Joint training on other synthetic sets, or with repeated real images, below the main row of the same model.

    Args:
        studies: The data sets.
        sets: Of each synthetic set: strategy, n_max, filter.
    """
    lines = []
    for study in studies:
        for model, rows in study.rows[study.rows.regime == "joint"].groupby("model", sort=False):
            main = study.find(model, "joint", 2)
            if len(rows) < 2 or main is None:
                continue
            for row in rows.loc[[main, *rows.index.drop(main)]].itertuples():
                line = {"Data set": study.title, "Model": model, "Experiment": row.experiment}
                line |= {key: str(sets[row.synthetic_set][key]) for key in ("strategy", "n_max", "filter")}
                line |= {"balance": row.balance, "n": study.seeds([row.experiment]), "mIoU": study.miou(row.experiment)}
                controls = {"over real": ("real", 1), "over real 2x": ("real", 2), "over the main row": ("joint", 2)}
                for title, kind in controls.items():
                    line[title], line[f"interval, {title}"] = study.gain(study.find(model, *kind), row.experiment)
                lines.append(line)
    return pd.DataFrame(lines)


def class_table(studies: list[Study], reported: dict[str, Any]) -> pd.DataFrame:
    """The classes that gain most over the control, and those that the authors list, by rank."""
    lines = []
    for study in studies:
        authors = reported.get(f"most_improved_{study.dataset}", [])
        ranks = {row["class"]: f"{rank} ({row['gain']:+.2f})" for rank, row in enumerate(authors, start=1)}
        table = compare_classes(study)
        if table is None:
            names = list(ranks) or [NONE]
            lines += [{"Data set": study.title, "Class": name, AUTHORS_RANK: ranks.get(name, NONE)} for name in names]
            continue
        shown = table[(table.index <= study.compared.get("top", 10)) | table.name.isin(ranks)]
        for row in shown.itertuples():
            line = {"Data set": study.title, "Rank": str(row.Index), "Class": row.name, "n": str(row.seeds)}
            lines.append(line | _class_cells(row._asdict(), study) | {AUTHORS_RANK: ranks.get(row.name, NONE)})
    return pd.DataFrame(lines, columns=CLASS_COLUMNS, dtype=object).fillna(NOT_RUN)


def compare_classes(study: Study) -> pd.DataFrame | None:
    """The table of `most_improved` over the seeds evaluated so far, by rank from 1; None without any."""
    seeds = {
        role: set(study.evaluated.train_seeds.get(study.compared[role], ()))
        for role in ("baseline", "improved", "control")
        if role in study.compared
    }
    shared = seeds["baseline"] & seeds["improved"]
    if not shared:
        return None
    images = SameImages()

    def read(role: str, chosen: set[int]) -> class_gains.Classes:
        folder = study.training / study.compared[role]
        paths = {seed: folder / f"seed-{seed}/per_class_iou.tsv" for seed in sorted(chosen)}
        return class_gains.read_classes(paths, images)

    control_seeds = seeds.get("control", set()) & seeds["improved"]
    control = read("control", control_seeds) if control_seeds else None
    table = class_gains.most_improved(read("baseline", shared), read("improved", shared), control)
    return table.set_index(pd.RangeIndex(1, len(table) + 1))


def _class_cells(row: dict[str, Any], study: Study) -> dict[str, str]:
    """IoU and gain cells of one class."""
    missing = NOT_RUN if "control" in study.compared else NONE
    cells = {"Images": f"{row['images']:.0f}" if "images" in row else "not kept"}
    cells |= {title: number(row[title.lower()]) if title.lower() in row else missing for title in SIDES}
    for gain, title in {"gain": "over real", "gain_over_control": "over control"}.items():
        cells[title] = number(row[gain], sign=True) if gain in row else missing
        low, high, over = (row.get(f"{gain}_{end}") for end in ("low", "high", "interval"))
        if gain not in row:
            cells[f"interval, {title}"] = missing
        elif over != NOT_KEPT and math.isnan(low):  # too few images show the class
            cells[f"interval, {title}"] = NONE
        else:
            cells[f"interval, {title}"] = interval(low, high, over)
    return cells


def cost_table(studies: list[Study], reported: dict[str, Any]) -> pd.DataFrame:
    """Hours of one joint training of each model, mean over train seeds; the authors' beside them."""
    lines = []
    for study in studies:
        logs = reported_logs(reported, study.dataset)
        for model in study.models:
            name = study.find(model, "joint", 2)
            line = {"Data set": study.title, "Model": model} | _cost_cells(study, name)
            if authors := logs.get(model):
                line["authors: hours"] = f"{authors['hours']:.1f}"
                line["authors: GPU hours"] = f"{authors['gpu_hours']:.0f}"
                line["authors: last mIoU"] = f"{authors['last']:.2f}"
                line["authors: best mIoU"] = f"{authors['best']:.2f}" if "best" in authors else NONE
            lines.append(line)
    return pd.DataFrame(lines, columns=COST_COLUMNS).fillna(NONE)


def _cost_cells(study: Study, experiment: str | None) -> dict[str, str]:
    """Device, GPUs, hours and GPU hours of one training of an experiment."""
    titles = ["Device", "GPUs", "Hours", "GPU hours"]
    if experiment not in study.summary.index:
        return dict.fromkeys(titles, NONE if experiment is None else NOT_RUN)
    row = study.evaluated.loc[[experiment]]
    folder = study.training / experiment
    segments = [read_segments(folder / f"seed-{seed}/work") for seed in row.train_seeds.iloc[0]]
    found = cost.summarize(row, {experiment: segments}).iloc[0]
    hours = [cost.hours(found[key] / found.trainings) for key in ("hours", "gpu_hours")]
    return dict(zip(titles, [found.device or NONE, found.gpus or NONE, *hours], strict=True))
