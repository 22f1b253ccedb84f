"""What the paper's run leaves, without running it: files of 13 pairs of model and data set in five regimes.

Evaluations, logs, curves, times, and a few small pictures. The numbers are made up, but for what the authors report:
the mIoU of real and joint trainings, and the gains of the ten classes that the supplement lists.
"""

import json
from pathlib import Path

import numpy as np
import packed
import pandas as pd

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path
from freemask.reporting.results import read_reported
from freemask.segmentation import outputs
from freemask.segmentation.experiments import read_all_experiments
from rules import ROOT, load_rules

ITERATIONS, PICTURES, TRAINED_ON = 160000, 4, "Tesla V100-SXM2-32GB"
GAINS = {("real", 1): 0, ("real", 2): 1.5, ("synthetic", 1): -1, ("finetune", 1): 1}  # points over the reported
COMMIT, TORCH = "0123456789ab", "9.8.7+cu111"  # unlike those of the process that makes the page
LOG = """2026-01-02 03:04:05,678 freemask.cli INFO: freemask 0.0.9, commit {commit}: scripts/{script}.py --config c.py
01/02 03:04:06 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    Python: 3.11.2 (main)
    GPU 0: {device}
    PyTorch: {torch}
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3

    OpenCV: 4.5.4

Runtime environment:
    cudnn_benchmark: True
{script}:  50%|####      | 80000/160000 [02:28<00:04, 10.04iteration/s]
01/02 13:04:06 - mmengine - INFO - the end of {script}
"""


def make(folder: Path, classes: dict[str, int] | None = None, ablations: int = 0, side: int = 48) -> dict:
    """Write the tree of config/experiments.tsv; returns the facts of the page (see write_report).

    Args:
        folder: Where results/ and logs/ go.
        classes: Of data sets, their classes that no validation image holds; the last so many.
        ablations: Number of ablations of each data set that are made.
        side: Of pictures [pixels].
    """
    facts = json.loads(load_rules()["write_report"].params.facts)
    experiments = read_all_experiments(ROOT / "config/experiments.tsv")
    for dataset, own in facts.items():
        rows = experiments[experiments.dataset == dataset]
        changed = rows[rows.study == "ablation"].head(ablations)
        own["ablations"] = changed.experiment.tolist()
        for name in changed.synthetic_set:
            own["sets"].setdefault(name, {**own["sets"][own["contact_sheet"]], "alpha": name.rpartition("-")[2]})
        make_dataset(
            folder,
            dataset,
            pd.concat([rows[rows.study == "main"], changed]),
            own,
            (classes or {}).get(dataset, 0),
            side,
        )
    return facts


def make_dataset(folder: Path, dataset: str, rows: pd.DataFrame, facts: dict, absent: int, side: int) -> None:
    """Write one data set's files."""
    random = np.random.default_rng(len(dataset))
    results = folder / "results" / dataset
    space = LabelSpace.of_class_table(ROOT / f"config/datasets/{dataset}.tsv", 255 if "coco" in dataset else 0)
    space.write(results / "label_space.json")
    make_data(results, space, facts, random, side)
    reported = {row["model"]: row for row in read_reported(ROOT / "config/reported.yaml", dataset)}
    gains = {
        row["class"]: row["gain"] for row in read_reported(ROOT / "config/reported.yaml", f"most_improved_{dataset}")
    }
    real = {model: make_ious(space, row["real"], gains, random, absent) for model, row in reported.items()}
    for row in rows.itertuples():
        goal = reported[row.model]["real"] + GAINS.get((row.regime, row.schedule), 0)
        if row.regime == "joint":
            goal = reported[row.model]["joint"] - 0.3 * (row.study == "ablation")
        ious = shifted(real[row.model], goal, space, gains if row.regime == "joint" else {})
        for seed in row.train_seeds:
            make_training(folder, row, seed, ious, space)
            write_pictures(results / "training" / row.experiment / f"seed-{seed}" / "predictions", space, random, side)


def make_ious(
    space: LabelSpace, miou: float, gains: dict[str, float], random: np.random.Generator, absent: int
) -> np.ndarray:
    """IoU of each class [percent] with a mean; low for classes that gain much; NaN for the last `absent` classes."""
    ious = np.clip(random.normal(miou, 12, len(space.ids)), 20, 80)
    for name, gain in gains.items():
        ious[space.names.index(name)] = min(20.0, 95 - gain)
    if absent:
        ious[-absent:] = np.nan
    return shifted(ious, miou, space, dict.fromkeys(gains, 0.0))


def shifted(ious: np.ndarray, miou: float, space: LabelSpace, gains: dict[str, float]) -> np.ndarray:
    """The same with these gains, and another mean by shifting all other classes."""
    fixed = np.isin(space.names, list(gains))
    moved = ious + np.array([gains.get(name, 0.0) for name in space.names])
    known = ~np.isnan(moved)
    moved[~fixed & known] += (miou - moved[known].mean()) * known.sum() / (~fixed & known).sum()
    return moved


def make_training(folder: Path, row: object, seed: int, ious: np.ndarray, space: LabelSpace) -> None:
    """Write what a training and its evaluation leave."""
    made = folder / "results" / row.dataset / "training" / row.experiment / f"seed-{seed}"
    iterations = ITERATIONS * row.schedule
    outputs.write_ious(made / "per_class_iou.tsv", space, ious, ious)
    metrics = {"mIoU": float(np.nanmean(ious)), "mAcc": 60.0, "aAcc": 80.0, "iterations": iterations, "images": 2000}
    files.write_json(made / "metrics.json", {**metrics, "checkpoint": "last", "scales": [1.0], "flip": False})
    files.write_atomic(
        made / "config.py", f"experiment = {{'name': '{row.experiment}'}}\n".encode() + b"# a line\n" * 200
    )
    counts = np.eye(len(space.ids), dtype=np.int64) * 900
    counts[:, 0] += 100 * ~np.isnan(ious)
    outputs.write_confusion(made / "confusion.tsv", counts * ~np.isnan(ious)[:, None], space)
    steps = np.arange(50, iterations + 1, 800)
    lines = [{"step": int(step), "loss": float(2 / (1 + step / 4000) + 0.3), "lr": 0.1} for step in steps]
    lines += [{"step": int(step), "mIoU": float(40 - 2e5 / step)} for step in range(16000, iterations + 1, 16000)]
    files.write_atomic(made / "work/20260102_030405/vis_data/scalars.json", "\n".join(map(json.dumps, lines)).encode())
    segment = {
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 36000.0,
        "gpus": 8,
        "device": TRAINED_ON,
        "inputs": "55aa",
    }
    files.write_json(made / "work/time/20260102_030405.json", segment)
    for script in ("train", "evaluate"):
        text = LOG.format(commit=COMMIT, script=script, device=TRAINED_ON, torch=TORCH)
        files.write_atomic(folder / f"logs/{row.dataset}/{script}/{row.experiment}/seed-{seed}.log", text.encode())


def make_data(results: Path, space: LabelSpace, facts: dict, random: np.random.Generator, side: int) -> None:
    """Write tables of masks and classes, a few pictures, and every synthetic set, whose images are the same."""
    labels = list(space.ids)
    pixels = random.integers(1000, 10**7, len(labels))
    loss = pd.DataFrame(
        {"label": labels, "name": space.names, "loss_sum": pixels * 0.5, "pixels": pixels, "class_loss": 0.5}
    )
    tables.write_table(results / "class_loss.tsv", loss)
    masks, index, train = [], [], []
    for number in range(8):
        mask_id, mask = f"m{number}", draw(space, random, side)
        path, real = mask_path(results / "masks", mask_id), results / f"real/{mask_id}.jpg"
        files.write_atomic(path, images.png_bytes(mask))
        files.write_atomic(real, images.jpeg_bytes(space.colorize(mask), 90))
        found, counts = np.unique(mask, return_counts=True)
        shown = [f"{one}:{count}" for one, count in zip(found, counts, strict=True) if one in space.ids]
        masks.append([mask_id, path, " ".join(shown)])
        index.append([mask_id, real, path])
        for seed in range(42, 46):
            margin = f"{results}/margins/{mask_id}-{seed}.png"
            packed.pack({margin: random.integers(0, 90, mask.shape).astype(np.uint8)}, ["55"])
            train.append([real, path, margin, "55", "margin", 1.25, mask_id, seed, 0.25, "77"])
    tables.write_table(results / "masks.tsv", pd.DataFrame(masks, columns=["mask_id", "mask", "counts"]))
    for split in ("train", "val"):
        tables.write_table(results / f"index/{split}.tsv", pd.DataFrame(index, columns=["mask_id", "image", "mask"]))
    columns = ["image", "mask", "margin", "stamp", "filter", "alpha", "mask_id", "seed", "filtered", "digest"]
    shares = pd.DataFrame(
        {"label": labels, "name": space.names, "pixels": pixels, "filtered": pixels // 4, "share": 0.25}
    )
    for name in facts["sets"]:
        tables.write_table(results / f"synthetic/{name}/train.tsv", pd.DataFrame(train, columns=columns))
        tables.write_table(results / f"synthetic/{name}/classes.tsv", shares)


def draw(space: LabelSpace, random: np.random.Generator, side: int) -> np.ndarray:
    """A mask of four stripes."""
    mask = np.zeros((side, side), np.uint8)
    for place, label in enumerate(random.choice(space.ids, 4, replace=False)):
        mask[place * side // 4 : (place + 1) * side // 4] = label
    return mask


def write_pictures(folder: Path, space: LabelSpace, random: np.random.Generator, side: int) -> None:
    """Write predictions."""
    for place in range(1, PICTURES + 1):
        files.write_atomic(folder / f"{place}.png", images.png_bytes(draw(space, random, side)))
