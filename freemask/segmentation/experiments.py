"""The experiments table: one row per model trained in a regime, on some train seeds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from freemask.errors import InputError
from freemask.files import own_id
from freemask.segmentation.regimes import find_regime
from freemask.tables import read_table

COLUMNS = ["experiment", "dataset", "model", "regime", "schedule", "synthetic_set", "train_seeds"]
OPTIONAL_COLUMNS = {"balance": "exact", "study": "main"}  # and the value of an empty cell or a missing column


def read_all_experiments(path: str | Path, check_row: Callable[[dict, str], None] | None = None) -> pd.DataFrame:
    """Read an experiments table.

    Args:
        path: Table with COLUMNS and maybe OPTIONAL_COLUMNS.
        check_row: Called with each row as it is written and its place ("<path>, line <number>").
    Returns: synthetic_set "" for none, schedule a whole number, train_seeds tuples of ascending whole numbers.
    Raises: InputError naming the table, the column and what it takes; whatever check_row raises.
    """
    table = read_table(path, COLUMNS)
    for column, default in OPTIONAL_COLUMNS.items():
        table[column] = table[column].astype(object).fillna(default) if column in table else default
    for column in ("synthetic_set", "train_seeds"):
        table[column] = table[column].astype(object).fillna("")
    for number, row in enumerate(table.to_dict("records"), start=2):
        if check_row:
            check_row(row, f"{path}, line {number}")
    try:
        table["train_seeds"] = [tuple(sorted({int(seed) for seed in text.split(",")})) for text in table.train_seeds]
    except ValueError:
        raise InputError(f"{path}: train_seeds want whole numbers joined by commas, e.g. 0,1") from None
    schedule = pd.to_numeric(table.schedule, errors="coerce")
    if (schedule % 1 != 0).any():  # also where it is no number
        raise InputError(f"{path}: schedule wants a whole number on every line, e.g. 1")
    return table.assign(schedule=schedule.astype(int))


def of_study(table: pd.DataFrame, study: str) -> pd.DataFrame:
    """Rows of one study: main leaves ablations out; ablation takes them and what they are compared with.

    That is the main rows of the same models.
    """
    compared = (table.study == "main") & table.model.isin(table.model[table.study == study])
    return table[compared | (table.study == study)]


def read_experiments(path: str | Path, dataset: str, study: str = "main") -> pd.DataFrame:
    """Read one data set's rows of an experiments table (see `read_all_experiments`) in a study (see `of_study`).

    Raises: InputError where there are none.
    """
    table = read_all_experiments(path)
    table = of_study(table[table.dataset == own_id(dataset)], study).reset_index(drop=True)
    if not len(table):
        raise InputError(f"{path}: no experiment on data set {dataset!r} in study {study}; add a row")
    return table


def pretraining_of(row: pd.Series, experiments: pd.DataFrame) -> str:
    """The experiment whose weights a row starts from: its regime's `pretrained`, same data set, model and set.

    Raises: InputError where the table has none with the row's train seeds.
    """
    regime = find_regime(row.regime).pretrained
    columns = ["dataset", "model"] + ["synthetic_set"] * find_regime(regime).needs_synthetic_set
    same = experiments[(experiments.regime == regime) & (experiments[columns] == row[columns]).all(axis=1)]
    for candidate in same.itertuples():
        if set(row.train_seeds) <= set(candidate.train_seeds):
            return candidate.experiment
    wanted = " and ".join(f"{column} {row[column]!r}" for column in columns)
    raise InputError(
        f"experiment {row.experiment!r}: no row of regime {regime} with {wanted} and train_seeds "
        f"{','.join(map(str, row.train_seeds))} to start from; add one"
    )


def precision(entry: dict[str, Any], config: dict[str, Any]) -> str:
    """The arithmetic that a model trains in: its own if the models file gives one, else the run's, else fp32."""
    return entry.get("precision", config.get("training_precision", "fp32"))


def acceleration(settings: Mapping[str, Any], processes: int) -> list[str]:
    """How training steps are computed: as a model's entry or a training's config says, else as suits the processes."""
    default = ["captured_backbone"] if processes <= 1 else []  # not tried with several GPUs
    return settings.get("acceleration", default)


def validates(entry: dict[str, Any]) -> bool:
    """Whether a model is validated during training: mmsegmentation's models are, unless the entry sets 0."""
    return entry.get("overrides", {}).get("train_cfg", {}).get("val_interval") != 0


def check_training(
    where: str, entry: dict[str, Any], dataset: str, regime: str, balance: str, gpus: int, precision: str
) -> None:
    """Check that a model can be trained on a data set in a regime with these GPUs.

    Args:
        where: What messages begin with: the experiment, its model and the models file.
        entry: The model's entry of the models file.
        dataset: Id of the data set.
        regime: Name of a regime.
        balance: Name of a sampler.
        gpus: Processes of one step; 0 means one process on the CPU.
        precision: fp32, fp16 or bf16.
    Raises: InputError for the first fault.
    """
    found = find_regime(regime)
    if dataset not in entry["iterations"]:
        raise InputError(
            f"{where}: no iterations for {dataset!r} (only {', '.join(entry['iterations'])}); add those of a training "
            "on its real images to the models file"
        )
    if balance != "exact" and found.sampler is not None:
        raise InputError(
            f"{where}: balance {balance} is for regimes that mix, e.g. joint; this one is {regime}: empty it"
        )
    if precision == "fp16" and not gpus:
        raise InputError(f"{where}: training_precision = fp16 needs GPUs, training_gpus is 0; choose fp32 or bf16")
    if entry["gpus"] % max(gpus, 1):
        raise InputError(
            f"{where}: training_gpus = {gpus}, but the models file gives gpus = {entry['gpus']}; want a divisor of it, "
            "so that an update sees as many images"
        )
    update = entry["batch_size"] * entry["gpus"]
    if found.sampler is None and balance == "exact" and update % 2:
        raise InputError(
            f"{where}: the models file gives batch_size * gpus = {update} image(s) an update, of which exactly half "
            "shall be real; make it even"
        )
