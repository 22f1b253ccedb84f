"""A workflow of the shape of ours through `--profile slurm` on a real Slurm: `make test-slurm`, about a minute.

What the profile asks Slurm for is tested without one in tests/workflow/test_profiles.py.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cluster import Cluster

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]

# Each job writes the GPUs that it sees and its node; `measure_margins` fails the first time.
WORKFLOW = """
# SLURM_NNODES is of the step: the plugin takes the job's own SLURM_* variables away.
NOTE = "echo ${CUDA_VISIBLE_DEVICES:-} $SLURM_NNODES $SLURMD_NODENAME"
rule all:
    input: "train.txt", expand("synthesize-{i}.txt", i=range(3)), "measure_margins.txt", "tables.txt"
rule train:
    output: "train.txt"
    threads: 8
    resources: gpu=8, runtime=5, mem_mb=2000
    shell: "sleep 3; {NOTE} > {output}"
rule synthesize:
    output: "synthesize-{i}.txt"
    resources: gpu=1, runtime=5, mem_mb=500
    shell: "sleep 3; {NOTE} > {output}"
rule measure_margins:
    output: "measure_margins.txt"
    resources: gpu=1, runtime=5, mem_mb=500
    shell: "echo run >> attempts; [ $(wc -l < attempts) -gt 1 ]; {NOTE} > {output}"
rule tables:
    output: "tables.txt"
    shell: "{NOTE} > {output}"
"""


@pytest.fixture(scope="module")
def cluster():
    # Not pytest's folder: the paths of sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    try:
        with Cluster(folder) as started:
            yield started
    finally:
        left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout.split()
        shutil.rmtree(folder)
        assert not left, f"processes left over: {left}"


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory) -> tuple[Path, str]:
    """Run the workflow; returns its folder and what Snakemake printed."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "Snakefile").write_text(WORKFLOW)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "slurm").symlink_to("profiles/slurm")
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "all", "--latency-wait", "5"]
    # A small cluster may be asked often; without accounting, squeue knows the states.
    command += ["--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue"]
    return folder, cluster.run(command + ["--slurm-no-account"], timeout=170, cwd=folder)


def note(finished: tuple[Path, str], name: str) -> tuple[list[str], str, str]:
    """Return the GPUs a job saw, its number of nodes, its node."""
    *gpus, nodes, node = (finished[0] / f"{name}.txt").read_text().split()
    return (gpus[0].split(",") if gpus else []), nodes, node


def test_training_has_eight_gpus_of_one_node(finished):
    gpus, nodes, node = note(finished, "train")
    assert sorted(gpus) == [str(number) for number in range(8)]
    assert nodes == "1"
    assert node in ("gpu1", "gpu2")


def test_each_synthesis_job_has_a_gpu_of_its_own(finished):
    seen = [note(finished, f"synthesize-{i}") for i in range(3)]
    assert all(len(gpus) == 1 for gpus, _, _ in seen)
    assert len({(node, gpus[0]) for gpus, _, node in seen}) == 3


def test_cpu_jobs_see_no_gpu(finished):
    assert note(finished, "tables")[0] == []


def test_a_failed_job_is_submitted_again_once(finished):
    folder, printed = finished
    assert (folder / "attempts").read_text().split() == ["run", "run"]
    assert "Trying to restart job" in printed


def test_a_second_run_submits_nothing(cluster, finished):
    started = time.monotonic()
    printed = cluster.run([sys.executable, "-m", "snakemake", "--profile", "slurm", "all"], timeout=60, cwd=finished[0])
    assert "Nothing to be done" in printed
    assert time.monotonic() - started < 30
