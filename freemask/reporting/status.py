"""How far a run is: done and planned jobs of each stage, running jobs, GPU hours, remaining time. Reads files only.

Command: `python -m freemask.reporting.status`. A run writes its plan when it starts: logs/plan.json, a named one
logs/plan@<run>.json (rules/common/status.smk). A job is done if it was done before or its benchmark file is of this
run; it runs if its log is. Progress and rates are those of the last bar in its log.
"""

import contextlib
import html
import os
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from freemask import cli
from freemask.errors import InputError
from freemask.files import RUN, read_json, write_atomic
from freemask.reporting.budget import Estimate, duration, hours, makespan
from freemask.reporting.gpu_seconds import Done, read_sources
from freemask.reporting.layout import lines_of

END = 4000  # bytes of a log that are searched for its last bar
BAR = re.compile(r"(\d+)%\|[^|]*\| *[\d.]+[kMG]?/[\d.]+[kMG]? \[([\d:]+)<([\d:?]+), *([^\]]+)\]")  # of freemask.cli.bar
IMAGES = re.compile(r"\| *(\d+)/\d+ \[")
SHOWN = 40  # running jobs
STAGES = ("preflight", "data", "selection", "generation", "filtering", "segmentation", "reporting")


@dataclass(frozen=True)
class Job:
    """A planned job, and what its files say of it."""

    stage: str
    rule: str
    dataset: str
    name: str  # of a training: <experiment>/seed-<s>; else its wildcards
    gpus: int
    log: str
    proof: str  # a file that is written when the job is done: its benchmark, else its first output
    todo: bool  # when the run started
    started: float  # of the run [s since 1970]

    @cached_property
    def done(self) -> bool:
        """Whether it is finished."""
        return not self.todo or _changed(self.proof) >= self.started

    @cached_property
    def running(self) -> bool:
        """Whether it has begun and isn't finished; a failed job counts until it runs again."""
        return not self.done and bool(self.log) and _changed(self.log) >= self.started

    @cached_property
    def end(self) -> str:
        """The end of its log."""
        with Path(self.log).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - END))
            return log.read().decode(errors="replace")

    @cached_property
    def bar(self) -> re.Match | None:
        """The last bar of its log: percent, elapsed time, remaining time, rate."""
        return next(reversed(list(BAR.finditer(self.end))), None) if self.running else None

    @property
    def weight(self) -> int:
        """GPUs that it takes, or 1 for a training on the CPU; 0 for jobs that aren't counted in hours."""
        return self.gpus or int(self.rule == "train")

    @property
    def share(self) -> float:
        """Share of the job that is done, 0 to 1."""
        return 1.0 if self.done else int(self.bar[1]) / 100 if self.bar else 0.0

    @property
    def images_a_second(self) -> float:
        """Average speed of a running synthesis."""
        found = list(IMAGES.finditer(self.end)) if self.rule == "synthesize" and self.bar else []
        return int(found[-1][1]) / max(_seconds(self.bar[2]), 1) if found and self.bar else 0.0


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def _seconds(clock: str) -> int:
    """Seconds of 05:50 or 1:05:50."""
    return sum(int(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))


def find_plan(run: str | None) -> Path:
    """The plan of a run in the working directory: of this name, or of the run that was started last.

    Raises: InputError without such a plan.
    """
    plans = {path.stem.partition(RUN)[2]: path for path in Path("logs").glob("plan*.json")}
    if run in plans:
        return plans[run]
    if not plans:
        raise InputError(f"{Path.cwd()}: no run was started here (no logs/plan.json); snakemake -n lists its jobs")
    if run is not None:
        named = ", ".join(map(repr, filter(None, plans)))
        remedy = f"choose one of {named}" if named else "leave the name out"
        raise InputError(f"{Path.cwd()}: no run {run!r} was started here; {remedy}")
    return max(plans.values(), key=lambda path: path.stat().st_mtime)


class Status:
    """The state of a run in the working directory; see `find_plan`."""

    def __init__(self, run: str | None = None) -> None:
        path = find_plan(run)
        plan = read_json(path)
        self.name = path.stem.replace("plan", "run", 1).replace(RUN, " ")
        self.started: float = plan["started"]
        self.alive = any(Path(".snakemake/locks").glob("*"))
        self.begun = "running" if self.alive else "ended early"  # jobs with a log and no result
        self.run: dict[str, Any] = plan["run"]
        self.jobs = [Job(**one, started=self.started) for one in plan["jobs"]]
        cards = [Path(path) for path in plan["cards"]]
        source, _ = read_sources(self.run, Path(plan["reported"]), Path(plan["paper"]), cards, plan["card"])
        self.measured = Done(Path("results"), Path("logs"))
        self.estimate = Estimate(self.run, source, self.measured)

    @cached_property
    def expected(self) -> dict[Job, float | None]:
        """Wall time of each job [s]; None where nothing is known of it."""
        kinds: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in self.jobs:
            kinds[job.dataset, job.rule].append(job)
        found: dict[Job, float | None] = {}
        for (dataset, rule), jobs in kinds.items():
            facts = self.run["datasets"].get(dataset, {"jobs": {}})
            times = [self.measured.job(dataset, rule)]
            if rule in facts["jobs"] and any(job.weight for job in jobs):
                times, _ = self.estimate.times(dataset, rule, facts["jobs"][rule])
            if rule == "train" and rule in facts["jobs"]:
                of_each = dict(zip([one["name"] for one in facts["trainings"]], times, strict=True))
                found |= {job: of_each.get(job.name) for job in jobs}
            else:
                known = [one for one in times if one is not None]
                found |= dict.fromkeys(jobs, sum(known) / len(known) if known else None)
        return found

    def left(self, jobs: list[Job]) -> tuple[float, bool]:
        """Remaining wall time of jobs that don't wait for each other [s], and whether that of each is known."""
        known, total = True, 0.0
        slots: dict[int, list[float]] = defaultdict(list)
        for job in jobs:
            if not job.done:
                seconds = self.expected[job]
                if seconds is None and job.bar and job.bar[3] != "?":
                    seconds = _seconds(job.bar[3]) / max(1 - job.share, 0.01)
                known &= seconds is not None or not job.weight
                slots[max(job.weight, 1)].append((seconds or 0.0) * (1 - job.share))
        for gpus, times in slots.items():
            total += makespan(times, max(self.run["gpus"] // gpus, 1))
        return total, known

    def spent(self, job: Job) -> float:
        """GPU seconds of a job so far, as far as they are recorded."""
        return job.weight * (self.expected[job] or 0.0) * job.share

    def table(self) -> list[list[str]]:
        """A row per stage."""
        stages = sorted({job.stage for job in self.jobs}, key=lambda stage: (*STAGES, stage).index(stage))
        unit = "GPU" if self.run["training_gpus"] else "CPU"
        rows = [["stage", "done", "of", self.begun, f"{unit} hours", "of about", "remaining"]]
        groups = {stage: [job for job in self.jobs if job.stage == stage] for stage in stages}
        left = {stage: self.left(jobs) for stage, jobs in groups.items()}
        left["all"] = (sum(seconds for seconds, _ in left.values()), all(known for _, known in left.values()))
        for stage, jobs in {**groups, "all": self.jobs}.items():
            seconds, known = left[stage]
            full = sum(job.weight * (self.expected[job] or 0) for job in jobs)
            rows.append([
                stage, str(sum(job.done for job in jobs)), str(len(jobs)), str(sum(job.running for job in jobs)),
                hours(sum(map(self.spent, jobs))) if full else "", hours(full) if full else "",
                ("" if known else "> ") + duration(seconds) if seconds or not known else "",
            ])  # fmt: skip
        return rows

    def images(self) -> str:
        """Images made and planned, as far as the plan knew their number, and the speed of running jobs."""
        shards = [job for job in self.jobs if job.rule == "synthesize"]
        planned = sum(sum(self.estimate.images(dataset).values()) for dataset in self.run["datasets"])
        rate = sum(job.images_a_second for job in shards)
        said = []
        if shards and planned:
            said.append(f"about {planned * sum(job.share for job in shards) / len(shards):,.0f} of {planned:,.0f}")
        if rate:
            said.append(f"{rate:.3g} a second on all nodes")
        return "images: " + ", ".join(said) if said else ""

    def running(self) -> list[list[str]]:
        """A row per running job: what its last bar says, and the age of its log's last line."""
        rows = [[self.begun, "done", "rate", "remaining", "last line"]]
        for job in self.jobs:
            if job.running:
                bar = [f"{job.bar[1]} %", job.bar[4], job.bar[3]] if job.bar else ["", "", ""]
                age = max(time.time() - _changed(job.log), 0)
                said = f"{age:.0f} s ago" if age < 120 else f"{duration(age)} ago"
                rows.append([f"{job.rule} {job.dataset} {job.name}", *bar, said])
        return rows

    def text(self) -> str:
        """The state as text."""
        finished = all(job.done for job in self.jobs)
        lock = "Snakemake runs" if self.alive else "finished" if finished else "Snakemake doesn't run"
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))
        heading = f"{Path.cwd()}: {self.name} of {started}, {lock}; now {time.strftime('%H:%M:%S')}"
        lines = [heading, "", *lines_of(self.table())]
        if images := self.images():
            lines += ["", images]
        rows = self.running()
        if len(rows) > 1:
            left = len(rows) - 1 - SHOWN
            lines += ["", *lines_of(rows[: SHOWN + 1]), *[f"and {left} more"] * (left > 0)]
        return "\n".join(lines)


def as_page(text: str, every: int) -> str:
    """The state as a page that reloads itself after so many seconds."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{every}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>freemask: status</title></head>\n'
        f'<body><pre style="overflow-x:auto">{html.escape(text)}</pre></body></html>\n'
    )


def status(
    *, folder: Path = Path(), run: str | None = None, page: Path | None = None, every: cli.Positive = 30
) -> None:
    """Print how far a run is: jobs of each stage, GPU hours, remaining time, images a second. Reads files only.

    Takes no lock and writes nothing but the page: for another terminal during a run, and for another user's folder.

    Args:
        folder: Where the run was started.
        run: Name of the run, `run` of its configuration; '' for the one without (default: the last one started).
        page: Write this HTML page instead, again and again until Ctrl-C; it reloads itself.
        every: Seconds between two pages.
    """
    page = page and page.resolve()
    if not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    os.chdir(folder)
    with contextlib.suppress(KeyboardInterrupt):
        while page:
            write_atomic(page, as_page(Status(run).text(), every).encode())
            time.sleep(every)
        cli.tell(Status(run).text())


if __name__ == "__main__":
    cli.run(status, watched=False)
