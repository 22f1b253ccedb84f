"""From evaluated segmentors to tables: mIoU with its gains, IoU per class, most improved classes. All IoU in percent.

An experiment is one row of config/experiments.tsv; each of its train seeds is one trained and evaluated segmentor.
Gains are paired: the difference is taken seed by seed, then averaged. Deviations are sample standard deviations.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from freemask.errors import InputError

REGIMES = {"real": "real", "synthetic": "synthetic", "finetune": "synthetic, then real", "joint": "real + synthetic"}
BASELINES = {"real": 1, "real_2x": 2}  # regime real at one and at twice the model's schedule
RARE = 0.25  # the rare group: this share of the classes, those with the fewest pixels in the real training masks


def mean_std(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN deviation for one value, both NaN for none."""
    mean = float(np.mean(values)) if len(values) else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def paired_gains(improved: dict[int, float], baseline: dict[int, float]) -> list[float]:
    """Differences of the train seeds that both have, ascending seeds."""
    return [improved[seed] - baseline[seed] for seed in sorted(improved.keys() & baseline.keys())]


def baselines(experiments: pd.DataFrame, model: str) -> dict[str, str]:
    """The experiments that a model's gains are over: {"real": ..., "real_2x": ...}, those that there are.

    Raises: InputError where two experiments are the same baseline.
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


def rare_miou(ious: pd.DataFrame, rare: list[int]) -> float:
    """Mean IoU of the rare group; ious: label, iou [percent]. Classes that the evaluation never met are left out."""
    return float(ious.iou[ious.label.isin(rare)].mean())


def summarize(experiments: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment: mean and deviation of mIoU over train seeds, gains over the model's baselines.

    Args: experiments: experiment, model, regime, schedule, synthetic_set, balance (exact if left out); metrics:
    experiment, train_seed, mIoU, mAcc, aAcc, rare_mIoU, iterations, checkpoint (that all of these are of: last or
    best), best_mIoU (of the best checkpoint, NaN where there is none).
    Returns: these columns of experiments, seeds (their number), iterations, checkpoint, and for mIoU, mAcc, aAcc,
    rare_mIoU, best_mIoU mean and <metric>_std; gain_over_real(_std), gain_over_real_2x(_std) [points of mIoU];
    mIoU_seed_<s>, one per seed.
    """
    by_seed = {
        name: dict(zip(group.train_seed, group.mIoU, strict=True)) for name, group in metrics.groupby("experiment")
    }
    rows = []
    for experiment in experiments.itertuples():
        mine = metrics[metrics.experiment == experiment.experiment]
        row = {key: getattr(experiment, key) for key in ("experiment", "model", "regime", "schedule", "synthetic_set")}
        row |= {"balance": getattr(experiment, "balance", "exact")}
        row |= {"seeds": len(mine), "iterations": int(mine.iterations.iloc[0])}
        row["checkpoint"] = "/".join(sorted(set(mine.checkpoint)))
        for metric in ("mIoU", "rare_mIoU", "mAcc", "aAcc", "best_mIoU"):
            row[metric], row[f"{metric}_std"] = mean_std(mine[metric].tolist())
        found = baselines(experiments, experiment.model)
        for key in BASELINES:
            other = found.get(key, experiment.experiment)
            gains = (
                [] if other == experiment.experiment else paired_gains(by_seed[experiment.experiment], by_seed[other])
            )
            row[f"gain_over_{key}"], row[f"gain_over_{key}_std"] = mean_std(gains)
        row |= {
            f"mIoU_seed_{seed}": by_seed[experiment.experiment].get(seed) for seed in sorted(set(metrics.train_seed))
        }
        rows.append(row)
    return pd.DataFrame(rows)


def describe_evaluations(metrics: pd.DataFrame) -> str:
    """How the numbers were made, for the table's note: single scale, or which test-time augmentation.

    Args: metrics: experiment, scales (lists), flip; where experiments differ, each is named.
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

    They stand beside the real baseline (schedule 1) and joint training (schedule 2, as theirs was); where
    `synthetic_set` is given, beside joint training on that set only, so that ablations aren't compared with what they
    aren't.
    Args: reported: rows with the keys model, real, joint [mIoU, percent].
    """
    of_model = {row["model"]: row for row in reported}

    def numbers(row: pd.Series) -> tuple[float, float]:
        known = of_model.get(row.model)
        if known and row.regime == "real" and row.schedule == 1:
            return known["real"], math.nan
        if known and row.regime == "joint" and row.schedule == 2 and synthetic_set in (None, row.synthetic_set):
            return known["joint"], known["joint"] - known["real"]
        return math.nan, math.nan

    pairs = [numbers(row) for _, row in summary.iterrows()]
    return summary.assign(reported_mIoU=[pair[0] for pair in pairs], reported_gain=[pair[1] for pair in pairs])


def class_means(ious: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """IoU per class of every experiment: label, name, one column per experiment, mean over its train seeds.

    Args: ious: of each experiment, one table per seed with label, name, iou; NaN for a class that was never met.
    """
    first = next(iter(ious.values()))[0][["label", "name"]]
    columns = {name: _aligned(tables, first).mean(axis=1).to_numpy() for name, tables in ious.items()}
    return first.reset_index(drop=True).assign(**columns)


def most_improved(real: dict[int, pd.DataFrame], joint: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Classes by IoU gain, largest first: label, name, real, joint, gain, gain_seed_<s>.

    Args: real, joint: of each train seed, label, name, iou [percent].
    Returns: means over the seeds; a class that was never met has NaN and comes last; ties by label.
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
    table = first.assign(real=before.mean(axis=1), joint=after.mean(axis=1), gain=(after - before).mean(axis=1))
    for position, seed in enumerate(seeds):
        table[f"gain_seed_{seed}"] = (after - before)[position]
    return table.sort_values(["gain", "label"], ascending=[False, True], na_position="last", ignore_index=True)


def _aligned(tables: list[pd.DataFrame], first: pd.DataFrame) -> pd.DataFrame:
    """IoU columns side by side (K, seeds), rows as in `first`."""
    for table in tables:
        if table.label.tolist() != first.label.tolist():
            raise InputError("tables of IoU per class list different classes; evaluate again")
    return pd.DataFrame({position: table.iou.to_numpy() for position, table in enumerate(tables)})


def read_reported(path: str | Path, key: str) -> list[dict]:
    """One list of the authors' numbers, [] where they report nothing under `key`.

    Raises: InputError where the file isn't there or isn't YAML.
    """
    try:
        return (yaml.safe_load(Path(path).read_text()) or {}).get(key, [])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the reported numbers") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from None
