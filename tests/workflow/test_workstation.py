"""Snakemake with six jobs and three made-up devices: each job has one, none is shared, none is left idle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freemask import devices

ROOT = Path(__file__).parents[2]
RULES = """
rule all:
    input: expand("{i}.json", i=range(6))
rule paint:
    output: "{i}.json"
    resources: gpu=1
    shell: "%s job.py --out {output} --log {wildcards.i}.log"
"""
JOB = """
import json, os, time
from pathlib import Path
from freemask import cli

def job(*, out: Path):
    times = [time.monotonic()]
    time.sleep(1)
    times.append(time.monotonic())
    out.write_text(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"], *times]))

cli.run(job, gpus=1)
"""


@pytest.mark.parametrize("counted", [True, False], ids=["resources gpu=3", "no resources given"])
def test_each_job_has_a_device_of_its_own(tmp_path, counted):
    """Also where Snakemake isn't told how many GPUs there are and starts all six jobs: three wait."""
    (tmp_path / "Snakefile").write_text(RULES % sys.executable)
    (tmp_path / "job.py").write_text(JOB)
    chosen = (devices.VISIBLE, devices.HELD, devices.RANK, "SLURM_JOB_ID")
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), devices.NAMED: "a,b,c"}
    command = [sys.executable, "-m", "snakemake", "--cores", "6", "--workflow-profile", "none"]
    command += ["--resources", "gpu=3"] if counted else []
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    jobs = sorted((json.loads(path.read_text()) for path in tmp_path.glob("*.json")), key=lambda job: job[1])
    assert len(jobs) == 6
    for device in "abc":
        (_, _, ended), (_, started, _) = (job for job in jobs if job[0] == device)
        assert ended <= started
    assert ("waiting for 1 free GPU of a, b, c" in done.stderr) == (not counted)
