"""What Snakemake shows of the log of a failed job: the cause and the last lines, instead of all."""

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import snakemake.logging

LAST = 20  # lines
PROGRESS = re.compile(r"\d+%\|| \[\d\d:\d\d(:\d\d)?, ")  # a line of freemask.cli.bar
STARTED = time.time() - 60  # seconds by which the clock of a file server may be behind


def shorten() -> None:
    """Make Snakemake show ends of logs (`show-failed-logs`); it has no setting for that."""
    snakemake.logging.show_logs = ends


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
            yield from _end(path)


def _end(path: Path) -> Iterator[str]:
    lines = path.read_text(errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not PROGRESS.search(line)]
    last = said[-LAST:]
    causes = dict.fromkeys(line for line in said if line.startswith("error: "))
    yield f"Logfile {path}, the end of its {len(lines)} lines without progress:" if lines else f"Logfile {path}: empty"
    yield from (cause for cause in causes if cause not in last)
    yield from last
