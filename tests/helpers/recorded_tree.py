"""What else the paper's run leaves beside its evaluations (see `recorded`): logs, curves, times, a few small pictures.

Files of 13 pairs of model and data set in five regimes. `python tests/helpers/recorded_tree.py FOLDER` writes them.
"""

import json
import sys
from pathlib import Path

import numpy as np
import packed
import pandas as pd
import recorded

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path
from rules import load_rules

ITERATIONS, PICTURES, TRAINED_ON = 160000, 4, "Tesla V100-SXM2-32GB"
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


def make(folder: Path, images: int | None = None, ablations: int = 0, side: int = 48) -> dict:
    """Write the tree of config/experiments.tsv; returns the facts of the page (see write_report).

    Args:
        folder: Where results/ and logs/ go.
        images: Validation images (default: the data sets' numbers).
        ablations: Number of ablations of each data set that are made.
        side: Of pictures [pixels].
    """
    facts = json.loads(load_rules()["write_report"].params.facts(None))
    for dataset, own in facts.items():
        random = np.random.default_rng(len(dataset))
        results = recorded.write(folder, dataset, images, ablations)
        space, rows = LabelSpace.read(results / "label_space.json"), recorded.rows_of(dataset, ablations)
        changed = rows[rows.study == "ablation"]
        own["ablations"] = changed.experiment.tolist()
        for name in changed.synthetic_set:
            own["sets"].setdefault(name, {**own["sets"][own["contact_sheet"]], "alpha": name.rpartition("-")[2]})
        make_data(results, space, own, random, side)
        for row in rows.itertuples():
            for seed in row.train_seeds:
                make_training(folder, row, seed)
                write_pictures(results / f"training/{row.experiment}/seed-{seed}/predictions", space, random, side)
    return facts


def make_training(folder: Path, row: object, seed: int) -> None:
    """Write what a training leaves, and the logs of it and its evaluation."""
    made = folder / "results" / row.dataset / "training" / row.experiment / f"seed-{seed}"
    iterations = ITERATIONS * row.schedule
    files.write_atomic(
        made / "config.py", f"experiment = {{'name': '{row.experiment}'}}\n".encode() + b"# a line\n" * 200
    )
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


if __name__ == "__main__":
    make(Path(sys.argv[1]))
