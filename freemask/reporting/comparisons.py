"""What changes between trainings: ablations by the setting that differs, classes by what they gain, confusions."""

import math
from typing import Any

import numpy as np
import pandas as pd

from freemask.reporting.class_gains import over_control
from freemask.reporting.layout import number
from freemask.reporting.recorded import Dataset, card_id
from freemask.segmentation.outputs import read_confusion
from freemask.tables import read_table

CONFUSIONS = 12  # largest confusions that are listed
FACTORS = {"alpha": "tolerance margin alpha", "n_max": "images per mask n_max", "strategy": "strategy",
           "filter": "filter", "folds": "folds of the class losses", "generator": "generator",
           "balance": "mini-batches"}  # fmt: skip


def ablation_panels(data: Dataset) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """Joint trainings that differ from the improved one in a setting of their synthetic set or their mini-batches.

    Returns: Of each factor, the values that were tried with their mIoU (see charts.ablations); and every row of them,
        with those that differ in several factors.
    """
    rows = data.experiments.set_index("experiment", drop=False)
    main = rows.loc[data.facts["improved"]]
    same = (rows.model == main.model) & (rows.regime == main.regime) & (rows.schedule == main.schedule)
    reference = _settings(data, main)
    tried: dict[str, list[dict[str, Any]]] = {}
    listed = []
    for row in rows[same & (rows.experiment != main.experiment)].itertuples():
        settings = _settings(data, row)
        changed = [factor for factor in FACTORS if settings[factor] != reference[factor]]
        entry = entry_of(data, row.experiment)
        if len(changed) == 1:
            tried.setdefault(changed[0], []).append(entry | {"value": settings[changed[0]], "own": False})
        listed.append(entry | {"changed": ", ".join(f"{FACTORS[one]}: {settings[one]}" for one in changed)})
    own = entry_of(data, main.experiment)
    panels = {}
    for factor, entries in tried.items():
        table = pd.DataFrame([*entries, own | {"value": reference[factor], "own": True}])
        panels[FACTORS[factor]] = table.sort_values("value", key=lambda values: values.map(_place), ignore_index=True)
    return panels, [own | {"changed": "the main setting"}, *listed] if listed else []


def _settings(data: Dataset, row: Any) -> dict[str, str]:
    """What may differ between joint trainings, as text."""
    chosen = {"folds": 1, "balance": row.balance} | data.facts["sets"][row.synthetic_set]
    return {factor: str(chosen[factor]) for factor in FACTORS}


def entry_of(data: Dataset, experiment: str) -> dict[str, Any]:
    """MIoU of an experiment: mean and deviation over its train seeds."""
    miou = pd.Series([run.metrics["mIoU"] for run in data.runs[experiment]])
    mean, deviation = miou.mean(), miou.std()
    if experiment in data.miou.experiment.array:  # as the headline rounds it
        mean, deviation = data.row(experiment).mIoU, data.row(experiment).mIoU_std
    text, card = number(mean, deviation), card_id(data.id, experiment)
    return {"experiment": experiment, "mIoU": mean, "text": text, "seeds": len(miou), "id": card}


def _place(value: str) -> tuple[float, str]:
    """Numbers by size ('inf' last), then texts."""
    try:
        return float(value), ""
    except ValueError:
        return math.inf, value


def class_table(data: Dataset) -> pd.DataFrame:
    """All classes, largest gain first: label, name, pixels, class_loss, filtered (share of synthetic pixels), first,
    control, improved (IoU), gain (over the control), gain_first (over real images at the normal schedule), seeds, and
    reported_gain if the authors report any. Without a control, gain is over `first`, and there is no gain_first.
    """
    over = ["control", "gain_over_control"] if data.facts["control"] else []
    found = data.table("most_improved.tsv", ["label", "name", "real", "joint", "gain", "seeds", *over])
    merged = over_control(found).rename(columns={"before": "control", "joint": "improved", "real": "first"})
    loss = read_table(data.folder / "class_loss.tsv", ["label", "pixels", "class_loss"])
    merged = merged.merge(loss[["label", "pixels", "class_loss"]], on="label", how="left")
    shares = read_table(data.folder / "synthetic" / data.facts["contact_sheet"] / "classes.tsv", ["label", "share"])
    merged = merged.merge(shares[["label", "share"]].rename(columns={"share": "filtered"}), on="label", how="left")
    return merged.sort_values(["gain", "label"], ascending=[False, True], na_position="last", ignore_index=True)


def confusions(data: Dataset) -> list[dict[str, Any]]:
    """The largest confusions of the improved segmentor, over all train seeds: true, predicted, share [%], pixels."""
    improved = data.facts["improved"]
    paths = [data.training(improved, run.seed) / "confusion.tsv" for run in data.runs[improved]]
    if not all(path.exists() for path in paths):  # imported from a log
        return []
    names, (_, total) = data.label_space.names, read_confusion(*paths)
    pixels = total.sum(axis=1, keepdims=True)
    share = np.where(np.eye(len(names), dtype=bool), 0, 100 * total / np.maximum(pixels, 1))
    order = np.argsort(-share, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        {"true": names[row], "predicted": names[column], "share": share[row, column], "pixels": int(total[row, column])}
        for row, column in pairs if share[row, column] > 0
    ]  # fmt: skip
