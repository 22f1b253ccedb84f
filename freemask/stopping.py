"""Jobs that end early without losing work: SIGTERM is noted, what is in work is saved, the exit code is 143.

Slurm sends SIGTERM before a time limit, a preemption or a cancellation, and SIGKILL some seconds later (KillWait).
"""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from freemask.cli import tell

CONTINUE = "FREEMASK_CONTINUE"  # set by the wrapper of a Slurm job, which queues the job again if this file is there


class Terminated(SystemExit):
    """SIGTERM was received and what was in work is saved. Exit code 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Stop:
    """Notes SIGTERM while a with statement runs, instead of ending the process.

    with Stop() as stop:
        for number, batch in enumerate(batches, start=1):
            save(batch)
            stop.saved += len(batch)
            if stop.requested:
                stop.end(f"{number} batches are saved")

    requested: Whether SIGTERM was received.
    saved: Images, iterations, ... saved since the process started.
    """

    def __init__(self) -> None:
        self.requested = False
        self.saved = 0
        self._started = time.monotonic()
        self._previous: Any = signal.SIG_DFL

    def __enter__(self) -> "Stop":
        self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True

    def end(self, state: str, main: bool = True) -> NoReturn:
        """End the process. After progress the job may go on at once: the file that FREEMASK_CONTINUE names is made.

        A job that saves nothing before it is stopped would go on for ever, so it fails.

        Args: state: what is saved, for people; main: whether this is the job's first process, which alone speaks and
            makes the file.
        Raises: Terminated.
        """
        if main and self.saved:
            tell(f"SIGTERM: {state}; the same command goes on from there")
            if name := os.environ.get(CONTINUE):
                Path(name).touch()
        elif main:
            minutes = (time.monotonic() - self._started) / 60
            tell(
                f"SIGTERM after {minutes:.1f} minutes: {state}; nothing was saved since this job started, so it counts"
                " as failed. If it reached its time limit, give it more time (`runtime`)"
            )
        raise Terminated


def ignore_sigterm(worker_id: int) -> None:
    """Let a data loading process ignore SIGTERM: training needs it until it has saved. `kill_loaders` ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill_loaders() -> None:
    """Kill data loading processes; for atexit, so that it runs before multiprocessing's own, which waits for them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call it an error
    for process in multiprocessing.active_children():
        process.kill()
