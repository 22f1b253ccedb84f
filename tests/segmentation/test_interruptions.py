"""Trainings that are stopped by SIGTERM or SIGKILL at any moment end as uninterrupted ones do, bit for bit."""

import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_training
import torch
import yaml
from processes import FORKS
from tiny_training import ROOT

from freemask import files, stopping

pytestmark = pytest.mark.slow
ITERATIONS = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A training of 120 iterations with a checkpoint every 7 and a validation every 20."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    os.chdir(folder)
    entry = tiny_training.write_world(iterations=ITERATIONS)
    entry["overrides"]["default_hooks"]["checkpoint"]["interval"] = 7
    entry["overrides"]["train_cfg"]["val_interval"] = 20
    pair = entry | {"gpus": 2, "iterations": {"tiny": 50}}
    models = {"tiny": entry, "loaders": entry | {"workers": 2}, "pair": pair}
    Path("models.yaml").write_text(yaml.safe_dump(models))
    yield folder
    os.chdir(before)


def execute(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    """What `python command` does in a folder, as a process group of its own."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


class Forked:
    """A command line that starts without seconds of imports; as much of a Popen as is used here."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = FORKS.Process(target=execute, args=(Path.cwd(), command, environment))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float) -> int | None:
        self.process.join(timeout)
        return self.poll()


def start(name: str, model: str = "tiny") -> "subprocess.Popen | Forked":
    """Start the training `name` as a process group of its own, two torchrun processes for the model `pair`."""
    config = Path(name, "seed-0/config.py")
    if not config.exists():
        gpus = 2 if model == "pair" else 0
        tiny_training.configure(name, "joint", model=model, gpus=gpus)
    command = [str(ROOT / "scripts/train.py"), "--config", str(config), "--weights", str(weights(name))]
    command += ["--threads", "1", "--log", f"{name}.log"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", stopping.CONTINUE: f"{name}.continue"}
    if model == "tiny":
        return Forked(command, environment)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"] * (model == "pair")
    return subprocess.Popen([sys.executable, *torchrun, *command], env=os.environ | environment, start_new_session=True)


def weights(name: str) -> Path:
    return Path(name, "seed-0/weights.pth")


def finish(name: str, model: str = "tiny") -> None:
    assert start(name, model).wait(timeout=120) == 0, Path(f"{name}.log").read_text()


def checkpoints(name: str) -> list[int]:
    """Iterations of the checkpoints that are there, ascending."""
    return sorted(int(path.stem.removeprefix("iter_")) for path in Path(name, "seed-0/work").glob("iter_*.pth"))


def stop(name: str, after: int, number: int, delay: float, model: str = "tiny", group: bool = True) -> int:
    """Start, wait for a new checkpoint of at least `after` iterations and `delay` seconds, send a signal; exit code."""
    found = max(checkpoints(name), default=0)
    running, deadline = start(name, model), time.monotonic() + 90
    try:
        while not any(done >= max(after, found + 1) for done in checkpoints(name)):
            assert running.poll() is None, Path(f"{name}.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
        (os.killpg if group else os.kill)(running.pid, number)
        return running.wait(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def uninterrupted(world):
    finish("uninterrupted")
    return files.sha256(weights("uninterrupted"))


def test_kills_at_any_moment(uninterrupted):
    """Five SIGKILLs, a truncated last checkpoint among them, and a SIGTERM."""
    draw = random.Random(0)
    for after in (1, 15, 29, 50, 64):
        assert stop("killed", after, signal.SIGKILL, draw.uniform(0, 0.3)) == -signal.SIGKILL
        if after == 29:
            last = Path("killed/seed-0/work", f"iter_{checkpoints('killed')[-1]}.pth")
            last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    assert stop("killed", 85, signal.SIGTERM, 0) == 128 + signal.SIGTERM
    assert not weights("killed").exists()
    finish("killed")
    assert files.sha256(weights("killed")) == uninterrupted
    assert not list(Path("killed/seed-0/work").glob(".*.tmp"))


def test_sigterm_loses_no_iteration(uninterrupted):
    """The whole group gets the signal, data loading processes too; the checkpoint is none of the regular ones."""
    code = stop("ended", 7, signal.SIGTERM, 0.05, "loaders")
    assert code == 128 + signal.SIGTERM, Path("ended.log").read_text()
    saved = checkpoints("ended")[-1]
    assert f"saved ended/seed-0/work/iter_{saved}.pth" in Path("ended.log").read_text()
    assert Path("ended.continue").exists()  # the wrapper of a Slurm job queues it again
    state = torch.load(f"ended/seed-0/work/iter_{saved}.pth", weights_only=True)
    assert state["meta"]["iter"] == saved < ITERATIONS
    finish("ended", "loaders")
    assert f"Advance dataloader {saved} steps" in Path("ended.log").read_text()
    assert files.sha256(weights("ended")) == uninterrupted


def test_two_processes_are_killed_and_ended(world):
    """SIGTERM to torchrun alone, then SIGKILL to all: the same weights as of two processes left alone."""
    finish("two", "pair")
    assert stop("two-ended", 7, signal.SIGTERM, 0.05, "pair", group=False) != 0
    log = Path("two-ended.log").read_text()
    assert f"saved two-ended/seed-0/work/iter_{checkpoints('two-ended')[-1]}.pth" in log
    assert stop("two-ended", 28, signal.SIGKILL, 0.1, "pair") == -signal.SIGKILL
    finish("two-ended", "pair")
    assert files.sha256(weights("two-ended")) == files.sha256(weights("two"))
