"""What a run costs, before it is paid: jobs, GPU hours, wall time, disk space and files of each stage.

GPU hours come from the first source that knows them (freemask.reporting.gpu_seconds), and each row says which.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from freemask.reporting.gpu_seconds import WAYS, Card, Done, Run, Source
from freemask.reporting.layout import lines_of
from freemask.selection.estimates import BYTES_PER_PIXEL, images_of

CHECK = 60.0  # seconds that a preflight job takes at most; an estimate
MASK_BYTES_PER_PIXEL = 0.03  # of a square mask as PNG; an estimate
TABLE_BYTES_PER_IMAGE = 2000  # rows of all tables; 1.4 GB of the paper's run (docs/benchmarks.md)
WORK_FILES = 10  # of a training's folder work/: logs, curves, times
SUBFOLDERS = 256  # that images and masks are spread over


@dataclass
class Row:
    """Jobs of one stage: all of a rule that takes GPUs, or the stage's others together."""

    jobs: int = 0
    times: list[float | None] = field(default_factory=list)  # wall time of each job with GPUs [s]
    gpus: int = 0
    bytes: float = 0.0
    files: float = 0.0
    sources: set[str] = field(default_factory=set)

    @property
    def gpu_seconds(self) -> float:
        """GPU seconds of the jobs whose time is known."""
        return sum(time for time in self.times if time is not None) * self.gpus

    @property
    def known(self) -> bool:
        """Whether the time of each job is known."""
        return None not in self.times

    def wall(self, gpus: int) -> float:
        """Wall time of the jobs on so many GPUs [s]."""
        return makespan([time for time in self.times if time is not None], gpus // max(self.gpus, 1))


def makespan(times: Iterable[float], slots: int) -> float:
    """When the last of some jobs ends if the longest start first, so many at a time; inf without a slot.

    Jobs don't wait for each other. Source: Graham's rule of the longest processing time.
    """
    if slots < 1:
        return math.inf
    ends = [0.0] * slots
    for time in sorted(times, reverse=True):
        heapq.heapreplace(ends, ends[0] + time)
    return max(ends)


@dataclass(frozen=True)
class Estimate:
    """The cost of a run on a card, or on CPUs."""

    run: Run
    source: Source
    done: Done | None = None

    @property
    def sources(self) -> list[Source]:
        """Whom to ask for GPU seconds, in this order; nobody for a run on CPUs."""
        return [self.source, self.source.paper] if self.run["training_gpus"] else []

    @cached_property
    def rows(self) -> dict[tuple[str, str], Row]:
        """By stage and rule ("" for rules without GPUs), in the run's order."""
        rows: dict[tuple[str, str], Row] = defaultdict(Row)
        for dataset, facts in self.run["datasets"].items():
            for rule, jobs in facts["jobs"].items():
                about = self.run["rules"][rule]
                row = rows[about["stage"], rule if about["gpus"] and about["stage"] != "preflight" else ""]
                row.jobs += jobs
                row.gpus = max(about["gpus"], row.gpus)
                row.files += jobs * about["files"]
                self._add_files(row, dataset, rule)
                if about["gpus"]:
                    times, source = self.times(dataset, rule, jobs)
                    row.times += times
                    row.sources |= {source}
        return dict(rows)

    def times(self, dataset: str, rule: str, jobs: int) -> tuple[list[float | None], str]:
        """Wall time of each job [s], and where it comes from."""
        facts, mean = self.run["datasets"][dataset], self.done and self.done.job(dataset, rule)
        if rule == "train":
            return self._trainings(dataset)
        if rule == "synthesize":
            return self._syntheses(dataset, jobs)
        if mean:
            return [mean] * jobs, "measured in this run"
        if rule.startswith("preflight"):
            return [CHECK] * jobs, "an estimate"
        evaluated = {split: jobs * number * self.run["views"] for split, number in facts["pairs"].items()}
        images = {
            "class_loss": facts["pairs"]["train"],
            "fold_loss": facts["pairs"]["train"] * facts["fold_losses"],
            "measure_margins": sum(self.images(dataset).values()),
            **{f"evaluate{best}": evaluated["val"] for best in ("", "_best")},
            **{f"evaluate{best}_test": evaluated.get("test", 0) for best in ("", "_best")},
        }
        for source in self.sources:
            if rule in images and (seconds := source.scored()) is not None:
                return [images[rule] * seconds / jobs] * jobs, source.name
        return [None] * jobs, "not known"

    def _syntheses(self, dataset: str, jobs: int) -> tuple[list[float | None], str]:
        """In proportion to the images: measured in this run, else on the card, else as the configuration says."""
        times: list[float | None] = []
        planned = self.images(dataset)
        for name, images in planned.items():
            each, source = jobs // len(planned), "measured in this run"
            seconds = self.done and self.done.image(dataset, name)
            for card in self.sources:
                if not seconds and isinstance(card, Card):
                    seconds, source = card.image(self.run["generators"][name], images / each), card.name
            if not seconds:
                seconds, source = self.source.paper.seconds, "seconds_per_image of the configuration"
            times += [images * seconds / each] * each
        return times, source

    def _trainings(self, dataset: str) -> tuple[list[float | None], str]:
        """A finished training's own time; else that of finished ones of its model, by updates; else the source's."""
        trainings, gpus = self.run["datasets"][dataset]["trainings"], max(self.run["training_gpus"], 1)
        spent = [self.done and self.done.training(dataset, one["name"]) for one in trainings]
        rates = defaultdict(list)
        for one, seconds in zip(trainings, spent, strict=True):
            if seconds:
                rates[one["model"]].append(seconds / one["updates"])
        times, sources = [], []
        for one, seconds in zip(trainings, spent, strict=True):
            model, updates, source = one["model"], one["updates"], "measured in this run"
            if not seconds and model in rates:
                seconds = float(np.mean(rates[model])) * updates
            for other in self.sources:
                if not seconds:
                    seconds = other.training(model, dataset, updates, self.run["models"][model]["way"])
                    source = other.name
            times.append(seconds / gpus if seconds else None)
            sources.append(source if seconds else "not known")
        return times, "; ".join(dict.fromkeys(sources))

    def images(self, dataset: str) -> dict[str, float]:
        """Synthetic images by generator; plans of one generator share images, so the largest counts."""
        facts, found = self.run["datasets"][dataset], {}
        for one in facts["plans"]:
            images = one["images"] or images_of(one, facts["pairs"]["train"])
            found[one["generator"]] = max(found.get(one["generator"], 0), images)
        return found

    def _add_files(self, row: Row, dataset: str, rule: str) -> None:
        """Add disk space, and files that aren't declared as outputs."""
        facts, models = self.run["datasets"][dataset], self.run["models"]
        images, pixels = sum(self.images(dataset).values()), facts["mask_size"] ** 2
        if rule == "resize_masks":
            row.bytes += facts["pairs"]["train"] * pixels * MASK_BYTES_PER_PIXEL
            row.files += facts["pairs"]["train"] + SUBFOLDERS
        elif rule == "synthesize":
            row.bytes += images * pixels * BYTES_PER_PIXEL
            row.files += images + SUBFOLDERS
        elif rule == "measure_margins":
            row.files += 2 * facts["jobs"][rule]  # archive and index of a pack
        elif rule == "synthetic_set":
            row.bytes += images * TABLE_BYTES_PER_IMAGE
        elif rule == "train":
            for one in facts["trainings"]:
                kept = 1 + models[one["model"]]["validated"]  # weights.pth, best.pth
                row.bytes += kept * (self.source.paper.figures["weights"].get(one["model"]) or 0.0)
                row.files += WORK_FILES + 2 * (kept - 1)

    def rows_of(self, *rules: str) -> list[Row]:
        """Rows of these rules, or all."""
        return [row for (_, rule), row in self.rows.items() if rule in rules or not rules]

    def hours(self, *rules: str) -> str:
        """GPU hours of these rules, or of all, as text."""
        rows = self.rows_of(*rules)
        return hours(sum(row.gpu_seconds for row in rows), all(row.known for row in rows))


def savings(run: Run, source: Source) -> dict[str, float | None]:
    """GPU hours that each measure saves on a card; None where it wasn't measured there."""
    estimate, measured = Estimate(run, source), isinstance(source, Card)
    unplanned, compiled = 0.0, 0.0
    for dataset, facts in run["datasets"].items():
        for name, images in estimate.images(dataset).items():
            generator = run["generators"][name]
            n_max = max(plan["n_max"] for plan in facts["plans"] if plan["generator"] == name)
            seconds = source.image(generator, images / run["shards"]) or 0.0
            unplanned += (facts["pairs"]["train"] * n_max - images) * seconds
            if measured and None not in (pair := source.eager_and_compiled(generator)):
                compiled += max(images * (pair[0] - pair[1]) - run["shards"] * source.compilation, 0.0)
    saved = {"planning before synthesis: fewer images": unplanned / 3600}
    saved["compiled generators"] = compiled / 3600 if compiled else None
    trainings = [(dataset, one) for dataset, facts in run["datasets"].items() for one in facts["trainings"]]
    spent = {
        way: [source.training(one["model"], dataset, one["updates"], way) for dataset, one in trainings] for way in WAYS
    }
    for text, before, after in (
        ("merged parameter groups, fused steps", "theirs", "merged"),
        ("captured backbones, where measured", "merged", "captured"),
    ):
        known = measured and None not in spent[before] + spent[after]
        saved[text] = (sum(spent[before]) - sum(spent[after])) / 3600 if known else None
    return saved


def report(run: Run, source: Source, sources: Sequence[Source], done: Done) -> str:
    """The tables as text, the run on a source and then on all of them; a run on CPUs has the first alone."""
    unit = "GPU" if run["training_gpus"] else "CPU"
    estimate = Estimate(run, source, done)
    rows = [["stage, rule", "jobs", f"{unit} hours", "wall time", "disk", "files", f"source of the {unit} hours"]]
    for names, row in estimate.rows.items():
        rows.append([", ".join(filter(None, names)), *_cells([row], run["gpus"]), "; ".join(sorted(row.sources))])
    rows.append(["all, one after another", *_cells(estimate.rows_of(), run["gpus"]), ""])
    on = f", {source.name}" if unit == "GPU" else ""
    lines = [f"{', '.join(run['datasets'])} as configured, on {run['gpus']} {unit}s{on}", "", *lines_of(rows)]
    lines += [
        f"{dataset}: number of pairs not known, counted as none; give `pairs` in config/datasets/{dataset}.yaml"
        ", or put its raw data where that file says"
        for dataset, facts in run["datasets"].items()
        if not facts["pairs"]["train"]
    ]
    if unit == "GPU":
        lines += ["", *lines_of(compared(run, sources)), "", *lines_of(saved(run, sources))]
    return "\n".join(lines)


def _cells(rows: Sequence[Row], gpus: int) -> list[str]:
    """Jobs, hours, wall time, disk and files of rows together, as text."""
    timed = [row for row in rows if row.times]
    known = all(row.known for row in timed)
    return [
        f"{sum(row.jobs for row in rows):,}",
        hours(sum(row.gpu_seconds for row in timed), known) if timed else "",
        duration(sum(row.wall(gpus) for row in timed), known) if timed else "",
        _size(sum(row.bytes for row in rows)),
        f"{sum(row.files for row in rows):,.0f}",
    ]


def compared(run: Run, sources: Sequence[Source]) -> list[list[str]]:
    """The whole run on each card, nothing of it done."""
    rows = [["the whole run on", "synthesis", "trainings", "all GPU hours", f"wall time on {run['gpus']}"]]
    for source in sources:
        one = Estimate(run, source)
        wall = sum(row.wall(run["gpus"]) for row in one.rows_of())
        known = all(row.known for row in one.rows_of())
        rows.append([source.name, one.hours("synthesize"), one.hours("train"), one.hours(), duration(wall, known)])
    return rows


def saved(run: Run, sources: Sequence[Source]) -> list[list[str]]:
    """What each measure saves on each card."""
    found = {source.name: savings(run, source) for source in sources}
    rows = [["saves [GPU hours]", *found]]
    for measure in next(iter(found.values())):
        each = [one[measure] for one in found.values()]
        rows.append([measure, *("–" if one is None else hours(3600 * one) for one in each)])
    return rows


def hours(seconds: float, complete: bool = True) -> str:
    """Seconds as hours; with a sign if some aren't known, a dash if none is."""
    value = seconds / 3600
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
    return _signed(text, seconds, complete)


def duration(seconds: float, complete: bool = True) -> str:
    """Seconds as days, hours or minutes; with a sign if some aren't known, a dash if none is."""
    if math.isinf(seconds):
        return "too few GPUs"
    days = seconds / 86400
    text = f"{days:.1f} d" if days >= 1 else f"{24 * days:.1f} h" if days >= 1 / 24 else f"{1440 * days:.1f} min"
    return _signed(text, seconds, complete)


def _signed(text: str, seconds: float, complete: bool) -> str:
    return text if complete else f"> {text}" if seconds else "–"


def _size(count: float) -> str:
    return "" if not count else f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
