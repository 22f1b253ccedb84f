"""Evaluations in the logs of finished segmentor trainings. All numbers in percent.

Known formats: mmengine 1.x's text log and its vis_data/scalars.json (both in percent), and mmsegmentation 0.x's text
log (fractions on evaluation lines, percent in tables). The format decides, never a value.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from freemask.errors import InputError

METRICS = ("mIoU", "mAcc", "aAcc")
SCALE = {"mmengine": 1.0, "mmseg": 100.0}  # from an evaluation line's numbers to percent
MESSAGE = re.compile(r" - (mmengine|mmseg) - [A-Z]+ -(?: |$)")  # a progress bar may stand before the time of day
TRAINED = {"mmengine": re.compile(r"Iter\(train\) +\[ *(\d+)/(\d+)\]"), "mmseg": re.compile(r"^Iter \[(\d+)/(\d+)\]")}
SAVED = re.compile(r"Saving checkpoint at (\d+) iterations")
EVALUATED = re.compile(r"Iter\(val\)\s+\[ *(\d+)(?:/\d+)?\]")
TESTED = re.compile(r"Iter\(test\)")
ITEM = re.compile(r"(?<![\w.])(mIoU|mAcc|aAcc): ([^\s,]+)")
CLASS_LINE = re.compile(r"^(.+): IoU (\S+), Acc (\S+)$")  # as freemask's PerClassIoU writes it
ROUNDING = 0.02  # points by which a mean of rounded numbers may differ from the rounded mean


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    iteration: iterations of training before it.
    metrics: those in METRICS [percent].
    classes: name, IoU, Acc [percent] of each class; NaN for a class without pixels; [] if the log has none.
    """

    iteration: int
    metrics: dict[str, float]
    classes: list[tuple[str, float, float]]


@dataclass(frozen=True)
class RunLog:
    """The content of a log.

    format: its name.
    evaluations: in the order of the log.
    totals: total iterations of the run, as lines of training give them.
    reached: iteration of the last line.
    """

    format: str
    evaluations: list[Evaluation]
    totals: set[int]
    reached: int


def read_log(path: str | Path) -> RunLog:
    """Read a log.

    Raises: InputError if it is missing, of no known format, or has an impossible number (NaN, more than 100 percent).
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    lines = text.splitlines()
    if next((line for line in lines if line.strip()), "").lstrip().startswith("{"):
        return _read_scalars(path, lines)
    formats = {match[1] for line in lines if (match := MESSAGE.search(line))}
    if len(formats) != 1:
        found = "mixes mmengine's and mmseg 0.x's lines" if formats else "holds no line of mmengine or mmseg"
        raise InputError(f"{path}: {found}; give one run's text log (*.log) or its vis_data/scalars.json")
    reader = _TextReader(path, formats.pop())
    for line in lines:
        reader.take(line)
    return RunLog(f"{reader.format} text log", reader.evaluations, reader.totals, reader.step)


def choose(log: RunLog, iterations: int, take: str, path: str | Path) -> Evaluation:
    """The evaluation at the run's end (take: last), or the one of the highest mIoU, the earliest of equals (best).

    Args: iterations: of the whole run; take: last or best; path: the log, for messages.
    Raises: InputError if the log isn't that of one whole run of so many iterations.
    """
    remedy = "give the whole log of one run of this experiment"
    wrong = {total for total in {*log.totals, log.reached} if total > iterations} | (log.totals - {iterations})
    if wrong:
        raise InputError(
            f"{path}: of a run of {max(wrong)} iterations, but the experiment has {iterations}; {remedy}, or correct "
            "its schedule"
        )
    if not log.evaluations:
        raise InputError(f"{path}: no evaluation with mIoU on validation images; {remedy}, validated during training")
    found: dict[int, Evaluation] = {}
    for evaluation in log.evaluations:
        other = found.setdefault(evaluation.iteration, evaluation)
        if other.metrics != evaluation.metrics or repr(other.classes) != repr(evaluation.classes):
            raise InputError(
                f"{path}: two evaluations after iteration {evaluation.iteration} differ (mIoU "
                f"{other.metrics['mIoU']:.2f} and {evaluation.metrics['mIoU']:.2f}): more than one run; {remedy}"
            )
    if iterations not in found:
        raise InputError(
            f"{path}: the last evaluation is after iteration {max(found)} of {iterations}: the log ends too early, or "
            f"the run's end wasn't evaluated; {remedy}"
        )
    return found[iterations] if take == "last" else max(found.values(), key=lambda one: one.metrics["mIoU"])


def _read_scalars(path: str | Path, lines: Iterable[str]) -> RunLog:
    """Read mmengine's vis_data/scalars.json: one JSON object per line, percent."""
    evaluations, reached = [], 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: not a JSON object; the file is damaged or cut, give it whole")
        if "mode" in row or "env_info" in row:
            raise InputError(f"{path}: mmseg 0.x's JSON log doesn't tell iterations reliably; give the run's text log")
        if not isinstance(row.get("step"), int):
            raise InputError(
                f"{path}, line {number}: no step; give the file vis_data/scalars.json as mmengine wrote it"
            )
        reached = max(reached, row["step"])
        if "mIoU" in row:
            metrics = {name: _percent(row.get(name), name, 1.0, f"{path}, line {number}") for name in METRICS}
            evaluations.append(Evaluation(row["step"], metrics, []))
    return RunLog("mmengine scalars", evaluations, set(), reached)


def _percent(value: object, name: str, scale: float, where: str) -> float:
    """A metric in percent; InputError if it is no number or outside 0 to 100."""
    try:
        number = float(value) * scale  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name} is {value!r}, want a number; the log can't be imported") from None
    if not 0 <= number <= 100 + 1e-9:
        kind = "a fraction, 0 to 1" if scale > 1 else "a percentage, 0 to 100"
        raise InputError(f"{where}: {name} is {value}, want {kind}; the run or the log is broken, give another")
    return round(number, 6)


class _TextReader:
    """Reads a text log line by line; tables belong to the evaluation line that follows them."""

    def __init__(self, path: str | Path, name: str) -> None:
        self.path, self.format = path, name
        self.evaluations: list[Evaluation] = []
        self.totals: set[int] = set()
        self.step = self.interval = self.number = 0
        self._forget()

    def _forget(self) -> None:
        """Drop the tables read so far."""
        self.columns: list[str] = []
        self.classes: list[tuple[str, float, float]] = []
        self.summary: dict[str, str] = {}

    def take(self, line: str) -> None:
        """Read one line."""
        self.number += 1
        found = MESSAGE.search(line)
        if found is None:
            self._table_line(line)
            return
        self.columns = []
        message = line[found.end() :].strip()
        if trained := TRAINED[self.format].search(message):
            step = int(trained[1])
            self.interval, self.step = step - self.step, step
            self.totals.add(int(trained[2]))
            self._forget()
        elif saved := SAVED.search(message):
            self.step = int(saved[1])
        elif TESTED.search(message):
            self._forget()
        elif evaluated := EVALUATED.search(message):
            self._evaluation(message[evaluated.end() :], int(evaluated[1]))
        elif class_line := CLASS_LINE.search(message):
            self._class(*class_line.groups())

    def _evaluation(self, rest: str, bracket: int) -> None:
        """Read an evaluation line; one without numbers shows progress (mmengine) or follows a table of them (0.x)."""
        items, scale = dict(ITEM.findall(rest)), SCALE[self.format]
        if not items and self.format == "mmseg":
            items, scale = self.summary, 1.0
        if "mIoU" not in items:
            return
        if self.step < bracket <= self.step + self.interval:  # mmseg 0.x: stands in place of a line of training
            self.step = bracket
        where = f"{self.path}, line {self.number}"
        metrics = {name: _percent(items.get(name), name, scale, where) for name in METRICS}
        known = [iou for _, iou, _ in self.classes if not math.isnan(iou)]
        mean = sum(known) / len(known) if known else math.nan
        if self.classes and not abs(mean - metrics["mIoU"]) <= ROUNDING:
            raise InputError(
                f"{where}: mIoU is {metrics['mIoU']:.2f}, but the classes' mean above it {mean:.2f}; the log is mixed "
                "up, give one as the run wrote it"
            )
        if not self.totals:
            raise InputError(f"{where}: an evaluation before any line of training; give the whole log")
        self.evaluations.append(Evaluation(self.step, metrics, self.classes))
        self._forget()

    def _table_line(self, line: str) -> None:
        """Read a line of a table, with | between its columns or only blanks; columns are found by the header."""
        if not line.strip() or set(line.strip()) <= set("+-=|"):
            return
        framed = line.strip().startswith("|")
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if framed else line.split()
        if "IoU" in cells and cells[0] == "Class":
            self.columns, self.classes = cells, []
        elif "mIoU" in cells:
            self.columns, self.summary = cells, {}
        elif self.columns:
            row = cells if framed else line.strip().rsplit(None, len(self.columns) - 1)
            self._row(row)

    def _row(self, row: list[str]) -> None:
        """Read a row below a header; a row of another length ends the table."""
        named = dict(zip(self.columns, row, strict=False))
        if len(row) != len(self.columns):
            self.columns = []
        elif "Class" in named:
            self._class(named["Class"], named["IoU"], named.get("Acc", "nan"))
        elif not self.summary:
            self.summary = {name: named[name] for name in METRICS if name in named}

    def _class(self, name: str, iou: str, acc: str) -> None:
        """Read a class's numbers [percent]; nan: a class without pixels."""
        where = f"{self.path}, line {self.number}"
        values = [
            math.nan if value == "nan" else _percent(value, f"{key} of {name}", 1.0, where)
            for key, value in (("IoU", iou), ("Acc", acc))
        ]
        self.classes = [*self.classes, (name.strip(), *values)]
