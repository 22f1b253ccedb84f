"""What the workflow left of a data set, as the page shows it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import own_id
from freemask.reporting.layout import name_of
from freemask.reporting.results import trainings
from freemask.reporting.runs import Run, read_run
from freemask.segmentation.experiments import read_all_experiments
from freemask.tables import read_table


@dataclass(frozen=True)
class Dataset:
    """What the page shows of a data set.

    id: its id. facts: title, baseline, control (or None), improved, contact_sheet, top, train_seed, pictures (number of
        predictions), sets (settings of synthetic sets by name), ablations (names of those that are made).
    folder: its results. experiments: its rows that are shown. miou: its table miou.csv.
    runs: the trainings of each experiment. label_space: its classes.
    """

    id: str
    facts: dict[str, Any]
    folder: Path
    experiments: pd.DataFrame
    miou: pd.DataFrame
    runs: dict[str, list[Run]]
    label_space: LabelSpace

    @property
    def control(self) -> str:
        """The experiment that joint training is compared with: real images at twice the schedule, else the baseline."""
        return self.facts["control"] or self.facts["baseline"]

    def training(self, experiment: str, seed: int) -> Path:
        """The folder of one of its trainings."""
        return self.folder / "training" / experiment / f"seed-{seed}"

    def table(self, name: str, columns: list[str]) -> pd.DataFrame:
        """One of its tables."""
        return read_table(self.folder / "tables" / name, columns)

    def row(self, experiment: str) -> pd.Series:
        """The row of an experiment in miou.csv."""
        return self.miou.set_index("experiment").loc[experiment]

    def what(self, experiment: str) -> str:
        """What an experiment trains on, e.g. 'real, 2x'."""
        row = self.experiments.set_index("experiment").loc[experiment]
        return name_of(row.regime, row.schedule, row.balance)


def read_dataset(name: str, facts: dict[str, Any], results: Path, logs: Path, experiments: Path) -> Dataset:
    """Read a data set's results.

    Args:
        name: Its id.
        facts: See Dataset.
        results: Folder of the results of all data sets.
        logs: Folder of their logs.
        experiments: Experiments table.
    """
    rows = read_all_experiments(experiments)
    shown = (rows.study == "main") | rows.experiment.isin(facts["ablations"])
    rows = rows[(rows.dataset == own_id(name)) & shown].reset_index(drop=True)
    path = results / name / "tables/miou.csv"
    empty = {"synthetic_set": "", "balance": "exact"}
    try:
        miou = pd.read_csv(path, keep_default_na=False, na_values=[""]).fillna(empty)
    except OSError as error:
        raise InputError(f"{path}: can't be opened ({error.strerror}); run result_tables") from None
    runs: dict[str, list[Run]] = {experiment: [] for experiment in rows.experiment}
    for experiment, seed, folder in trainings(results / name / "training", rows):
        runs[experiment].append(read_run(folder, logs / name, experiment, seed))
    space = LabelSpace.read(results / name / "label_space.json")
    return Dataset(name, facts, results / name, rows, miou, runs, space)


def card_id(dataset: str, experiment: str) -> str:
    """The id of an experiment's run card on the page."""
    return f"run-{dataset}-{experiment}"
