"""The profiles: no key twice, and the resource requests that reach Slurm. tests/slurm has the twin with a real one."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rules import load_rules

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "profiles"

TOY = """
rule all:
    input: "train.txt", "synthesize.txt", "tables.txt"
rule train:
    output: "train.txt"
    threads: 32
    resources: gpu=8, runtime="2d", mem_mb=64000
    shell: "touch {output}"
rule synthesize:
    output: "synthesize.txt"
    threads: 4
    resources: gpu=1, runtime="12h", mem_mb=16000
    shell: "touch {output}"
rule tables:
    output: "tables.txt"
    shell: "touch {output}"
"""


class Strict(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML's own loader, and so Snakemake, takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(names) == len(set(names)), f"key twice among {names}, line {node.start_mark.line + 1}"
        return super().construct_mapping(node, deep)


def keys(name: str) -> dict:
    """Return a profile as a dictionary; the branches of its YTE conditions count as there."""
    profile = yaml.load((PROFILES / name / "config.yaml").read_text(), Strict)
    for condition in [key for key in profile if key.startswith("?")]:
        profile |= profile.pop(condition)
    return profile


def test_no_key_twice():
    with pytest.raises(AssertionError, match="key twice"):
        yaml.load("a: 1\nb: {c: 1, c: 2}\n", Strict)
    assert keys("default")["max-checksum-file-size"] == 200_000_000
    assert keys("slurm")


def test_no_key_in_both():
    # Snakemake takes profiles/default's value, whole, and drops the cluster's.
    assert not set(keys("default")) & set(keys("slurm"))


def test_the_short_name_finds_the_profile():
    # `--profile slurm` looks for ./slurm, not for profiles/slurm.
    assert (ROOT / "slurm").resolve() == PROFILES / "slurm"
    assert os.readlink(ROOT / "slurm") == "profiles/slurm"


def test_gpu_rules_name_their_gpus():
    """Each rule with a gpu resource gets V100s of one node from the profile."""
    on_gpu = {name for name, rule in load_rules().items() if "gpu" in rule.resources}
    assert "train" in on_gpu
    wanted = {"gpu_model": "v100", "nodes": 1}
    asked = keys("slurm")["set-resources"]
    assert {name: asked.get(name) for name in on_gpu} == dict.fromkeys(on_gpu, wanted)


def test_retries_and_arrays():
    # A rule's own retries run inside the same Slurm job as well; arrays lose jobs (see the profile).
    assert keys("slurm")["retries"] >= 1
    assert {rule._restart_times for rule in load_rules().values()} <= {None, 0}
    assert "slurm-array-jobs" not in keys("slurm")


@pytest.fixture(scope="module")
def requests(tmp_path_factory) -> dict[str, list[str]]:
    """What the profile asks Slurm for: rule -> arguments of sbatch."""
    return noted_requests(tmp_path_factory.mktemp("sbatch"), (PROFILES / "slurm/config.yaml").read_text())


def noted_requests(folder: Path, profile: str) -> dict[str, list[str]]:
    """Run a toy through `--profile slurm` with an sbatch that notes its arguments and refuses: rule -> arguments."""
    (folder / "Snakefile").write_text(TOY)
    shutil.copytree(PROFILES, folder / "profiles")
    (folder / "profiles/slurm/config.yaml").write_text(profile)
    (folder / "slurm").symlink_to("profiles/slurm")
    clients = folder / "bin"
    clients.mkdir()
    noted = folder / "noted"
    answers = {"sbatch": f"printf '%s\\n' \"$*\" >> {shlex.quote(str(noted))}; exit 1", "sinfo": "echo 'standard*'"}
    for name in ["sbatch", "sacct", "sacctmgr", "sinfo", "squeue", "scontrol", "scancel"]:
        (clients / name).write_text(f"#!/bin/sh\n{answers.get(name, 'exit 1')}\n")
        (clients / name).chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "all", "--retries", "0"]
        + ["--slurm-init-seconds-before-status-checks", "1"],
        cwd=folder,
        env=os.environ | {"PATH": f"{clients}:/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert noted.exists(), ran.stderr
    lines = noted.read_text().splitlines()
    return {re.search(r"--comment rule_([a-z]+)", line)[1]: line.split(" --wrap")[0].split() for line in lines}


def test_training_asks_for_eight_gpus_of_one_node(requests):
    asked = requests["train"]
    assert {"--gpus=v100:8", "--nodes=1", "--cpus-per-task=32", "--no-requeue"} <= set(asked)
    assert asked[asked.index("-t") + 1] == "2880"  # minutes: 2 days
    assert asked[asked.index("--mem") + 1] == "64000"
    # torchrun starts the eight processes itself
    assert not [argument for argument in asked if "ntasks" in argument]


def test_training_on_two_nodes_asks_for_what_the_profile_says(tmp_path):
    """The line in the profile's comment, put in the place that it names."""
    profile = (PROFILES / "slurm/config.yaml").read_text()
    line = re.search(r"^#   (train: \{.*\})$", profile, flags=re.MULTILINE)[1]
    edited, count = re.subn(r"^  train:\n    gpu_model: v100\n    nodes: 1$", f"  {line}", profile, flags=re.MULTILINE)
    assert count == 1
    asked = noted_requests(tmp_path, edited)["train"]
    # four V100s on each of two nodes, eight in all; sixteen CPUs a node
    assert {"--gres=gpu:v100:4", "--gpus=8", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=8"} <= set(asked)


def test_synthesis_asks_for_one_gpu(requests):
    assert {"--gpus=v100:1", "--nodes=1", "--cpus-per-task=4"} <= set(requests["synthesize"])


def test_cpu_jobs_ask_for_no_gpu(requests):
    asked = requests["tables"]
    assert not [argument for argument in asked if "gpu" in argument or "gres" in argument]
    assert {"--ntasks=1", "--cpus-per-task=1"} <= set(asked)
    assert asked[asked.index("-t") + 1] == "60"
    assert asked[asked.index("--mem") + 1] == "4000"


def test_no_retry_hides_a_refusal(requests):
    assert sorted(requests) == ["synthesize", "tables", "train"]
