"""The profiles: no key twice, and the resource requests that reach Slurm. tests/slurm has the twin with a real one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
import yte
from tiny_run import environment

from freemask.workflow import slurm
from rules import load_rules

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "profiles"

TOY = """
import sys
sys.path.insert(0, "CHECKOUT")
from freemask.workflow import slurm
slurm.export()
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


@pytest.mark.parametrize("name", ["slurm", "workstation"])
def test_no_key_in_both(name):
    # Snakemake takes profiles/default's value, whole, and drops the cluster's.
    assert not set(keys("default")) & set(keys(name))


def test_the_short_name_finds_the_profile():
    # `--profile slurm` looks for ./slurm, not for profiles/slurm.
    assert (ROOT / "slurm").resolve() == PROFILES / "slurm"
    assert os.readlink(ROOT / "slurm") == "profiles/slurm"


def edited(name: str, changes: dict[str, object]) -> str:
    """The text of a profile after changes of its definitions: name -> value."""
    text = (PROFILES / name / "config.yaml").read_text()
    for definition, value in changes.items():
        text, count = re.subn(rf"(?m)^  - {definition} = .*$", f"  - {definition} = {value!r}", text)
        assert count == 1
    return text


def rendered(name: str, changes: dict[str, object] | None = None) -> dict:
    """A profile as Snakemake reads it, after changes of its definitions."""
    return yte.process_yaml(edited(name, changes or {}), require_use_yte=True)


@pytest.mark.parametrize("gpu", [0, 1])
def test_jobs_with_gpus_get_the_type_and_partition_that_the_profile_names_once(gpu):
    resources = rendered("slurm", {"GPU": "a100", "GPU_PARTITION": "long", "PARTITION": "short"})["default-resources"]
    properties = {"type": "single", "rule": "a", "wildcards": {}, "threads": 1, "resources": resources | {"gpu": gpu}}
    asked = slurm.sbatch_options(properties, 60)
    assert ("--gres=gpu:a100:1" in asked, "--partition=long" in asked) == (bool(gpu), bool(gpu))
    assert ("--partition=short" in asked) == (not gpu)


def test_site_settings_reach_every_job():
    assert rendered("slurm")["default-resources"] == {"runtime": 60, "mem_mb": 4000, "gpu_model": "v100"}
    site = {"PARTITION": "p", "ACCOUNT": "a", "QOS": "q", "RESERVATION": "r"}
    resources = rendered("slurm", site)["default-resources"]
    assert resources.items() > {f"slurm_{name.lower()}": value for name, value in site.items()}.items()
    assert "submit 4h" in rendered("slurm", {"WALLTIME": "4h"})["cluster-generic-submit-cmd"]


def test_retries():
    # A rule's own retries run inside the same Slurm job as well (see the profile).
    assert rendered("slurm")["retries"] >= 1
    assert {rule._restart_times for rule in load_rules().values()} <= {None, 0}


@pytest.mark.parametrize(("nodes", "each"), [(1, 8), (2, 4)])
def test_every_gpu_rule_of_the_papers_run_has_a_valid_request(nodes, each):
    """The resources of the rules, with the profile's, as options of sbatch."""
    profile = rendered("slurm")
    for name, rule in load_rules().items():
        if "gpu" not in rule.resources:
            continue
        given = {"gpu", "nodes", "mem_mb", "runtime"} & set(rule.resources)
        resources = profile["default-resources"] | {key: rule.resources[key].value for key in given}
        if name == "train":
            resources["nodes"] = nodes
        properties = {"type": "single", "rule": name, "wildcards": {}, "threads": 8, "resources": resources}
        asked = slurm.sbatch_options(properties, slurm.minutes_of("48h"))
        assert f"--gres=gpu:v100:{each if name == 'train' else 1}" in asked
        assert f"--nodes={nodes if name == 'train' else 1}" in asked
        assert "--ntasks-per-node=1" in asked  # torchrun starts a process per GPU itself
        long = name in {"synthesize", "train", "train_generator"}
        (time,) = [int(option.partition("=")[2]) for option in asked if option.startswith("--time=")]
        assert time == 2880 if long else time < 2880


@pytest.fixture(scope="module")
def requests(tmp_path_factory) -> dict[str, list[str]]:
    """Run a toy through `--profile slurm` with an sbatch that notes its arguments and refuses: rule -> arguments.

    The folder's name has what a shell could take apart.
    """
    folder = tmp_path_factory.mktemp("sbatch") / "my lab's (run)"
    folder.mkdir()
    (folder / "Snakefile").write_text(TOY.replace("CHECKOUT", str(ROOT)))
    shutil.copytree(PROFILES, folder / "profiles")
    (folder / "slurm").symlink_to("profiles/slurm")
    clients = folder / "bin"
    clients.mkdir()
    note = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]), file=open({str(folder / "noted")!r}, "a"))
sys.exit("sbatch: error: Batch job submission failed: Requested node configuration is not available")
"""
    for name, text in {"sbatch": note, "squeue": "#!/bin/sh\n"}.items():
        (clients / name).write_text(text)
        (clients / name).chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "all", "--retries", "0"],
        cwd=folder,
        env=os.environ | {"PATH": f"{clients}:/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (folder / "noted").exists(), ran.stderr
    assert ran.stderr.count("Slurm refuses 'train': Batch job submission failed: Requested node configuration") == 1
    assert "GPU in the profile is the type of the GPUs" in ran.stderr
    lines = [json.loads(line) for line in (folder / "noted").read_text().splitlines()]
    return {next(word for word in line if "--job-name" in word).partition("=")[2]: line for line in lines}


def test_training_asks_for_eight_gpus_of_one_node(requests):
    asked = set(requests["train"])
    assert {"--gres=gpu:v100:8", "--nodes=1", "--cpus-per-task=32", "--requeue", "--mem=64000"} < asked
    assert "--time=2880" in asked  # minutes: 2 days


def test_synthesis_asks_for_one_gpu(requests):
    assert {"--gres=gpu:v100:1", "--nodes=1", "--cpus-per-task=4", "--time=720"} < set(requests["synthesize"])


def test_cpu_jobs_ask_for_no_gpu(requests):
    asked = requests["tables"]
    assert not [argument for argument in asked if re.search("gpu|gres", argument)]
    assert {"--cpus-per-task=1", "--time=60", "--mem=4000"} < set(asked)


def test_no_retry_hides_a_refusal(requests):
    assert sorted(requests) == ["synthesize", "tables", "train"]


def test_a_workstation_uses_its_gpus(fresh, tmp_path):
    """Six GPUs: a training on four of them, every other GPU job on one."""
    (tmp_path / "config.yaml").write_text(edited("workstation", {"GPUS": 6}))
    command = ["snakemake", "--profile", str(tmp_path), "-n", "-p", "ade20k_segformer_mit-b4_real"]
    done = subprocess.run(command, cwd=fresh, env=environment(fresh), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torchrun --standalone --nproc-per-node 4 ") == 1
    settings = rendered("workstation", {"GPUS": 6})
    assert settings["resources"] == {"gpu": 6}
    assert "resources" not in rendered("workstation", {"GPUS": 0})


def test_apptainer_runs_a_job_in_the_images_environment(tmp_path):
    """With stand-ins for Apptainer and the image's conda: the profile's settings, `container`, the folder's name."""
    clients = tmp_path / "bin"
    (clients / "activated/bin").mkdir(parents=True)
    (clients / "activated/bin/activate").touch()
    conda = f"""case "$*" in
    "info --json") echo '{{"conda_prefix": "{clients}/activated", "platform": "linux-64"}}';;
    --version) echo conda 25.3.1;;
    *) echo '{{}}';;
esac"""
    apptainer = f"""echo "$@" >> {tmp_path}/asked
[ "$1" = --version ] && exec echo apptainer version 1.3.0
case "${{@: -1}}" in "[ -d "*) ;; *) exec bash -c "${{@: -1}}";; esac"""
    for name, text in {"conda": conda, "apptainer": apptainer}.items():
        (clients / name).write_text(f"#!/bin/bash\n{text}\n")
        (clients / name).chmod(0o755)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text(edited("slurm", {"SOFTWARE": "apptainer"}))
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--profile", "profile", "--executor", "local"]
    command += ["--cores", "1", "results/miniworld/raw.tsv", "--configfile", ROOT / "config/demo.yaml"]
    command += ["--config", "container=freemask.sif"]
    env = environment(tmp_path)
    env["PATH"] = f"{clients}:{env['PATH']}"
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()[-1]
    made = subprocess.run("cat envs/cpu.yaml | md5sum", shell=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert re.search(rf"--nv .*freemask\.sif bash -c source \S+ '/conda-envs/{made.split()[0]}'", asked)
    assert "scripts/make_miniworld.py" in asked
