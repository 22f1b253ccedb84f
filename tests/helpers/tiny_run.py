"""A copy of the repository with a configuration so small that the whole chain takes about two minutes on two cores."""

import copy
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import yaml

from freemask import packs

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "rules", "scripts", "freemask", "config", "profiles", "report", "envs", "resources"]
CONFIG = "config/tiny.yaml"
WORLD = {"training": 6, "validation": 4, "image_size": 64, "world_seed": 5}
ROWS = [
    ("real", "tiny", "real", ""),
    ("synthetic", "tiny", "synthetic", "filtered"),
    ("finetune", "tiny", "finetune", "filtered"),
    ("joint", "tiny", "joint", "filtered"),
    ("joint-unfiltered", "other", "joint", "unfiltered"),
]
Job = tuple[str, str]  # rule, wildcards as Snakemake prints them


def copy_repository(folder: Path) -> Path:
    """Copy what a run needs, as a clone would have it."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    (folder / "slurm").symlink_to("profiles/slurm")
    return folder


def configure(folder: Path) -> None:
    """Write the tiny configuration: data set, models, experiments and the run itself."""
    world = folder / "config/datasets/miniworld.yaml"
    write_yaml(world, read_yaml(world) | {"miniworld": WORLD})
    model = read_yaml(folder / "config/models.yaml")["segformer_mini"]
    model |= {"iterations": {"miniworld": 12}, "batch_size": 4}
    model["overrides"]["default_hooks"] = {"checkpoint": {"interval": 4}, "logger": {"interval": 2}}
    other = copy.deepcopy(model)
    other["overrides"]["train_cfg"] = {"val_interval": 6}  # so that it has a best checkpoint
    write_yaml(folder / "config/tiny_models.yaml", {"tiny": model, "other": other})
    lines = ["experiment\tdataset\tmodel\tregime\tschedule\tsynthetic_set\ttrain_seeds"]
    lines += [f"{name}\tminiworld\t{model}\t{regime}\t1\t{chosen}\t0" for name, model, regime, chosen in ROWS]
    (folder / "config/tiny_experiments.tsv").write_text("\n".join(lines) + "\n")
    write_yaml(folder / CONFIG, run_config(folder))


def run_config(folder: Path) -> dict:
    """Return the demo's configuration with fewer and quicker images."""
    config = read_yaml(folder / "config/demo.yaml")
    config |= {"experiments": "config/tiny_experiments.tsv", "models": "config/tiny_models.yaml"}
    config["generators"]["miniature"] |= {"steps": 2, "batch_size": 2}
    config["plans"] = {
        "hardness-2": {"strategy": "hardness", "n_max": 2, "first_seed": 42},
        "unrelated": {"strategy": "uniform", "n_max": 3, "first_seed": 1},
    }
    for chosen in config["synthetic_sets"].values():
        chosen["plan"] = "hardness-2"
    config["report"]["miniworld"].pop("control")
    return config


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def write_yaml(path: Path, value: object) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def change(path: Path, *keys: str, value: object) -> None:
    """Set one key, however deep, of a YAML file."""
    content = read_yaml(path)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    write_yaml(path, content)


def environment(folder: Path) -> dict[str, str]:
    """Return what the Makefile exports, with the copy's own library."""
    threads = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"], "1")
    paths = {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return {**os.environ, **threads, **paths, "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}


def snakemake(folder: Path, *arguments: str, config: str | None = CONFIG, timeout: float = 600) -> str:
    """Run Snakemake to a good end; returns what it printed."""
    done = run_snakemake(folder, *arguments, config=config, timeout=timeout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_snakemake(
    folder: Path, *arguments: str, config: str | None = CONFIG, timeout: float = 600
) -> subprocess.CompletedProcess:
    """Run Snakemake; stdout holds everything it printed, Snakemake's own lines included."""
    chosen = ["--configfile", config] if config else []
    command = [
        "snakemake",
        "--printshellcmds",
        *arguments,
        "--cores",
        "2",
        *chosen,
    ]  # --configfile takes all that follows it
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def planned(output: str) -> set[Job]:
    """Return the jobs that a run or dry run announces, without `all`."""
    return set(announced(output).values())


def announced(output: str) -> dict[str, Job]:
    """Return job number -> job from what Snakemake printed."""
    jobs = {}
    for block in re.split(r"^(?=(?:local)?rule )", output, flags=re.MULTILINE)[1:]:
        rule = re.match(r"(?:local)?rule ([\w.-]+):", block)[1]
        number = re.search(r"^    jobid: (\d+)", block, flags=re.MULTILINE)
        wildcards = re.search(r"^    wildcards: (.*)", block, flags=re.MULTILINE)
        if number and rule != "all":
            jobs[number[1]] = (rule, wildcards[1] if wildcards else "")
    return jobs


def rules(jobs: set[Job]) -> Counter:
    """Count jobs by rule."""
    return Counter(rule for rule, _ in jobs)


def told_to_cost(output: str) -> dict:
    """Return what `cost` is told of a run, from the printed command."""
    return json.loads(shlex.split(re.search(r"cost\.py .*", output)[0])[2])


def finished(folder: Path) -> list[Job]:
    """Return the jobs that all of Snakemake's runs in a folder have finished, once for each time."""
    done = []
    for log in sorted((folder / ".snakemake/log").glob("*.log")):
        text = log.read_text()
        jobs = announced(text)
        numbers = re.findall(r"^Finished jobid: (\d+)", text, flags=re.MULTILINE)
        done += [jobs[number] for number in numbers if number in jobs]
    return done


def hashes(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every result, and of every margin map in the packs.

    Left out: mmengine's work folders, the check's caches, records of raw files, the cost of trainings and preflight,
    which hold times and the state of the machine; the packs themselves, of which each job makes its own.
    """
    paths = [path for path in (folder / "results").rglob("*") if path.is_file() and "work" not in path.parts]
    paths = [path for path in paths if not path.name.endswith((".cache", ".files.json", ".tar", ".index"))]
    paths = [path for path in paths if path.parent.name != "preflight" and path.stem != "cost"]
    return {path: hashlib.sha256(content).hexdigest() for path, content in margin_maps(folder).items()} | {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if "report" not in path.parts[-2:]
    }


def margin_maps(folder: Path) -> dict[str, bytes]:
    """Return path -> bytes of every margin map that a table of measure_margins names."""
    named = [pd.read_csv(path, sep="\t", dtype=str) for path in folder.glob("results/*/margins/*/*/*.tsv")]
    table = pd.concat(named) if named else pd.DataFrame({"margin": [], "stamp": []})
    places = packs.find([f"{folder}/{path}" for path in table.margin], table.stamp.tolist())
    return {path: packs.read(place) for path, place in zip(table.margin, places, strict=True)}


def stamps(folder: Path, pattern: str) -> dict[Path, tuple[int, int]]:
    """Return path -> (inode, time of the last change): a file written again, even with the same bytes, differs."""
    found = {path: path.stat() for path in sorted(folder.glob(pattern))}
    return {path.relative_to(folder): (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}
