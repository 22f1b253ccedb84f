"""A data set that nothing in the repository knows goes through the whole chain by configuration alone.

Three classes, other label numbers, 255 ignored, images of several sizes that aren't square; one YAML file for the data
set, which with the others stands in docs/own-dataset.md. Snakemake plans the jobs; their command lines then run in
this process, which saves two dozen starts of torch.
"""

import math
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import run_line
from tiny_run import ROOT, read_yaml, write_yaml

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.filtering.sets import mask_filters, read_filtered
from freemask.segmentation.outputs import read_confusion

PAGE = ROOT / "docs/own-dataset.md"
LABELS, NAMES = [10, 20, 200], ["sea", "ship", "island"]
DATA = Path("elsewhere/the harbour")  # not where the page has it, and with a space
SIZES = [(48, 80), (72, 56), (64, 96)]
MORE = """synthetic	harbour	segformer_mini	synthetic	1	harbour-filtered	0
finetune	harbour	segformer_mini	finetune	1	harbour-filtered	0
unfiltered	harbour	segformer_mini	joint	1	harbour-unfiltered	0
"""
EXPERIMENTS = {"real", "real-2x", "joint", "synthetic", "finetune", "unfiltered"}


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
        files.write_atomic(root / split / "rgb" / f"{number:03d}_rgb.jpg", images.jpeg_bytes(image, 95))
        files.write_atomic(root / split / "labels" / f"{number:03d}_labels.png", images.png_bytes(mask))


def written_on_the_page() -> dict[str, str]:
    """The files that docs/own-dataset.md shows: path -> text."""
    text, found = PAGE.read_text(), {}
    for block in re.finditer(r"^```(yaml)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        before = text[: block.start()].rstrip().rpartition("\n\n")[2]
        if path := re.search(r"`(config/[\w./]+)`", before):
            found[path[1]] = block[2]
    return found


def write_configuration(folder: Path) -> None:
    """The page's files; the smallest possible numbers, the regimes that it leaves out, and no filter once."""
    page = written_on_the_page()
    for path, text in page.items():
        (folder / path).write_text(text)
    with open(folder / "config/harbour_experiments.tsv", "a") as file:
        file.write(MORE)
    model = read_yaml(ROOT / "config/models.yaml")["segformer_mini"]
    model |= {"iterations": {"harbour": 2}, "batch_size": 2, "workers": 0}  # no process to wait for
    write_yaml(folder / "config/models.yaml", {"segformer_mini": model})
    config = read_yaml(folder / "config/harbour_run.yaml")
    config["generators"]["harbour-generator"] |= {"steps": 2, "batch_size": 2}
    config["plans"]["hardness-8"]["n_max"] = 2
    chosen = config["synthetic_sets"]["harbour-filtered"]
    chosen["alpha"] = 0.9  # so that an untrained segmentor filters something
    config["synthetic_sets"]["harbour-unfiltered"] = chosen | {"alpha": math.inf}
    write_yaml(folder / "config/config.yaml", config | {"shards": 2, "data_roots": {"harbour": str(DATA)}})


def plan(folder: Path) -> list[Job]:
    """All jobs of a dry run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "-p"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    jobs = []
    for block in re.split(r"^(?:local)?rule ", ran.stdout + ran.stderr, flags=re.MULTILINE)[1:]:
        lists = {key: re.search(rf"^    {key}: (.*)$", block, re.MULTILINE) for key in ("input", "output", "resources")}
        command = re.search(r"python (\S*scripts/\w+\.py .*)", block)
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
            if ready.rule in ("train", "evaluate"):  # mmengine tells the runs of a process apart by whole seconds
                time.sleep(1.01 - time.time() % 1)
            run_line(Path(script).stem, arguments)
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
    assert len(written_on_the_page()) == 3
    write_data(folder / DATA, "train", 6, 0)
    write_data(folder / DATA, "val", 4, 1)
    write_configuration(folder)
    return folder


@pytest.fixture(scope="module")
def jobs(harbour):
    return plan(harbour)


def test_no_gpu_job_starts_before_both_splits_are_checked(jobs):
    on_gpu = [job for job in jobs if job.gpu and not job.rule.startswith("preflight")]
    assert {"train", "class_loss", "synthesize", "measure_margins", "evaluate"} <= {job.rule for job in on_gpu}
    for job in on_gpu:
        checks = {
            path for before in needed(jobs, job.inputs) if before.rule == "check_dataset" for path in before.outputs
        }
        assert checks >= {f"results/harbour/check/{split}.tsv" for split in ("train", "val")}, job


def test_the_whole_chain_by_configuration_alone(harbour, jobs, monkeypatch):
    monkeypatch.chdir(harbour)
    done = run(jobs)
    assert set(Counter(done).items()) >= {("train", 6), ("evaluate", 6), ("filter_masks", 4), ("synthesize", 2)}
    assert done.index("check_dataset") < done.index("resize_masks")
    results = Path("results/harbour")
    frequencies = tables.read_table(results / "check/train.tsv", ["label", "images"])
    assert dict(frequencies[["label", "images"]].itertuples(index=False)) == {10: 6, 20: 3, 200: 3}
    space = LabelSpace.read(results / "label_space.json")
    for name, ignored in (("filtered", {255}), ("unfiltered", set())):
        pairs = tables.read_table(results / f"synthetic/harbour-{name}/train.tsv", ["image", "mask", "filtered"])
        assert 6 < len(pairs) <= 12 and (pairs.filtered > 0).any() == bool(ignored)
        for row, mask_filter in zip(pairs.itertuples(), mask_filters(pairs), strict=True):
            mask = read_filtered(row.mask, mask_filter, space)
            assert mask.shape == images.read_image(row.image).shape[:2] == (64, 64)
            assert set(np.unique(mask)) <= {10, 20, 200, 255}
    for table in ("class_loss", "synthetic/harbour-filtered/classes", "tables/per_class_iou", "tables/most_improved"):
        assert sorted(tables.read_table(results / f"{table}.tsv", ["name"]).name) == sorted(NAMES), table
    for experiment in EXPERIMENTS:
        made = results / f"training/{experiment}/seed-0"
        ious = tables.read_table(made / "per_class_iou.tsv", ["label", "name", "iou"])
        assert ious.label.tolist() == LABELS
        assert files.read_json(made / "metrics.json")["mIoU"] == pytest.approx(ious.iou.mean())
        seen, counted = read_confusion(made / "confusion.tsv")
        assert seen == NAMES and counted.sum() == labelled_pixels(DATA / "val/labels")


def labelled_pixels(folder: Path) -> int:
    """Pixels of all masks that aren't ignored."""
    return sum(int((images.read_mask(path) != 255).sum()) for path in folder.iterdir())


def test_the_chain_ends_in_tables_and_figures(harbour, jobs):
    made = {path for job in jobs for path in job.outputs if "/tables/" in path or "/figures/" in path}
    wanted = {"tables/miou.md", "tables/most_improved.tsv", "figures/contact_sheet.png", "figures/class_loss.png",
              "figures/hardness.png", "figures/filtered_share.pdf", "figures/most_improved.pdf",
              "figures/predictions.png", "figures/confusion.png", "figures/training.png"}  # fmt: skip
    assert {f"results/harbour/{path}" for path in wanted} <= made
    for path in made:
        assert (harbour / path).stat().st_size > 0, path
    table = (harbour / "results/harbour/tables/miou.md").read_text()
    assert all(f"| {text} |" in table for text in ("real", "synthetic", "synthetic, then real", "real + synthetic"))
