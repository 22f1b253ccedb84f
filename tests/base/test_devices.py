"""A device of its own for every job: six jobs on three made-up devices, killed ones, launchers, lists chosen before."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freemask import devices
from freemask.errors import InputError

ROOT = Path(__file__).parents[2]
JOB = """
import json, os, sys, time
from freemask import devices
asked = time.monotonic()
taken = devices.take(int(sys.argv[1]))
started = time.monotonic()
print(json.dumps({"asked": asked, "started": started, "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}), flush=True)
time.sleep(float(sys.argv[2]))
print(json.dumps({"ended": time.monotonic()}), flush=True)
"""
CHOSEN = (devices.VISIBLE, devices.NAMED, devices.HELD, devices.RANK, "SLURM_JOB_ID")


@pytest.fixture
def environment(tmp_path):
    """Three made-up devices, locks in a folder of this test's own."""
    kept = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return kept | {"TMPDIR": str(tmp_path), devices.NAMED: "a,b,c", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(environment):
    """A function that starts a job; what is left at the end of the test is killed."""
    started = []

    def begin(count: int, seconds: float, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
        command = [*launcher, sys.executable, "-c", JOB, str(count), str(seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for job in started:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()


@pytest.fixture
def here(monkeypatch, tmp_path):
    """take() in this process: no list chosen, locks in a folder of this test's own, given back at the end."""
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "_machine", lambda: ["0", "1"])
    yield monkeypatch
    devices._forget_locks()


def first(job: subprocess.Popen) -> dict:
    """Return what a job says once it has its devices."""
    return json.loads(job.stdout.readline())


def result(job: subprocess.Popen) -> dict:
    """Return all that a job says, at its end."""
    out, _ = job.communicate(timeout=60)
    return {key: value for line in out.splitlines() for key, value in json.loads(line).items()}


def test_six_jobs_on_three_devices_share_none_and_leave_none_idle(start):
    jobs = [start(1, 0.7) for _ in range(6)]
    done = [result(job) for job in jobs]
    assert sorted({job["visible"] for job in done}) == ["a", "b", "c"]
    by_start = sorted(done, key=lambda job: job["started"])
    for device in "abc":
        one, other = (job for job in by_start if job["visible"] == device)
        assert one["ended"] <= other["started"]  # not shared
        assert (
            other["started"] - max(one["ended"], other["asked"]) < 1.0
        )  # not idle: 0.2 s between looks, and a slow machine


def test_a_killed_job_leaves_its_device_to_the_next(start):
    holders = [start(1, 60) for _ in range(3)]
    held = [first(job)["visible"] for job in holders]
    waiting = start(1, 0)
    assert "waiting for 1 free GPU of a, b, c" in waiting.stderr.readline()
    os.kill(holders[1].pid, signal.SIGKILL)
    assert result(waiting)["visible"] == held[1]


def test_who_waits_is_told_once(start):
    holders = [start(1, 1.5) for _ in range(3)]
    assert sorted(first(job)["visible"] for job in holders) == ["a", "b", "c"]
    waiting = [start(1, 0) for _ in range(2)]
    assert [job.communicate(timeout=60)[1].count("waiting") for job in waiting] == [1, 1]


def test_two_jobs_that_want_two_of_three_come_one_after_the_other(start):
    """No deadlock in which each holds one and waits for the third."""
    one, other = sorted((result(job) for job in [start(2, 0.5), start(2, 0.5)]), key=lambda job: job["started"])
    assert len(one["visible"].split(",")) == len(other["visible"].split(",")) == 2
    assert one["ended"] <= other["started"]


LAUNCHER = (sys.executable, "-m", "freemask.devices", "--gpus", "2", "--")


def test_a_launcher_takes_them_all_and_its_processes_take_none(start):
    launched = start(1, 1.0, LAUNCHER)
    assert first(launched)["visible"] == "a,b"  # the job below asked for one, and has what the launcher took
    assert result(start(1, 0))["visible"] == "c"


def test_devices_of_a_killed_launcher_are_taken_until_its_processes_end(start):
    """Processes of torchrun may outlive it: they hold the devices, so nobody else gets them."""
    shell = (*LAUNCHER, sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
    launched = start(1, 3.0, shell)
    said = first(launched)
    os.kill(launched.pid, signal.SIGKILL)
    launched.wait()
    following = result(start(3, 0))
    assert said["visible"] == "a,b" and following["visible"] == "a,b,c"
    assert following["started"] >= said["started"] + 2.9


def test_a_forked_process_does_not_keep_the_device_of_a_killed_job(start, environment):
    code = (
        "import os, time; from freemask import devices; devices.take(3)\n"
        "if os.fork() == 0: time.sleep(5); os._exit(0)\nprint(flush=True); time.sleep(60)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    job = subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)
    job.stdout.readline()
    killed = time.monotonic()
    os.kill(job.pid, signal.SIGKILL)
    assert result(start(3, 0))["started"] < killed + 4
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()


@pytest.mark.parametrize(
    ("variables", "wanted", "visible"),
    [
        ({}, ["0"], "0"),  # the machine's first
        ({"CUDA_VISIBLE_DEVICES": "1"}, [], "1"),  # chosen by the user, or by Slurm: exactly as many
        ({"CUDA_VISIBLE_DEVICES": "GPU-4f2a,GPU-77c1"}, ["GPU-4f2a"], "GPU-4f2a"),  # one of them
        ({"CUDA_VISIBLE_DEVICES": ""}, [], ""),  # on the CPU, on purpose
        ({"CUDA_VISIBLE_DEVICES": "-1"}, [], "-1"),
        ({"SLURM_JOB_ID": "7"}, [], None),  # a cluster that hides nothing: not ours to choose
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, [], "0"),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2,3"}, ["2"], "2"),  # Snakemake inside a Slurm job
        ({"LOCAL_RANK": "1"}, [], None),  # torchrun without the launcher
        ({"FREEMASK_DEVICES": "1"}, ["1"], "1"),
        ({"FREEMASK_DEVICES": ""}, [], None),
    ],
)
def test_whose_choice_it_is(here, variables, wanted, visible):
    for name, value in variables.items():
        here.setenv(name, value)
    for name in (devices.VISIBLE, devices.HELD):
        if name not in variables:
            here.setenv(name, "")  # so that what take sets is taken back
            here.delenv(name)
    assert devices.take(1) == wanted
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_a_machine_without_gpus_waits_for_none(here):
    here.setattr(devices, "_machine", list)
    assert devices.take(4) == []


def test_more_than_there_are_is_an_error(here):
    with pytest.raises(InputError, match=r"4 GPUs requested, 2 there \(0, 1\); request fewer"):
        devices.take(4)


def test_a_folder_of_someone_else_is_refused(here):
    here.setattr(devices.os, "getuid", lambda: 12345678)
    with pytest.raises(InputError, match="belongs to someone else"):
        devices.take(1)


def test_every_rule_that_asks_for_a_gpu_takes_one():
    """In each rule with `gpu`, the script that runs hands `gpus` to cli.run."""
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "rules").rglob("*.smk")))
    found = {}
    for block in re.split(r"^ *rule\b", rules, flags=re.MULTILINE)[1:]:
        if re.search(r"^\s+gpu=", block, flags=re.MULTILINE):
            script = re.search(r"SCRIPTS\}/(\w+)\.py", block)[1]
            found[script] = "gpus=" in (ROOT / f"scripts/{script}.py").read_text()
    wanted = {"class_loss", "evaluate", "generator_quality", "measure_margins", "preflight_gpu", "synthesize", "train"}
    assert found.keys() == wanted | {"train_generator"} and all(found.values())
