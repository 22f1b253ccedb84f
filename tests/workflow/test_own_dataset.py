"""A data set that nothing in the repository knows goes through the whole chain by configuration alone.

Three classes, other label numbers, 255 ignored, images of several sizes that aren't square. Snakemake plans the jobs;
their command lines then run in this process, which saves a dozen starts of torch.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import load
from tiny_run import ROOT, read_yaml, write_yaml

from freemask import files

CLASSES = [(10, "sea", "#2060a0"), (20, "ship", "#c02020"), (200, "island", "#30a040")]
SIZES = [(48, 80), (72, 56), (64, 96)]
DATASET = {
    "title": "Harbour", "root": "data/harbour", "images": {"train": "train/rgb", "val": "val/rgb"},
    "masks": {"train": "train/labels", "val": "val/labels"}, "image_suffix": "_rgb.jpg", "mask_suffix": "_labels.png",
    "classes": "config/datasets/harbour.tsv", "ignored_label": 255, "mask_size": 64,
}  # fmt: skip
ROWS = [("real", "real", ""), ("joint", "joint", "filtered")]
WEIGHTS = "results/harbour/training/joint/seed-0/weights.pth"


@dataclass(frozen=True)
class Job:
    """One job of a dry run."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    gpu: bool
    command: str


def write_data(root: Path, split: str, count: int, seed: int) -> None:
    """Sea, an island and a ship; a frame of ignored pixels."""
    random = np.random.default_rng(seed)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        mask = np.full((height, width), 10, np.uint8)
        y, x = random.integers(4, height - 20), random.integers(4, width - 30)
        mask[y : y + 14, x : x + 24] = 200 if number % 2 else 20
        mask[:2], mask[:, -3:] = 255, 255
        image = np.stack([mask, 255 - mask, mask // 2], axis=-1).astype(np.uint8)
        files.write_atomic(root / split / "rgb" / f"{number:03d}_rgb.jpg", files.jpeg_bytes(image, 95))
        files.write_atomic(root / split / "labels" / f"{number:03d}_labels.png", files.png_bytes(mask))


def write_configuration(folder: Path) -> None:
    """What docs/your-own-dataset.md tells a user to write; the demo's model and generator."""
    write_yaml(folder / "config/datasets/harbour.yaml", DATASET)
    lines = ["label\tname\tword\tcolor", *(f"{label}\t{name}\t{name}\t{color}" for label, name, color in CLASSES)]
    (folder / DATASET["classes"]).write_text("\n".join(lines) + "\n")
    model = read_yaml(ROOT / "config/models.yaml")["segformer_mini"]
    model |= {"iterations": {"harbour": 3}, "batch_size": 2}
    model["overrides"]["val_dataloader"]["batch_size"] = 1  # images of several sizes can't share a batch
    write_yaml(folder / "config/models.yaml", {"mini": model})
    rows = ["experiment\tdataset\tmodel\tregime\tschedule\tsynthetic_set\ttrain_seeds"]
    rows += [f"{name}\tharbour\tmini\t{regime}\t1\t{chosen}\t0" for name, regime, chosen in ROWS]
    (folder / "config/experiments.tsv").write_text("\n".join(rows) + "\n")
    config = read_yaml(ROOT / "config/demo.yaml")
    config |= {"datasets": ["harbour"], "experiments": "config/experiments.tsv", "models": "config/models.yaml"}
    config["generators"]["miniature"] |= {"dataset": "harbour", "steps": 2, "batch_size": 2}
    config["plans"] = {"two": {"strategy": "hardness", "n_max": 2, "first_seed": 1}}
    config["synthetic_sets"] = {
        "filtered": {"dataset": "harbour", "generator": "miniature", "plan": "two", "alpha": 1.25}
    }
    config["scorers"] = {"harbour": {"experiment": "real", "train_seed": 0}}
    comparison = {"baseline": "real", "improved": "joint", "contact_sheet": "filtered", "top_classes": 3}
    config["report"] = {"harbour": comparison}
    write_yaml(folder / "config/config.yaml", config)


def plan(folder: Path) -> list[Job]:
    """All jobs of a dry run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "-p"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    jobs = []
    for block in re.split(r"^(?:local)?rule ", ran.stdout + ran.stderr, flags=re.MULTILINE)[1:]:
        lists = {key: re.search(rf"^    {key}: (.*)$", block, re.MULTILINE) for key in ("input", "output", "resources")}
        command = re.search(r"python (scripts/\w+\.py .*)", block)
        inputs, outputs = (tuple(lists[key][1].split(", ")) if lists[key] else () for key in ("input", "output"))
        gpu = "gpu=" in (lists["resources"][1] if lists["resources"] else "")
        jobs.append(Job(block.split(":")[0], inputs, outputs, gpu, command[1] if command else ""))
    return jobs


def needed(jobs: list[Job], wanted: tuple[str, ...]) -> list[Job]:
    """The jobs that make the wanted files, and all that these wait for."""
    direct = [job for job in jobs if set(job.outputs) & set(wanted)]
    before = [needed(jobs, job.inputs) for job in direct]
    return list(dict.fromkeys([*direct, *(job for part in before for job in part)]))


def run(jobs: list[Job]) -> list[str]:
    """Run the jobs' command lines in this process, each when its inputs are there; the rules in their order."""
    waiting, done = list(jobs), []
    while waiting:
        ready = next(job for job in waiting if all(Path(path).exists() for path in job.inputs))
        waiting.remove(ready)
        if ready.command:
            script, *arguments = shlex.split(ready.command)
            module = load(Path(script).stem)
            module.main(module.options().parse_args(arguments))
            assert all(Path(path).exists() for path in ready.outputs), ready
            done.append(ready.rule)
    return done


@pytest.fixture(scope="module")
def harbour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harbour")
    for shared in ("scripts", "freemask", "resources", "profiles", "rules", "config/schemas", "config/reported.yaml"):
        (folder / shared).parent.mkdir(exist_ok=True)
        (folder / shared).symlink_to(ROOT / shared)
    (folder / "config/datasets").mkdir()
    write_data(folder / "data/harbour", "train", 6, 0)
    write_data(folder / "data/harbour", "val", 3, 1)
    write_configuration(folder)
    return folder


@pytest.fixture(scope="module")
def jobs(harbour):
    return plan(harbour)


def test_no_gpu_job_starts_before_both_splits_are_checked(jobs):
    on_gpu = [job for job in jobs if job.gpu]
    assert {"train", "class_loss", "synthesize", "measure_margins", "evaluate"} <= {job.rule for job in on_gpu}
    for job in on_gpu:
        checks = {
            path for before in needed(jobs, job.inputs) if before.rule == "check_dataset" for path in before.outputs
        }
        assert checks == {f"results/harbour/check/{split}.tsv" for split in ("train", "val")}, job


def test_the_whole_chain_by_configuration_alone(harbour, jobs, monkeypatch):
    monkeypatch.chdir(harbour)
    done = run(needed(jobs, (WEIGHTS,)))
    assert done.count("train") == 2 and done.index("check_dataset") < done.index("resize_masks")
    frequencies = files.read_table("results/harbour/check/train.tsv", ["label", "images"])
    assert dict(frequencies[["label", "images"]].itertuples(index=False)) == {10: 6, 20: 3, 200: 3}
    pairs = files.read_table("results/harbour/synthetic/filtered/train.tsv", ["image", "mask", "filtered"])
    assert 6 < len(pairs) <= 12
    for row in pairs.itertuples():
        mask = files.read_mask(row.mask)
        assert mask.shape == files.read_image(row.image).shape[:2] == (64, 64)
        assert set(np.unique(mask)) <= {10, 20, 200, 255}
    assert Path(WEIGHTS).stat().st_size > 0
