"""Several configurations over one data set: a run with a name has results of its own, and shares the images.

The run `b` of data set `camvid` is called camvid@b in paths and targets. Class losses, plans, trainings and tables
follow from its own configuration; a synthetic image follows from mask, seed and generator alone.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from freemask.files import RUN

BY_DATASET = ("data_roots", "scorers", "report", "imported")  # keys of the configuration
OF_A_DATASET = ("generators", "synthetic_sets")
OF_A_MODEL = ("iterations", "warmup")


def name(
    config: dict, datasets: dict[str, dict], models: dict[str, dict], experiments: pd.DataFrame
) -> tuple[dict[str, dict], pd.DataFrame]:
    """Give a named run's data sets their names everywhere; changes the checked configuration and the models in place.

    Args: datasets: facts by data set; models: entries by model; experiments: the table.
    Returns: the facts by their new names, and the table with them.
    """
    if "run" not in config:
        return datasets, experiments
    names = {dataset: f"{dataset}{RUN}{config['run']}" for dataset in datasets}
    config["datasets"] = [names[dataset] for dataset in config["datasets"]]
    _rename_keys(config, BY_DATASET, names)
    for entry in models.values():
        _rename_keys(entry, OF_A_MODEL, names)
    for chosen in (chosen for key in OF_A_DATASET for chosen in config[key].values()):
        chosen["dataset"] = names.get(chosen["dataset"], chosen["dataset"])
    titled = {names[key]: facts | {"title": f"{facts['title']}, {config['run']}"} for key, facts in datasets.items()}
    return titled, experiments.assign(dataset=experiments.dataset.map(names))


def _rename_keys(settings: dict[str, Any], keys: tuple[str, ...], names: Mapping[str, str]) -> None:
    """Rename data sets in the settings that are given by data set; in place."""
    for key in settings.keys() & set(keys):
        settings[key] = {names.get(dataset, dataset): value for dataset, value in settings[key].items()}
