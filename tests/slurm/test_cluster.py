"""A workflow of the shape of ours through `--profile slurm` on a real Slurm.

`make test` runs this file where Slurm's packages are installed. tests/workflow/test_profiles.py tests without them what
the profile asks Slurm for.
"""

import shutil
import time
from pathlib import Path

import pytest
import tiny_run
from runs import POLLING, ROOT, SNAKEMAKE

pytestmark = pytest.mark.slurm

# Each job writes the GPUs that it sees and its node; `measure_margins` fails the first time.
WORKFLOW = """
from freemask.workflow import slurm
slurm.export()
NOTE = "echo ${CUDA_VISIBLE_DEVICES:-} $SLURM_NNODES $SLURMD_NODENAME"
rule all:
    input: "train.txt", expand("synthesize-{i}.txt", i=range(3)), "measure_margins.txt", "resize_masks.txt"
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
rule resize_masks:
    output: "resize_masks.txt"
    shell: "{NOTE} > {output}"
"""


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory) -> tuple[Path, str, set[str]]:
    """Run the workflow; returns its folder, what Snakemake printed, and the names of jobs in squeue."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "Snakefile").write_text(WORKFLOW)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "slurm").symlink_to("profiles/slurm")
    printed = cluster.run([*SNAKEMAKE, "--profile", "slurm", "all", *POLLING], timeout=170, cwd=folder)
    names = cluster.run(["squeue", "-h", "--states=all", "-o", "%Z %j"]).splitlines()
    return folder, printed, {name.removeprefix(f"{folder} ") for name in names if name.startswith(f"{folder} ")}


def note(finished: tuple, name: str) -> tuple[list[str], str, str]:
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
    assert note(finished, "resize_masks")[0] == []


def test_names_of_jobs_say_what_runs(finished):
    names = finished[2]
    assert {rule for rule in ("train", "synthesize", "measure_margins", "resize_masks") if rule in str(names)} == {
        "train", "synthesize", "measure_margins", "resize_masks",
    }  # fmt: skip
    assert len([name for name in names if "synthesize" in name]) == 3, names  # which one is told apart


def test_a_failed_job_is_submitted_again_once(finished):
    folder, printed, _ = finished
    assert (folder / "attempts").read_text().split() == ["run", "run"]
    assert "Trying to restart job" in printed


def test_a_second_run_submits_nothing(cluster, finished):
    started = time.monotonic()
    printed = cluster.run([*SNAKEMAKE, "--profile", "slurm", "all"], timeout=60, cwd=finished[0])
    assert "Nothing to be done" in printed
    assert time.monotonic() - started < 30


def test_our_own_rules_go_through_slurm(cluster, tmp_path):
    """What the Snakefile does at the start of a run, then jobs on the cluster, without --cores."""
    folder = tiny_run.copy_repository(tmp_path / "clone")
    tiny_run.configure(folder)
    target = "results/miniworld/check/train.tsv"
    printed = cluster.run(
        [*SNAKEMAKE, "--profile", "slurm", target, "--configfile", tiny_run.CONFIG, *POLLING], timeout=170, cwd=folder
    )
    assert (folder / target).exists() and (folder / "logs/plan.json").exists(), printed
