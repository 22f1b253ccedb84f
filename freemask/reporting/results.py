"""From evaluated segmentors to tables: mIoU with its gains, IoU per class, most improved classes. All IoU in percent.

An experiment is one row of config/experiments.tsv; each of its train seeds is one trained and evaluated segmentor.
Gains are paired: the difference is taken seed by seed, then averaged. Deviations are sample standard deviations.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from freemask.errors import InputError
from freemask.files import read_json
from freemask.segmentation.outputs import read_ious

METRICS = ["mIoU", "rare_mIoU", "mAcc", "aAcc", "best_mIoU"]
TEST_METRICS = ["test_mIoU", "best_test_mIoU"]  # of a data set with a test split
DEFAULTS = {"checkpoint": "last", "scales": [1.0], "flip": False, "best_mIoU": math.nan}  # of a metrics.json without
BASELINES = {"real": 1, "real_2x": 2}  # regime real at one and at twice the model's schedule
RARE = 0.25  # the rare group: this share of the classes, those with the fewest pixels in the real training masks


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
    ious: dict[str, list[pd.DataFrame]] = {}
    for experiment, seeds in zip(experiments.experiment, experiments.train_seeds, strict=True):
        ious[experiment] = []
        for seed in seeds:
            folder = training / experiment / f"seed-{seed}"
            metrics = DEFAULTS | read_json(folder / "metrics.json")
            missing = [key for key in ("mIoU", "mAcc", "aAcc", "iterations") if key not in metrics]
            if missing:
                raise InputError(f"{folder / 'metrics.json'}: {missing[0]} is missing; evaluate again")
            if experiment in best:
                metrics["best_mIoU"] = read_json(folder / "best/metrics.json")["mIoU"]
            if tested:
                metrics |= _read_test(folder, experiment in tested, experiment in best)
            per_class = read_ious(folder / "per_class_iou.tsv")
            ious[experiment].append(per_class)
            metrics["rare_mIoU"] = per_class.iou[per_class.label.isin(rare)].mean()  # without absent classes
            rows.append({"experiment": experiment, "train_seed": seed} | metrics)
    return pd.DataFrame(rows), ious


def _read_test(folder: Path, tested: bool, best: bool) -> dict[str, float]:
    """TEST_METRICS of a training; NaN where a checkpoint wasn't evaluated on the test split."""
    last = read_json(folder / "test/metrics.json")["mIoU"] if tested else math.nan
    chosen = read_json(folder / "best/test/metrics.json")["mIoU"] if tested and best else math.nan
    return {"test_mIoU": last, "best_test_mIoU": chosen}


def baselines(experiments: pd.DataFrame, model: str) -> dict[str, str]:
    """The baselines of a model, by key of BASELINES; keys without an experiment are left out.

    Raises: InputError if two experiments are the same baseline.
    """
    found = {}
    for key, schedule in BASELINES.items():
        mine = (experiments.model == model) & (experiments.regime == "real") & (experiments.schedule == schedule)
        names = experiments.experiment[mine].tolist()
        if len(names) > 1:
            raise InputError(f"experiments {' and '.join(names)} are both {model} on real images only; keep one row")
        if names:
            found[key] = names[0]
    return found


def rare_labels(pixels: dict[int, int]) -> list[int]:
    """Labels of the rare group: the quarter of the classes (rounded up) with the fewest pixels; ties by label."""
    return sorted(sorted(pixels), key=lambda label: pixels[label])[: math.ceil(RARE * len(pixels))]


def summarize(experiments: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment: mean and deviation of mIoU over train seeds, gains over the model's baselines.

    Args:
        experiments: experiment, model, regime, schedule, synthetic_set, balance.
        metrics: experiment, train_seed, METRICS, iterations, checkpoint. All metrics are of that checkpoint (last or
            best), but best_mIoU is of the best one, NaN without one. With a test split TEST_METRICS.
    Returns: These columns of experiments, seeds (their number), iterations, checkpoint, mean and <metric>_std of
        METRICS, gain_over_real(_std) and gain_over_real_2x(_std) [points of mIoU], mIoU_seed_<s>. With a test split
        mean and _std of TEST_METRICS, and test_gain_over_real(_std).
    """
    of_each = metrics.groupby("experiment")
    columns = {"seeds": of_each.size(), "iterations": of_each.iterations.first()}
    columns["checkpoint"] = of_each.checkpoint.agg(lambda checkpoints: "/".join(sorted(set(checkpoints))))
    names = [*METRICS, *(name for name in TEST_METRICS if name in metrics)]
    mean, std = of_each[names].mean(skipna=False), of_each[names].std(skipna=False)
    for metric in names:
        columns |= {metric: mean[metric], f"{metric}_std": std[metric]}
    miou = metrics.pivot(index="train_seed", columns="experiment", values="mIoU")
    for key in BASELINES:
        gains = gains_over(key, experiments, miou)
        columns |= {f"gain_over_{key}": gains.mean(), f"gain_over_{key}_std": gains.std()}
    if "test_mIoU" in metrics:
        on_test = metrics.pivot(index="train_seed", columns="experiment", values="test_mIoU")
        gains = gains_over("real", experiments, on_test)
        columns |= {"test_gain_over_real": gains.mean(), "test_gain_over_real_std": gains.std()}
    columns |= {f"mIoU_seed_{seed}": row for seed, row in miou.iterrows()}
    own = experiments[["experiment", "model", "regime", "schedule", "synthetic_set", "balance"]]
    own = own.astype({"schedule": float}).set_index("experiment", drop=False)
    return own.assign(**columns).reset_index(drop=True)


def gains_over(key: str, experiments: pd.DataFrame, miou: pd.DataFrame) -> pd.DataFrame:
    """Gains of each experiment (columns) over its model's baseline, by train seed (rows); NaN where either has none.

    Args:
        key: A key of BASELINES.
        experiments: experiment, model, regime, schedule.
        miou: mIoU of each experiment (columns) and train seed (rows).
    """
    gains = {}
    for name, model in zip(experiments.experiment, experiments.model, strict=True):
        baseline = baselines(experiments, model).get(key, name)
        gains[name] = miou[name] - miou[baseline] if baseline != name else miou[name] * math.nan
    return pd.DataFrame(gains)


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


def add_reported(summary: pd.DataFrame, reported: list[dict], synthetic_set: str | None) -> pd.DataFrame:
    """Add the authors' numbers: reported_mIoU and reported_gain, NaN where they give none.

    They belong to the real baseline (schedule 1) and to joint training (schedule 2, as theirs was).

    Args:
        summary: Made by `summarize`.
        reported: Rows with the keys model, real, joint [mIoU, percent].
        synthetic_set: The only set whose joint training is compared with theirs, so that ablations aren't; None: any.
    """
    of_model = pd.DataFrame(reported, columns=["model", "real", "joint"]).set_index("model").reindex(summary.model)
    real, joint = of_model.real.to_numpy(float), of_model.joint.to_numpy(float)
    is_real = (summary.regime == "real") & (summary.schedule == 1)
    is_joint = (summary.regime == "joint") & (summary.schedule == 2)
    is_joint &= synthetic_set in (None, "") or summary.synthetic_set == synthetic_set
    miou = np.select([is_real, is_joint], [real, joint], math.nan)
    return summary.assign(reported_mIoU=miou, reported_gain=np.where(is_joint, joint - real, math.nan))


def class_means(ious: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """IoU per class of every experiment: label, name, one column per experiment, mean over its train seeds.

    Where the mean of a class lacks some of an experiment's seeds, a last column `fewer seeds` names the experiment.

    Args:
        ious: Of each experiment, one table per seed with label, name, iou; NaN for an absent class.
    """
    first = next(iter(ious.values()))[0][["label", "name"]].reset_index(drop=True)
    each = {name: _aligned(tables, first) for name, tables in ious.items()}
    classes = first.assign(**{name: values.mean(axis=1) for name, values in each.items()})
    partly = pd.DataFrame(
        {name: values.isna().any(axis=1) & values.notna().any(axis=1) for name, values in each.items()}
    )
    if partly.to_numpy().any():
        classes["fewer seeds"] = [", ".join(partly.columns[row]) for row in partly.to_numpy()]
    return classes


def most_improved(real: dict[int, pd.DataFrame], joint: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Classes by IoU gain, largest first: label, name, real, joint, gain, seeds, gain_seed_<s>.

    Args:
        real: Of each train seed: label, name, iou [percent].
        joint: The same.
    Returns: means over the seeds in which both have a number, and how many these are (`seeds`). A class in neither
        masks nor predictions has NaN and comes last; ties by label.
    Raises: InputError where the seeds differ, or a table has no number at all.
    """
    if real.keys() != joint.keys():
        raise InputError(f"train seeds differ: {sorted(real)} and {sorted(joint)}; give the same for both")
    for role, by_seed in (("real", real), ("joint", joint)):
        for seed, table in by_seed.items():
            if table.iou.isna().all():
                raise InputError(
                    f"{role}, train seed {seed}: no IoU of any class, as where a row is imported from a log without "
                    "them; compare other experiments (report in the configuration), or import a log that has them"
                )
    seeds = sorted(real)
    first = real[seeds[0]][["label", "name"]].reset_index(drop=True)
    before = _aligned([real[seed] for seed in seeds], first)
    after = _aligned([joint[seed] for seed in seeds], first)
    gains = after - before
    paired = gains.notna()  # a mean over other seeds on either side would be no gain
    means = {"real": before.where(paired).mean(axis=1), "joint": after.where(paired).mean(axis=1)}
    table = first.assign(**means, gain=gains.mean(axis=1), seeds=paired.sum(axis=1))
    for position, seed in enumerate(seeds):
        table[f"gain_seed_{seed}"] = gains[position]
    return table.sort_values(["gain", "label"], ascending=[False, True], na_position="last", ignore_index=True)


def _aligned(tables: list[pd.DataFrame], first: pd.DataFrame) -> pd.DataFrame:
    """IoU columns side by side (K, seeds), rows as in `first`."""
    for table in tables:
        if table.label.tolist() != first.label.tolist():
            raise InputError("tables of IoU per class list different classes; evaluate again")
    return pd.DataFrame({position: table.iou.to_numpy() for position, table in enumerate(tables)})


def read_reported(path: str | Path, key: str) -> list[dict]:
    """Read one list of the authors' numbers; empty if they report nothing under `key`.

    Raises: InputError if the file isn't there or isn't YAML.
    """
    try:
        return (yaml.safe_load(Path(path).read_text()) or {}).get(key, [])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the reported numbers") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from None
