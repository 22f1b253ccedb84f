"""From evaluated segmentors to tables: mIoU with its gains [percent, points].

An experiment is one row of config/experiments.tsv; each of its train seeds is one trained and evaluated segmentor.
Gains are paired: the difference is taken seed by seed, then averaged. Deviations are sample standard deviations.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freemask.errors import InputError
from freemask.files import read_json
from freemask.reporting.intervals import Interval, SameImages, gain_interval, resampled_ious
from freemask.segmentation.outputs import read_ious

METRICS = ["mIoU", "rare_mIoU", "mAcc", "aAcc", "best_mIoU"]
TEST_METRICS = ["test_mIoU", "best_test_mIoU"]  # of a data set with a test split
# Of a metrics.json without these.
DEFAULTS = {"checkpoint": "last", "scales": [1.0], "flip": False, "best_mIoU": math.nan, "images": math.nan}
BASELINES = {"real": 1, "real_2x": 2}  # regime real at one and at twice the model's schedule
RARE = 0.25  # the rare group: this share of the classes, those with the fewest pixels in the real training masks


def trainings(training: Path, experiments: pd.DataFrame) -> Iterator[tuple[str, int, Path]]:
    """Experiment, train seed and folder, <training>/<experiment>/seed-<s>, of each training of a table."""
    for experiment, seeds in zip(experiments.experiment, experiments.train_seeds, strict=True):
        for seed in seeds:
            yield experiment, seed, training / experiment / f"seed-{seed}"


def read_results(
    training: Path, experiments: pd.DataFrame, rare: list[int], best: list[str], tested: list[str] = ()
) -> tuple[pd.DataFrame, dict[str, list[pd.DataFrame]]]:
    """Read the metrics of every experiment and train seed, and their tables of IoU per class.

    Args:
        training: Folder of <experiment>/seed-<s>/{metrics.json,per_class_iou.tsv}.
        experiments: experiment, train_seeds.
        rare: Labels of the rare group.
        best: Experiments whose best checkpoint was evaluated as well: best/metrics.json.
        tested: Experiments that were evaluated on the test split: test/metrics.json, and best/test/metrics.json.
    Returns: One row per training, as `summarize` takes them; of each experiment, a table per train seed.
    Raises: InputError for a file that isn't there or lacks a metric.
    """
    rows: list[dict[str, Any]] = []
    ious: dict[str, list[pd.DataFrame]] = {name: [] for name in experiments.experiment}
    for experiment, seed, folder in trainings(training, experiments):
        metrics = DEFAULTS | read_json(folder / "metrics.json")
        missing = [key for key in ("mIoU", "mAcc", "aAcc", "iterations") if key not in metrics]
        if missing:
            raise InputError(f"{folder / 'metrics.json'}: {missing[0]} is missing; evaluate again")
        if experiment in best:
            metrics["best_mIoU"] = _miou(folder / "best")
        if tested:
            metrics |= dict.fromkeys(TEST_METRICS, math.nan)
        if experiment in tested:
            metrics["test_mIoU"] = _miou(folder / "test")
            metrics["best_test_mIoU"] = _miou(folder / "best/test") if experiment in best else math.nan
        per_class = read_ious(folder / "per_class_iou.tsv")
        ious[experiment].append(per_class)
        metrics["rare_mIoU"] = per_class.iou[per_class.label.isin(rare)].mean()  # without absent classes
        rows.append({"experiment": experiment, "train_seed": seed} | metrics)
    return pd.DataFrame(rows), ious


def _miou(folder: Path) -> float:
    return read_json(folder / "metrics.json")["mIoU"]


def resample_mious(training: Path, experiments: pd.DataFrame) -> dict[str, dict[int, np.ndarray | None]]:
    """Resampled mIoU, (RESAMPLES,) percent, of every experiment and train seed; None where no areas were kept.

    Args:
        training: Folder of <experiment>/seed-<s>/per_class_iou.tsv.
        experiments: experiment, train_seeds.
    """
    images = SameImages()
    found: dict[str, dict[int, np.ndarray | None]] = {name: {} for name in experiments.experiment}
    for experiment, seed, folder in trainings(training, experiments):
        areas = images.read(folder / "per_class_iou.tsv")
        found[experiment][seed] = None if areas is None else np.nanmean(resampled_ious(areas), axis=1)
    return found


def rare_labels(pixels: dict[int, int]) -> list[int]:
    """Labels of the rare group: the quarter of the classes (rounded up) with the fewest pixels; ties by label."""
    return sorted(sorted(pixels), key=lambda label: pixels[label])[: math.ceil(RARE * len(pixels))]


def summarize(
    experiments: pd.DataFrame,
    metrics: pd.DataFrame,
    resampled: dict[str, dict[int, np.ndarray | None]] | None = None,
) -> pd.DataFrame:
    """One row per experiment: mean and deviation of mIoU over train seeds, gains over the model's baselines.

    Args:
        experiments: experiment, model, regime, schedule, synthetic_set, balance.
        metrics: experiment, train_seed, METRICS, iterations, checkpoint. All metrics are of that checkpoint (last or
            best), but best_mIoU is of the best one, NaN without one. With a test split TEST_METRICS.
        resampled: As `resample_mious` gives it (default: no areas).
    Returns: These columns of experiments, seeds (their number), images (validation images), iterations, checkpoint,
        mean and <metric>_std of METRICS, clearly_best (see `clearly_best`), mIoU_seed_<s>, and of gain_over_real and
        gain_over_real_2x [points of mIoU]: mean, _std, _low and _high (the interval's ends), _interval (over what).
        With a test split mean and _std of TEST_METRICS, and test_gain_over_real(_std).
    """
    resampled = resampled or {name: dict.fromkeys(part.train_seed) for name, part in metrics.groupby("experiment")}
    of_each = metrics.groupby("experiment")
    images = of_each.images.first() if "images" in metrics else math.nan
    columns = {"seeds": of_each.size(), "images": images, "iterations": of_each.iterations.first()}
    columns["checkpoint"] = of_each.checkpoint.agg(lambda checkpoints: "/".join(sorted(set(checkpoints))))
    names = [*METRICS, *(name for name in TEST_METRICS if name in metrics)]
    mean, std = of_each[names].mean(skipna=False), of_each[names].std(skipna=False)
    for metric in names:
        columns |= {metric: mean[metric], f"{metric}_std": std[metric]}
    miou = metrics.pivot(index="train_seed", columns="experiment", values="mIoU")
    for key in BASELINES:
        over = _baseline_of(key, experiments)
        gains = _gains(over, miou)
        columns |= {f"gain_over_{key}": gains.mean(), f"gain_over_{key}_std": gains.std()}
        columns |= dict(_intervals(over, resampled).add_prefix(f"gain_over_{key}_").items())
    columns["clearly_best"] = clearly_best(experiments, mean.mIoU, resampled)
    if "test_mIoU" in metrics:
        on_test = metrics.pivot(index="train_seed", columns="experiment", values="test_mIoU")
        gains = _gains(_baseline_of("real", experiments), on_test)
        columns |= {"test_gain_over_real": gains.mean(), "test_gain_over_real_std": gains.std()}
    columns |= {f"mIoU_seed_{seed}": row for seed, row in miou.iterrows()}
    own = experiments[["experiment", "model", "regime", "schedule", "synthetic_set", "balance"]]
    own = own.astype({"schedule": float}).set_index("experiment", drop=False)
    return own.assign(**columns).reset_index(drop=True)


def _baseline_of(key: str, experiments: pd.DataFrame) -> dict[str, str | None]:
    """The baseline (a key of BASELINES) of each experiment's model; None where it is the experiment itself, or none."""
    real = experiments[(experiments.regime == "real") & (experiments.schedule == BASELINES[key])]
    of_model = dict(zip(real.model, real.experiment, strict=True))
    pairs = zip(experiments.experiment, experiments.model, strict=True)
    return {name: None if of_model.get(model) == name else of_model.get(model) for name, model in pairs}


def _gains(over: dict[str, str | None], miou: pd.DataFrame) -> pd.DataFrame:
    """Gains of experiments (columns) over their baselines by train seed (rows), of such mIoU; NaN without a number."""
    gains = {name: miou[name] - miou[baseline] if baseline else math.nan for name, baseline in over.items()}
    return pd.DataFrame(gains, index=miou.index)


def _intervals(over: dict[str, str | None], resampled: dict[str, dict]) -> pd.DataFrame:
    """Intervals of these gains: low, high [points], interval (over what)."""
    found = [gain_interval(resampled[base], resampled[name]) if base else Interval() for name, base in over.items()]
    rows = [(float(one.low), float(one.high), one.over) for one in found]
    return pd.DataFrame(rows, index=list(over), columns=["low", "high", "interval"])


def clearly_best(experiments: pd.DataFrame, miou: pd.Series, resampled: dict[str, dict]) -> pd.Series:
    """Whether an experiment's gains over all others of its model have intervals above 0.

    Args:
        experiments: experiment, model.
        miou: Mean of each experiment.
        resampled: As `resample_mious` gives it.
    """
    found = dict.fromkeys(experiments.experiment, False)
    for _, names in experiments.groupby("model").experiment:
        best = miou[names].idxmax()
        intervals = [gain_interval(resampled[name], resampled[best]) for name in names if name != best]
        found[best] = bool(intervals) and all(one.low > 0 for one in intervals)
    return pd.Series(found)


def describe_evaluations(metrics: pd.DataFrame) -> str:
    """The evaluation for the table's note: single scale or test-time augmentation; by experiment if they differ.

    Args:
        metrics: experiment, scales (lists), flip.
    """
    said = [_describe(scales, flip) for scales, flip in zip(metrics.scales, metrics.flip, strict=True)]
    names = pd.Series(metrics.experiment.to_list()).groupby(said, sort=False).unique()
    if len(names) == 1:
        return said[0]
    return "; ".join(f"{how} ({', '.join(experiments)})" for how, experiments in names.items())


def _describe(scales: list[float] | None, flip: bool | None) -> str:
    if scales is None:
        return "as the imported log's run evaluated"
    if list(scales) == [1.0] and not flip:
        return "single scale"
    mirrored = ", each with its mirror image" if flip else ""
    return f"test-time augmentation: mean over scale(s) {', '.join(f'{scale:g}' for scale in scales)}{mirrored}"
