"""Evaluation files as a finished run of the paper leaves them, made from the reported numbers: no GPU, no data.

mIoU of every pair on real images and in joint training, and the gains of the ten classes of the supplement, are exactly
the reported ones; all else is made up.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from freemask import files, tables
from freemask.data.label_space import LabelSpace
from freemask.reporting.reported import read_all_reported
from freemask.segmentation.areas import NAME, Areas, write_areas
from freemask.segmentation.experiments import read_all_experiments
from freemask.segmentation.outputs import write_confusion, write_ious

CONFIG = Path(__file__).resolve().parents[2] / "config"
REPORTED = read_all_reported(CONFIG / "reported.yaml")
IMAGES = {"ade20k": 2000, "cocostuff164k": 5000}
IGNORED = {"ade20k": 0, "cocostuff164k": 255}
ABSENT = {"ade20k": [], "cocostuff164k": ["hair drier"]}  # in no validation mask and no prediction
LOST = 30  # hundredths of a point that every ablation is below the main row
UNION = 10_000  # pixels of a class in an image that shows it: IoU comes out exactly to 0.01 points


def write(folder: Path, dataset: str, images: int | None = None, ablations: int = 0) -> Path:
    """Write what evaluations of a data set leave, for rows of config/experiments.tsv.

    Args:
        folder: Where results/ is made.
        dataset: ade20k or cocostuff164k.
        images: Validation images (default: the data set's number).
        ablations: Number of ablations that are made, beside the main rows.
    Returns: results/<dataset>.
    """
    made = folder / "results" / dataset
    space = LabelSpace.of_class_table(CONFIG / f"datasets/{dataset}.tsv", IGNORED[dataset])
    space.write(made / "label_space.json")
    counts = " ".join(f"{label}:{1000 + 7 * position}" for position, label in enumerate(reversed(space.ids)))
    masks = pd.DataFrame({"mask_id": ["a"], "mask": ["a.png"], "counts": [counts]})
    tables.write_table(made / "masks.tsv", masks, counted=True)
    for row in rows_of(dataset, ablations).itertuples():
        ious = iou_of(dataset, space.names, row.model, row.regime, row.schedule)
        if row.study == "ablation":
            ious = np.where(ious >= LOST, ious - LOST, ious)
        areas = areas_of(ious, space, images or IMAGES[dataset], row.Index)
        for seed in row.train_seeds:
            write_evaluation(made / f"training/{row.experiment}/seed-{seed}", space, areas)
    return made


def rows_of(dataset: str, ablations: int) -> pd.DataFrame:
    """The main rows of a data set, and so many of its ablations."""
    rows = read_all_experiments(CONFIG / "experiments.tsv")
    rows = rows[rows.dataset == dataset]
    changed = rows[rows.study == "ablation"].head(ablations)
    return pd.concat([rows[rows.study == "main"], changed]).reset_index(drop=True)


def iou_of(dataset: str, names: tuple[str, ...], model: str, regime: str, schedule: int) -> np.ndarray:
    """(K,) IoU in hundredths of a point, whole numbers; -1 for an absent class.

    On real images the mean is the reported one, in joint training as well. Of the joint gain, a longer schedule
    gives a third, fine-tuning a half; a training on synthetic images alone is 0.2 points below real images.
    """
    reported = {row["model"]: row for row in REPORTED[dataset]}[model]
    ten = {row["class"]: row["gain"] for row in REPORTED.get(f"most_improved_{dataset}", [])}
    seen = np.array([name not in ABSENT[dataset] for name in names])
    listed = np.array([name in ten for name in names])
    real, gain = np.full(len(names), -1), np.zeros(len(names), int)
    real[listed] = 1000 + 100 * np.arange(listed.sum())
    gain[listed] = [round(100 * ten[name]) for name in np.array(names)[listed]]
    others = seen & ~listed
    number = int(others.sum())
    total = round(100 * reported["real"]) * int(seen.sum()) - int(real[listed].sum())
    real[others] = spread(total, number, 2500)
    gained = round(100 * (reported["joint"] - reported["real"])) * int(seen.sum()) - int(gain[listed].sum())
    gain[others] = np.random.default_rng(1).permutation(spread(gained, number, 300))
    share = {"real": (gain // 3) * (schedule > 1), "synthetic": np.full(len(names), -20), "finetune": gain // 2}
    return np.where(seen, real + share.get(regime, gain), -1)


def spread(total: int, number: int, reach: int) -> np.ndarray:
    """Whole numbers with a sum, evenly from `reach` below their mean to `reach` above it."""
    around = np.linspace(-reach, reach, number).round().astype(int)
    values = total // number + around
    left = total - int(values.sum())
    values += left // number
    values[: left % number] += 1
    return values


def areas_of(ious: np.ndarray, space: LabelSpace, images: int, number: int) -> Areas:
    """Areas whose sums give these IoU [hundredths of a point]; which images show a class doesn't depend on `number`."""
    places, noise = np.random.default_rng(0), np.random.default_rng([2, number])
    shown = np.zeros((images, len(ious)), bool)
    hits = np.zeros(shown.shape, int)
    for position, iou in enumerate(ious):
        count = 2 * max(2, round(images * 10 ** places.uniform(-2.6, -0.8) / 2))  # even: noise comes in pairs
        rows = places.choice(images, count, replace=False)
        if iou >= 0:
            shown[rows, position] = True
            pairs = noise.integers(0, min(iou, UNION - iou) + 1, count // 2)
            hits[rows, position] = iou + np.concatenate([pairs, -pairs])
    union = shown * UNION
    mask_ids = np.array([f"val_{row:05d}" for row in range(images)])
    return Areas(mask_ids, np.array(space.ids), hits, union, (hits + union) // 2)


def write_evaluation(folder: Path, space: LabelSpace, areas: Areas) -> None:
    """Write metrics.json, per_class_iou.tsv, image_areas.npz and confusion.tsv of one evaluation."""
    hits, truth = areas.intersection.sum(0), areas.truth.sum(0)
    with np.errstate(invalid="ignore"):
        accuracy = 100 * hits / truth
    write_areas(folder / NAME, areas)
    write_ious(folder / "per_class_iou.tsv", space, areas.iou(), accuracy)
    confusion = np.diag(hits) + np.roll(np.diag(truth - hits), 1, axis=1)  # misses go to the next class
    write_confusion(folder / "confusion.tsv", confusion, space)
    found = {"mIoU": np.nanmean(areas.iou()), "mAcc": np.nanmean(accuracy), "aAcc": 100 * hits.sum() / truth.sum()}
    how = {"checkpoint": "last", "iterations": 160_000, "scales": [1.0], "flip": False}
    files.write_json(folder / "metrics.json", found | how | {"images": len(areas.mask_ids)})
