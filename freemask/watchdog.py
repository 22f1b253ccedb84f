"""A watchdog ends a job that hangs, and says so: a stopped process, a dead NCCL, GPU or file system.

It is a child process, forked at the start of a script, since a stopped process runs none of its threads. It sees a
counter in shared memory that progress lines, iterations of trainings and files written or hashed count up. It counts
ticks of its own instead of the clock's time, so a job that Slurm suspends (the watchdog with it) isn't ended.
"""

import contextlib
import mmap
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

MINUTES = "FREEMASK_WATCHDOG_MINUTES"  # set by the workflow: minutes without progress; 0 or unset: no watchdog
TICK = 1.0  # seconds
GRACE = 5.0  # seconds in which the words are written, and then the stacks
COUNTER, TEXT = 8, 120  # bytes of the shared memory: number of beats, what the last one was
_memory: mmap.mmap | None = None
_held: list[int] = []  # the writing end of a pipe that closes when this process ends, however it ends


def beat(what: str = "") -> None:
    """Report progress; `what` is for people."""
    if _memory is None:
        return
    count = int.from_bytes(_memory[:COUNTER], "little") + 1
    _memory[:COUNTER] = count.to_bytes(COUNTER, "little")
    if what:
        _memory[COUNTER:] = what.encode()[:TEXT].ljust(TEXT, b"\0")


def start(tell: Callable[[str], None], log: Path | None = None) -> int | None:
    """Start the watchdog of this process, if the environment asks for one.

    Call it before threads start and before torch is imported, and enable faulthandler.

    Args: tell: prints a line for people; log: where this process writes what it prints.
    Returns: the watchdog's process id; None where there is none.
    """
    global _memory
    minutes = float(os.environ.get(MINUTES) or 0)
    if minutes <= 0:
        return None
    _memory = mmap.mmap(-1, COUNTER + TEXT)
    ended, held = os.pipe()
    _held.append(held)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    if (child := os.fork()) != 0:
        os.close(ended)
        return child
    try:  # `_let_go` has closed `held`
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group; the job may be saving
            signal.signal(number, signal.SIG_IGN)
        if hangs(lambda: _wait(ended, parent), lambda: _memory[:COUNTER], round(minutes * 60 / TICK)):
            # on a dead or full disk the words may block or fail; the job is ended anyway
            telling = threading.Thread(target=_tell, args=(tell, _words(minutes, parent, log)), daemon=True)
            telling.start()
            telling.join(GRACE)
            _end(parent, ended)
    finally:
        os._exit(0)


def _tell(tell: Callable[[str], None], words: str) -> None:
    with contextlib.suppress(OSError):
        tell(words)


def _let_go() -> None:
    """Close the pipe in forked processes (the watchdog, loaders), which may outlive the job."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def hangs(wait: Callable[[], bool], beats: Callable[[], bytes], ticks: int) -> bool:
    """Watch until the counter `beats` stays the same for so many ticks (True), or the job ends (False).

    Args: wait: waits for a tick; False once the job has ended.
    """
    last, still = beats(), 0
    while still < ticks:
        if not wait():
            return False
        now = beats()
        still = still + 1 if now == last else 0
        last = now
    return True


def _wait(ended: int, parent: int, seconds: float = TICK) -> bool:
    """Wait; False once the parent has ended."""
    return not select.select([ended], [], [], seconds)[0] and os.getppid() == parent


def _words(minutes: float, parent: int, log: Path | None) -> str:
    last = bytes(_memory[COUNTER:]).rstrip(b"\0").decode(errors="replace") if _memory else ""
    name = Path(sys.argv[0]).name
    return (
        f"error: {name} hangs: no image, batch or iteration for {minutes:g} minutes (last: {last or 'nothing yet'}). "
        f"It is ended: process {parent} on {socket.gethostname()}. "
        f"{f'The end of {log}' if log else 'What follows'} shows where it stood. What it saved stays, and the same "
        "command goes on from there. Look for a dead GPU, network or disk; `watchdog_minutes` in the configuration is "
        "the limit (0: none)"
    )


def _end(parent: int, ended: int) -> None:
    """End a process and its descendants: SIGABRT, at which faulthandler writes the stacks, then SIGKILL."""
    others = _descendants(parent)
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "linux":
            resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0))  # no core dump of many GB
        os.kill(parent, signal.SIGABRT)
        os.kill(parent, signal.SIGCONT)  # a stopped process gets the signal when it continues
        _wait(ended, parent, GRACE)
        os.kill(parent, signal.SIGKILL)
    for other in others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)


def _descendants(parent: int) -> list[int]:
    """Processes that descend from a process, but for this one; [] without /proc."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # has ended
            continue
        children.setdefault(above, []).append(int(status.parent.name))
    found, waiting = [], [parent]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child != os.getpid():
                found.append(child)
                waiting.append(child)
    return found
