"""Jobs that hang are ended with words; jobs that go on, or are suspended with their watchdog, aren't."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freemask import devices, watchdog

ROOT = Path(__file__).parents[2]
JOB = """
import os, signal, subprocess, sys, time
from freemask import cli, watchdog

def job() -> None:
    "A job that makes two images and then does what the test says."
    with cli.bar("synthesize", 5, "image") as shown:
        shown.update(2)
    loader = os.fork()
    if loader == 0:
        time.sleep(60)
    print(loader, end=" ", flush=True)
    WHAT

start = watchdog.start
watchdog.start = lambda tell, log: print(start(TELL, log), end=" ", flush=True)
cli.run(job, gpus=1)
"""


@pytest.fixture
def run(tmp_path):
    """A function that starts a job with a watchdog of so many minutes; returns process, watchdog and loader."""
    started = []

    def begin(what: str, minutes: float, name: str = "job", tell: str = "tell") -> tuple[subprocess.Popen, int, int]:
        chosen = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), devices.NAMED: "a,b"}
        chosen |= {watchdog.MINUTES: str(minutes)}
        command = [
            sys.executable,
            "-c",
            JOB.replace("WHAT", what).replace("TELL", tell),
            "--log",
            str(tmp_path / f"{name}.log"),
        ]
        with open(tmp_path / f"{name}.stderr", "w") as stderr:
            process = subprocess.Popen(command, env=chosen, stderr=stderr, start_new_session=True)
        started.append(process)
        return process, *ids(tmp_path / f"{name}.log")

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ids(log: Path) -> list[int]:
    """Process ids that a job prints, of its watchdog and of its loader."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = log.read_text().splitlines() if log.exists() else []
        words = [word for line in lines for word in line.split() if word.isdigit()]
        if len(words) == 2:
            return [int(word) for word in words]
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def ended(process: int) -> bool:
    """Whether a process ends within ten seconds; a zombie has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_jobs_that_hang_are_ended_with_their_loaders_and_words(run, tmp_path):
    """One is stopped, one waits; both have four ticks from their last progress."""
    # a process that stops itself may go on for a moment: a sandbox's kernel stops it a little later
    jobs = {"stopped": "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)", "waits": "time.sleep(60)"}
    started = {name: run(what, minutes=4 / 60, name=name) for name, what in jobs.items()}
    for name, (process, guard, loader) in started.items():
        assert process.wait(timeout=30) == -signal.SIGABRT
        assert ended(loader) and ended(guard)
        told, log = ((tmp_path / f"{name}.{kind}").read_text() for kind in ("stderr", "log"))
        for words in ("no image, batch or iteration for", "last: synthesize: 2 of 5 images", f"{name}.log shows where"):
            assert words in told and words in log
        assert "most recent call first" in log and "in job\n" in log and "most recent call first" not in told


def test_a_job_is_ended_even_if_the_words_cannot_be_written(run):
    """As on a dead disk, where writing blocks."""
    process, guard, loader = run("time.sleep(60)", minutes=2 / 60, tell="lambda words: time.sleep(60)")
    assert process.wait(timeout=40) == -signal.SIGABRT and ended(loader) and ended(guard)


def test_the_watchdog_ends_with_its_job(run):
    process, guard, _ = run("sys.exit(3)", minutes=30)
    assert process.wait(timeout=30) == 3 and ended(guard)


def test_a_killed_job_leaves_no_watchdog_and_no_gpu(run, tmp_path, monkeypatch):
    """The watchdog is stopped, so that it outlives its job; the next job takes the GPU anyway."""
    process, guard, loader = run("time.sleep(60)", minutes=30)
    os.kill(guard, signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(loader, signal.SIGKILL)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    assert devices._lock(devices._open(devices._locks_folder(), "gpu-a"))
    devices._forget_locks()
    os.kill(guard, signal.SIGCONT)
    assert ended(guard)


def test_signals_to_the_whole_group_leave_the_watchdog(run):
    """A job that saves after SIGTERM may hang while it does so."""
    _, guard, _ = run("time.sleep(60)", minutes=30)
    ignored = Path(f"/proc/{guard}/status").read_text().split("SigIgn:")[1].split()[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert int(ignored, 16) & 1 << number - 1


def test_only_ticks_without_a_beat_count():
    """Three ticks in a row; a beat begins the count again."""
    beats = iter(b"aababbbb")
    waited = []
    assert watchdog.hangs(lambda: waited.append(1) or True, lambda: next(beats), 3)
    assert len(waited) == 7  # the third b in a row after its first
    assert not watchdog.hangs(lambda: False, lambda: b"a", 3)


def test_without_minutes_there_is_none(monkeypatch):
    monkeypatch.setenv(watchdog.MINUTES, "0")
    assert watchdog.start(print) is None
    monkeypatch.delenv(watchdog.MINUTES)
    assert watchdog.start(print) is None
    watchdog.beat("counts nothing")
