"""What a run says on the terminal: a line with the result of each finished job, the reasons of failures at the end.

Snakemake's own lines stay in .snakemake/log; -p or --verbose shows them on the terminal as well.
"""

import difflib
import logging
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from snakemake.logging import DefaultFormatter, get_event
from snakemake_interface_executor_plugins.settings import ExecMode
from snakemake_interface_logger_plugins.common import LogEvent

from freemask.cli import RESULT, RESULTS_SHOWN

LAST = 20  # lines of the log of a failed job
FAILURES = 10  # failed jobs that the end of a run names
PROGRESS = re.compile(r"\d+%\|| \[\d\d:\d\d(:\d\d)?, ")  # a line of freemask.cli.bar
STARTED = time.time() - 60  # seconds by which the clock of a file server may be behind
SHOWN = {None, LogEvent.PROGRESS, LogEvent.RUN_INFO, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR}
HIDDEN = re.compile(
    "Building DAG of|Using shell: |(Conda environments|Singularity containers): ignored|Select jobs to |Submitted |"
    "Complete log|Elapsed time: |Shutting down, |Exiting because a job execution failed|Storing output in|"
    r"RuleException:\nCalledProcessError|Adding .*\(.*\)\.$|Loading (script|wrapper) code"
)
ENDED = re.compile(r"RuleException:\nCalledProcessError.*Command '(.*)' .* (?:<Signals.(\w+)|status (\d+))", re.DOTALL)
SIGNALS = {str(128 + one): one.name for one in signal.Signals}  # by the exit status of a shell whose command is killed
UNKNOWN = re.compile(r"MissingRuleException.*:\nNo rule to produce (.*) \(if you use")


def install(workflow: Any) -> None:
    """Replace what Snakemake's own handler writes to the terminal; `workflow` is Snakemake's.

    A dry run, a run with -p or --verbose, another logger and a Snakemake inside a job of a cluster keep Snakemake's
    lines, but for those that `explanation` replaces.
    """
    asked = workflow.output_settings
    os.environ.pop(RESULTS_SHOWN, None)  # a job's Snakemake on a cluster inherits it
    for handler in logging.getLogger("snakemake.logging").handlers:
        if handler.name == "DefaultStreamHandler":
            formatter = handler.formatter
            if not (asked.printshellcmds or asked.verbose or workflow.exec_mode != ExecMode.DEFAULT):
                formatter = Lines(workflow, formatter)
                handler.addFilter(formatter.shows)
                os.environ[RESULTS_SHOWN] = "1"
            handler.setFormatter(Explained(workflow, formatter))


class Explained(logging.Formatter):
    """Formats records as `theirs` does, but for messages that have an `explanation`."""

    def __init__(self, workflow: Any, theirs: logging.Formatter) -> None:
        super().__init__()
        self.workflow, self.theirs = workflow, theirs

    def format(self, record: logging.LogRecord) -> str:
        """The explanation of a record's message, or else the record's lines."""
        return explanation(self.workflow, str(record.msg)) or self.theirs.format(record)


def explanation(workflow: Any, message: str) -> str:
    """Plain words for an unknown target, or for a report (--allowed-rules) before its run is finished; else empty."""
    if unknown := UNKNOWN.match(message):
        similar = difflib.get_close_matches(unknown[1], [rule.name for rule in workflow.rules])
        meant = f" Did you mean {' or '.join(similar)}?" if similar else ""
        read = f" with {', '.join(map(os.path.relpath, workflow.configfiles))}" if workflow.configfiles else ""
        return f"error: {unknown[1]}: no such target{read}.{meant} snakemake --list-target-rules shows all targets"
    if message.startswith("MissingInputException") and workflow.dag_settings.allowed_rules:
        first, *more = sorted(re.findall(r"^ {8}(\S.*)", message, re.MULTILINE))
        left = f" and {len(more)} more" if more else ""
        return f"error: only finished results are read here; finish the run first. Missing: {first}{left}"
    return ""


class Lines(DefaultFormatter):
    """Formats Snakemake's records as lines for people; those of a dry run as Snakemake's formatter `theirs` does."""

    def __init__(self, workflow: Any, theirs: logging.Formatter) -> None:
        super().__init__(show_failed_logs=True)
        self.workflow, self.theirs = workflow, theirs
        self.jobs: dict[int, dict[str, Any]] = {}  # job id -> what Snakemake said when it started
        self.finished: list[int] = []  # not shown yet
        self.steps = 0  # of this run; with --until or --omit-from, Snakemake counts the others as well
        self.failed: dict[int, str] = {}
        self.killed: dict[str, str] = {}  # command of a failed job -> the signal that ended it, if one did

    def shows(self, record: logging.LogRecord) -> bool:
        """Whether a record makes a line; notes the jobs that the others speak of."""
        event = get_event(record)
        if event == LogEvent.JOB_INFO:
            self.jobs[record.jobid] = record.__dict__
        elif event == LogEvent.JOB_FINISHED:
            self.finished.append(record.job_id)
        elif event == LogEvent.ERROR and (ended := ENDED.match(str(record.msg))):
            self.killed[ended[1]] = ended[2] or SIGNALS.get(ended[3], "")
        elif event == LogEvent.RUN_INFO:
            self.steps = record.stats["total"]
            if not self.workflow.dryrun:  # `status` knows nothing of e.g. `cost`
                return any(job.output for job in self.workflow.dag.needrun_jobs(exclude_finished=False))
        return self.workflow.dryrun or (event in SHOWN and not HIDDEN.match(str(record.msg)))

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record; the last one of a run that failed names the failures."""
        if self.workflow.dryrun:
            return self.theirs.format(record)
        if self.failed and "At least one job did not complete successfully" in str(record.msg):
            return self._failures()
        return super().format(record)

    def format_run_info(self, msg: dict[str, Any]) -> str:
        """The number of jobs; Snakemake's table of them is in its log."""
        command = "make status" if "FREEMASK_RUN" in os.environ else "python -m freemask.reporting.status"
        told = "" if self.workflow.modules else f"; {command} says how far they are"
        # A module's onstart, which writes the plan for `status`, doesn't run.
        return f"{self.steps} step{'s' * (self.steps != 1)}{told}"

    def format_progress(self, msg: dict[str, Any]) -> str:
        """The jobs that have just finished, each with its result."""
        steps = self.steps or msg["total"]
        head = f"{time.strftime('%a %H:%M')}  {msg['done']:>{len(str(steps))}} of {steps}  "
        lines = [line for number in self.finished for line in self._result(number, head)]
        for number in self.finished:
            self.failed.pop(number, None)
        self.finished.clear()
        return "\n".join(lines)

    def _result(self, number: int, head: str) -> list[str]:
        """What a job found: its first line and its warnings, or all of it if the job makes no files."""
        job = self.jobs.pop(number, {"rule_name": f"job {number}", "wildcards": {}, "log": [], "output": []})
        first, *more = [line for log in job["log"] for line in results(log)] or [name(job)]
        warnings = [line for line in more if line.lstrip().startswith("warning: ")]
        return [head + line for line in (first, *warnings)] if job["output"] or not more else [first, *more]

    def _format_job_error(self, msg: dict[str, Any]) -> list[str]:
        """A failed job: its name, and why it wasn't submitted or the ends of its logs.

        Its command is in Snakemake's log.
        """
        job = name(self.jobs.get(msg["jobid"], {"rule_name": msg["rule_name"], "wildcards": {}}))
        logs = ", ".join(msg["log"])
        # Snakemake's executors end the message of every job of a cluster with this sentence.
        refused = (msg.get("rule_msg") or "").partition("For further error details")[0].strip()
        if refused:
            self.failed[msg["jobid"]] = f"{job}: {refused}"
            return [f"Error in {job}", *refused.splitlines()]
        command = msg["shellcmd"] or "\n"
        killed = next((by for whole, by in self.killed.items() if command in whole), "")
        self.failed[msg["jobid"]] = f"{job}: {cause(msg['log'], killed)}" + f"\n  its log: {logs}" * bool(logs)
        return [f"Error in {job}{f' (killed by {killed})' * bool(killed)}", *ends(msg["log"])]

    def _failures(self) -> str:
        head = f"{len(self.failed)} job(s) failed; the same command tries again and keeps what is done:"
        left = len(self.failed) - FAILURES
        return "\n".join([head, *list(self.failed.values())[:FAILURES], *[f"and {left} more"] * (left > 0)])


def name(job: dict[str, Any]) -> str:
    """The rule of a job and its wildcards, e.g. 'evaluate ade20k joint 0'."""
    return " ".join([job["rule_name"], *map(str, job["wildcards"].values())])


def results(log: str | Path) -> list[str]:
    """What a job told for people as its result (see freemask.cli.tell), from its log."""
    try:
        lines = Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.removeprefix(RESULT) for line in lines if line.startswith(RESULT)]


def cause(logs: Iterable[str], killed: str = "") -> str:
    """Why a job failed, from its logs: an error for people, else the signal that killed it and the last line."""
    said = [line for log in logs for line in _said(Path(log))]
    if errors := [line.removeprefix("error: ") for line in said if line.startswith("error: ")]:
        return errors[0]
    last = said[-1] if said else "it ended before its script began"
    memory = " (out of memory?)" if killed == "SIGKILL" else ""
    return f"killed by {killed}{memory}, its last line: {last}" if killed else last


def ends(logs: Iterable[str]) -> Iterator[str]:
    """Lines to show of logs: the errors for people (see freemask.cli), then the end without progress lines."""
    for log in logs:
        path = Path(log)
        if not path.is_file():
            yield f"Logfile {log} isn't there: the job ended before its script began"
        elif path.stat().st_mtime < STARTED:
            written = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
            yield f"Logfile {log} is of an earlier run ({written}): this time the job ended before its script began"
        else:
            said = _said(path)
            last = said[-LAST:]
            yield f"Logfile {path}, its end without progress:" if said else f"Logfile {path}: empty"
            yield from (one for one in dict.fromkeys(said[:-LAST]) if one.startswith("error: ") and one not in last)
            yield from last


def _said(path: Path) -> list[str]:
    """The lines of a log of this run without progress and empty ones."""
    if not path.is_file() or path.stat().st_mtime < STARTED:
        return []
    lines = path.read_text(errors="replace").splitlines()
    return [line for line in lines if line.strip() and not PROGRESS.search(line)]
