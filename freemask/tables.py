"""Readers of the tables that several scripts share; each checks what a later step relies on."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from freemask.errors import InputError
from freemask.files import read_table, stream_table, write_table
from freemask.labels import LabelSpace
from freemask.masks import LabelCounts
from freemask.parallel import some
from freemask.studies import of_study, with_optional_columns

Key = tuple[str, ...]  # mask_id, seed
REPEATED = "{}: mask_id {!r} stands on more than one line; make the table again"


def read_masks(path: str | Path) -> tuple[pd.DataFrame, LabelCounts]:
    """Read masks.tsv: its rows (mask_id, mask, counts; counts NaN for a mask without labels) and their counts.

    Raises: InputError for a repeated mask_id or counts that can't be parsed.
    """
    table = read_table(path, ["mask_id", "mask", "counts"], only=True)
    repeated = table.mask_id[table.mask_id.duplicated()]
    if len(repeated):
        raise InputError(REPEATED.format(path, repeated.iloc[0]))
    return table, LabelCounts.parse(table.counts.fillna("").tolist(), str(path))


def stream_masks(path: str | Path) -> Iterator[tuple[str, str, LabelCounts, str]]:
    """Yield masks.tsv row by row: mask_id, mask, counts of this mask, mask_sha256.

    Raises: InputError as read_masks does.
    """
    seen = set()
    for mask_id, mask, counts, digest in stream_table(path, ["mask_id", "mask", "counts", "mask_sha256"]):
        if mask_id in seen:
            raise InputError(REPEATED.format(path, mask_id))
        seen.add(mask_id)
        yield mask_id, mask, LabelCounts.parse([counts], str(path)), digest


def read_class_loss(path: str | Path, needed: LabelCounts) -> np.ndarray:
    """Read class_loss.tsv as (256,) float64: h of each raw label [nats], NaN where there is none.

    Raises: InputError where a label that the masks hold has no finite loss or was measured on no pixel.
    """
    table = read_table(path, ["label", "pixels", "class_loss"])
    class_loss = np.full(256, np.nan)
    measured = table[table.pixels > 0]
    class_loss[measured.label.to_numpy(int)] = measured.class_loss
    without = np.setdiff1d(needed.label, np.flatnonzero(np.isfinite(class_loss)))
    if len(without):
        raise InputError(
            f"{path}: no finite loss on any pixel for label(s) {some(without.tolist())}, which the masks hold;"
            " measure the class-wise loss on the same images and masks"
        )
    return class_loss


def read_plan(path: str | Path) -> pd.DataFrame:
    """Read a plan: mask_id, seed.

    Raises: InputError for a row that stands there twice.
    """
    plan = read_table(path, ["mask_id", "seed"])[["mask_id", "seed"]]
    repeated = plan[plan.duplicated()]
    if len(repeated):
        row = repeated.iloc[0]
        raise InputError(f"{path}: mask {row.mask_id}, seed {row.seed} stands there twice; make the plan again")
    return plan


def in_plan_order(plan: str | Path, shards: Sequence[str | Path], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the rows that the shards of a plan hold, as text, in the plan's order.

    Shards are read in turns, and a row waits for its place. Where n shards hold every n-th row of the plan each, as
    those of synthesis do, at most n rows wait; in any other order more.
    Args: columns: mask_id, seed, then what else a row has.
    Raises: InputError for a row that stands in the plan twice; at the end, where a row of the plan is missing, is there
    twice, or something is there that wasn't planned.
    """
    rows = filter(None, chain.from_iterable(zip_longest(*(stream_table(shard, columns) for shard in shards))))
    waiting: dict[Key, tuple[str, ...]] = {}
    placed: set[int] = set()  # hashes of (mask_id, seed): a fifth of the memory that these would take
    lacking, repeated = [], []

    def read_on() -> bool:
        for row in rows:
            if row[:2] in waiting or hash(row[:2]) in placed:
                repeated.append(row[:2])
            else:
                waiting[row[:2]] = row
            return True
        return False

    for key in stream_table(plan, columns[:2]):
        if hash(key) in placed:
            raise InputError(f"{plan}: mask {key[0]}, seed {key[1]} stands there twice; make the plan again")
        while key not in waiting and read_on():
            pass
        placed.add(hash(key))
        if key in waiting:
            yield waiting.pop(key)
        else:
            lacking.append(key)
    while read_on():
        pass
    _refuse(plan, repeated, lacking, list(waiting))


def _refuse(plan: str | Path, repeated: list[Key], lacking: list[Key], unplanned: list[Key]) -> None:
    """Raise what is wrong with a plan's shards, if anything."""
    if repeated:
        raise InputError(f"the shards of {plan} hold {_names(repeated)} more than once; make the shards again")
    for keys, problem in ((lacking, "lack"), (unplanned, "hold, against the plan,")):
        if keys:
            raise InputError(f"the shards of {plan} {problem} {_names(keys)}; give all its shards, or make them again")


def _names(keys: list[Key]) -> str:
    return some([f"mask {mask_id} seed {seed}" for mask_id, seed in keys])


def read_experiments(path: str | Path, dataset: str, study: str = "main") -> pd.DataFrame:
    """Read one data set's rows of experiments.tsv: schedule as float, synthetic_set "" for none, train_seeds a list.

    Args: study: main leaves ablations out, ablation takes them (see freemask.studies.of_study).
    Raises: InputError where there are none, or a row's seeds aren't whole numbers joined by commas.
    """
    columns = ["experiment", "dataset", "model", "regime", "schedule", "synthetic_set", "train_seeds"]
    table = with_optional_columns(read_table(path, columns))
    table = of_study(table[table.dataset == dataset], study).reset_index(drop=True)
    if not len(table):
        raise InputError(f"{path}: no experiment on data set {dataset!r} in study {study}; add a row")
    table["synthetic_set"] = table.synthetic_set.fillna("").astype(str)
    table["schedule"] = table.schedule.astype(float)
    try:
        table["train_seeds"] = [[int(seed) for seed in str(seeds).split(",")] for seeds in table.train_seeds]
    except ValueError:
        raise InputError(f"{path}: train_seeds want whole numbers joined by commas, e.g. 0,1") from None
    return table


def read_ious(path: str | Path) -> pd.DataFrame:
    """Read per_class_iou.tsv: label, name, iou [percent; NaN for a class that the evaluation never met]."""
    return read_table(path, ["label", "name", "iou"])[["label", "name", "iou"]]


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


def read_scalars(work: str | Path) -> pd.DataFrame:
    """Read the training curve that mmengine leaves in a work directory: step, loss, lr, one row per logged step.

    A resumed training has several logs; where they overlap the later one counts. A last line that was cut off by a
    kill is passed over.
    Raises: InputError where there is no log, or none with a loss.
    """
    logs = sorted(Path(work).glob("*/vis_data/scalars.json"))  # named by time
    rows = {}
    for log in logs:
        for line in log.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "loss" in row and "step" in row:
                rows[row["step"]] = {"step": row["step"], "loss": row["loss"], "lr": row.get("lr", np.nan)}
    if not rows:
        raise InputError(f"{work}: no scalars.json with a loss under */vis_data/; is it a training's work directory?")
    return pd.DataFrame([rows[step] for step in sorted(rows)])


def write_confusion(path: str | Path, counts: np.ndarray, labels: LabelSpace) -> None:
    """Write a confusion matrix: label, name, then a column of pixels per predicted class, named by its raw label.

    Args: counts: (K, K) int64, rows: classes of the masks in train-id order.
    """
    columns = dict(zip(map(str, labels.ids), counts.T, strict=True))
    write_table(path, pd.DataFrame({"label": labels.ids, "name": labels.names, **columns}))


def read_confusion(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read a confusion matrix: names of the K classes, (K, K) int64 pixels, rows: classes of the masks.

    Raises: InputError where its columns aren't its rows' labels.
    """
    table = read_table(path, ["label", "name"])
    labels = [str(label) for label in table.label]
    if table.columns.tolist() != ["label", "name", *labels]:
        raise InputError(f"{path}: columns aren't the labels of the rows; evaluate again")
    return table.name.tolist(), table[labels].to_numpy(np.int64)
