"""Files that trainings and evaluations leave: IoU per class, confusion matrices, training curves, times."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from freemask import files
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.tables import read_table, write_table

TIMES = "time"  # folder in a training's work folder, a file per segment


def write_ious(path: str | Path, label_space: LabelSpace, iou: Sequence[float], acc: Sequence[float]) -> None:
    """Write per_class_iou.tsv: label, name, iou, acc [percent; NaN without pixels].

    Args: iou, acc: of the K classes of the label space, in train-id order.
    """
    table = pd.DataFrame({"label": label_space.ids, "name": label_space.names, "iou": iou, "acc": acc})
    write_table(path, table, counted=True)


def read_ious(path: str | Path) -> pd.DataFrame:
    """Read per_class_iou.tsv: label, name, iou (see `write_ious`)."""
    return read_table(path, ["label", "name", "iou"])[["label", "name", "iou"]]


def read_scalars(work: str | Path) -> pd.DataFrame:
    """Read the training curve that mmengine leaves in a work folder: step, loss, lr, one row per logged step.

    A resumed training has several logs; where they overlap the later one counts. A last line that was cut off by a
    kill is skipped.
    Raises: InputError where there is no log, or none with a loss.
    """
    table = _scalars(work, ["step", "loss", "lr"])
    if table.empty:
        raise InputError(f"{work}: no scalars.json with a loss under */vis_data/; is it a training's work folder?")
    return table


def read_validations(work: str | Path) -> pd.DataFrame:
    """Read the validations during a training: step, mIoU [percent]; no rows if there were none."""
    return _scalars(work, ["step", "mIoU"])


def _scalars(work: str | Path, columns: list[str]) -> pd.DataFrame:
    """Values from a work folder's logs of scalars, a row per step; only rows that have the second column."""
    rows: dict[int, dict] = {}
    for log in sorted(Path(work).glob("*/vis_data/scalars.json")):  # named by time
        for line in log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a kill cut the line off
                row = json.loads(line)
                if "step" in row and columns[1] in row:
                    rows[row["step"]] = row
    return pd.DataFrame([rows[step] for step in sorted(rows)], columns=columns)


def read_segments(work: str | Path) -> pd.DataFrame:
    """Read the times of one training: started, seconds, gpus, device; a row per segment, in order.

    hooks.CountTime writes them. A segment is the time from a start to a kill, or to the end. A training that left no
    times gives an empty table.
    Raises: InputError for a file without these values.
    """
    rows, columns = [], ["started", "seconds", "gpus", "device"]
    for path in sorted(Path(work, TIMES).glob("*.json")):
        rows.append(files.read_json(path))
        for key in columns:
            if key not in rows[-1]:
                raise InputError(f"{path}: {key} is missing; delete the file, its segment's time is then not counted")
    return pd.DataFrame(rows, columns=columns)


def write_confusion(path: str | Path, counts: np.ndarray, label_space: LabelSpace) -> None:
    """Write a confusion matrix: label, name, then a column of pixels per predicted class, named by its raw label.

    Args: counts: (K, K) int64, rows: classes of the masks in train-id order.
    """
    columns = dict(zip(map(str, label_space.ids), counts.T, strict=True))
    write_table(path, pd.DataFrame({"label": label_space.ids, "name": label_space.names, **columns}))


def read_confusion(*paths: str | Path) -> tuple[list[str], np.ndarray]:
    """Read confusion matrices and add them up: names of the K classes, (K, K) int64 pixels, rows: classes of the masks.

    Raises: InputError where a table's columns aren't its rows' labels, or tables are of other classes.
    """
    tables = [read_table(path, ["label", "name"]) for path in paths]
    columns = [str(label) for label in tables[0].label]
    for path, table in zip(paths, tables, strict=True):
        if table.columns.tolist() != ["label", "name", *map(str, table.label)]:
            raise InputError(f"{path}: columns aren't the labels of the rows; evaluate again")
        if table.columns.tolist() != tables[0].columns.tolist():
            raise InputError(f"{path}: other classes than {paths[0]}; evaluate again")
    return tables[0].name.tolist(), sum(table[columns].to_numpy(np.int64) for table in tables)


def spread(total: int, number: int, source: str | Path) -> list[int]:
    """Positions of `number` validation images whose predictions are shown: the middles of equal parts of the table.

    Raises: InputError if there are fewer images.
    """
    if number > total:
        raise InputError(f"{source}: {total} image(s), but evaluation.pictures is {number}; lower it")
    return [(2 * part + 1) * total // (2 * number) for part in range(number)]
