"""From evaluated segmentors to tables: mIoU with its gains, IoU per class, most improved classes. All IoU in percent.

An experiment is one row of config/experiments.tsv; each of its train seeds is one trained and evaluated segmentor.
Gains are paired: the difference is taken seed by seed, then averaged. Deviations are sample standard deviations.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from freemask.errors import InputError
from freemask.files import own_id, read_json
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


def describe_synthetic_only(reported: dict[str, dict[str, float]], dataset: str) -> str:
    """The authors' numbers of training on synthetic images alone, for the table's note; "" if they give none.

    Args:
        reported: real and synthetic [mIoU, percent] of each data set; the paper's abstract doesn't name the model.
        dataset: Id of the data set.
    """
    if dataset not in reported:
        return ""
    found = reported[dataset]
    return (
        f"Authors, of a model that the abstract doesn't name: {found['synthetic']:.1f} trained on synthetic images"
        f" alone, {found['real']:.1f} on real images."
    )


def describe_absent(ious: dict[str, list[pd.DataFrame]]) -> str:
    """Classes that have no IoU and aren't in mIoU, by name, for the table's note; "" if all have one.

    Args:
        ious: Of each experiment, one table per seed with name, iou.
    """
    unknown = [name for name, tables in ious.items() if all(table.iou.isna().all() for table in tables)]
    known = {name: tables for name, tables in ious.items() if name not in unknown}
    absent: dict[str, list[str]] = {}
    for experiment, tables in known.items():
        for name in dict.fromkeys(name for table in tables for name in table.name[table.iou.isna()]):
            absent.setdefault(name, []).append(experiment)
    said = [name if len(of) == len(known) else f"{name} ({', '.join(of)})" for name, of in sorted(absent.items())]
    lines = [f"Not in mIoU, since neither masks nor predictions show them: {', '.join(said)}."] if said else []
    lines += [f"No IoU per class in the log of {', '.join(unknown)}."] if unknown else []
    return " ".join(lines)


@dataclass(frozen=True)
class Classes:
    """IoU per class of one experiment.

    Attributes:
        ious: Of each train seed: label, name, iou [percent].
        resampled: Of each train seed: (RESAMPLES, K) IoU of resampled images; None where no areas were kept.
        images: (K,) number of validation images whose mask shows the class; None where no areas were kept.
    """

    ious: dict[int, pd.DataFrame]
    resampled: dict[int, np.ndarray | None] = field(default_factory=dict)
    images: np.ndarray | None = None


def read_classes(paths: dict[int, Path], images: SameImages) -> Classes:
    """Read per_class_iou.tsv of each train seed, and the areas beside them."""
    areas = {seed: images.read(path) for seed, path in paths.items()}
    shown = [(one.truth > 0).sum(0) for one in areas.values() if one is not None]
    resampled = {seed: None if one is None else resampled_ious(one) for seed, one in areas.items()}
    return Classes({seed: read_ious(path) for seed, path in paths.items()}, resampled, shown[0] if shown else None)


def most_improved(real: Classes, joint: Classes, control: Classes | None = None) -> pd.DataFrame:
    """Classes by IoU gain over the control, or over real images if there is none; largest first.

    Args:
        real: Trained on real images for the normal schedule.
        joint: Trained on real and synthetic images, on the same train seeds.
        control: Trained on real images for twice the schedule; compared over the seeds that both have.
    Returns: label, name, real, joint, gain, seeds (in how many both have a number), gain_seed_<s>, gain_low, gain_high,
        gain_interval (see `intervals`); with a control also control and gain_over_control with the same endings;
        images. Means are over the seeds in which both have a number. A class in neither masks nor predictions has NaN
        and comes last; ties by label.
    Raises: InputError where the seeds differ, or a table has no number at all.
    """
    if real.ious.keys() != joint.ious.keys():
        raise InputError(f"train seeds differ: {sorted(real.ious)} and {sorted(joint.ious)}; give the same for both")
    sides = {"real": real, "joint": joint} | ({"control": control} if control else {})
    for role, side in sides.items():
        _refuse_unknown(role, side.ious)
    table = compare(real, joint, "gain").rename(columns={"before": "real", "after": "joint", "gain_seeds": "seeds"})
    if control:
        other = compare(control, joint, "gain_over_control").drop(columns=["label", "name", "after"])
        table = table.join(other.rename(columns={"before": "control"}))
    if joint.images is not None:
        table["images"] = joint.images
    by = "gain_over_control" if control else "gain"
    return table.sort_values([by, "label"], ascending=[False, True], na_position="last", ignore_index=True)


def over_control(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `most_improved` as compared with the control: the gain over it is `gain`, its IoU `before`, the gain
    over real images `gain_first`. Without a control `before` is the IoU of real images, and there is no `gain_first`.
    """
    if "gain_over_control" not in table:
        return table.assign(before=table.real)
    over_real = table.columns[table.columns.str.match("seeds$|gain(?!_over_control)")]
    own = table.drop(columns=over_real).assign(gain_first=table.gain)
    own.columns = own.columns.str.replace("gain_over_control", "gain")
    return own.rename(columns={"control": "before", "gain_seeds": "seeds"})


def _refuse_unknown(role: str, by_seed: dict[int, pd.DataFrame]) -> None:
    """Raise InputError for a training without the IoU of any class."""
    for seed, table in by_seed.items():
        if table.iou.isna().all():
            raise InputError(
                f"{role}, train seed {seed}: no IoU of any class, as where a row is imported from a log without "
                "them; compare other experiments (report in the configuration), or import a log that has them"
            )


def compare(before: Classes, after: Classes, gain: str) -> pd.DataFrame:
    """Gain of every class, in the order of the label space, over the seeds of both: label, name, before, after, <gain>,
    <gain>_seeds (that have a number on both sides), <gain>_seed_<s>, <gain>_low, _high and _interval.

    Raises: InputError if no seed is in common.
    """
    seeds = sorted(before.ious.keys() & after.ious.keys())
    if not seeds:
        raise InputError(
            f"train seeds {sorted(before.ious)} and {sorted(after.ious)}: none in common; gains are taken seed by seed"
        )
    first = next(iter(before.ious.values()))[["label", "name"]].reset_index(drop=True)
    base = _aligned([before.ious[seed] for seed in seeds], first)
    better = _aligned([after.ious[seed] for seed in seeds], first)
    gains = better - base
    paired = gains.notna()  # a mean over other seeds on either side would be no gain
    means = {"before": base.where(paired).mean(axis=1), "after": better.where(paired).mean(axis=1)}
    table = first.assign(**means, **{gain: gains.mean(axis=1), f"{gain}_seeds": paired.sum(axis=1)})
    for position, seed in enumerate(seeds):
        table[f"{gain}_seed_{seed}"] = gains[position]
    interval = gain_interval(before.resampled, after.resampled)
    return table.assign(
        **{f"{gain}_low": interval.low, f"{gain}_high": interval.high, f"{gain}_interval": interval.over}
    )


def _aligned(tables: list[pd.DataFrame], first: pd.DataFrame) -> pd.DataFrame:
    """IoU columns side by side (K, seeds), rows as in `first`."""
    for table in tables:
        if table.label.tolist() != first.label.tolist():
            raise InputError("tables of IoU per class list different classes; evaluate again")
    return pd.DataFrame({position: table.iou.to_numpy() for position, table in enumerate(tables)})


def reported_logs(reported: dict[str, Any], dataset: str) -> dict[str, dict[str, Any]]:
    """The authors' logs of joint trainings (on ADE20K unless said) by model: hours, gpu_hours, last, perhaps best mIoU.

    A training took cost.training_gpus unless its log says `gpus`.
    """
    gpus, logs = reported.get("cost", {}).get("training_gpus", 0), reported.get("logs", [])
    logs = [row | {"gpu_hours": row["hours"] * row.get("gpus", gpus)} for row in logs]
    return {row["model"]: row for row in logs if row.get("dataset", "ade20k") == own_id(dataset)}


def read_all_reported(path: str | Path) -> dict[str, Any]:
    """Read the authors' numbers.

    Raises: InputError if the file isn't there or isn't YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the reported numbers") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from None
