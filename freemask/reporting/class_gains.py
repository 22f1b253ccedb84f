"""IoU of each class [percent], and what classes gain: seed by seed, then averaged."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.errors import InputError
from freemask.reporting.intervals import SameImages, gain_interval, resampled_ious
from freemask.segmentation.outputs import read_ious


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


def _aligned(tables: list[pd.DataFrame], first: pd.DataFrame) -> pd.DataFrame:
    """IoU columns side by side (K, seeds), rows as in `first`."""
    for table in tables:
        if table.label.tolist() != first.label.tolist():
            raise InputError("tables of IoU per class list different classes; evaluate again")
    return pd.DataFrame({position: table.iou.to_numpy() for position, table in enumerate(tables)})
