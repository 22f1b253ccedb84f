"""Segmentors of cross-fitted class losses as experiments: the scorer's row, trained on all folds but one."""

from typing import Any

import pandas as pd

from freemask.errors import InputError
from freemask.segmentation.regimes import find_regime

STUDY = "folds"  # of the experiments table; in no table or figure


def folds_of_set(config: dict[str, Any], synthetic_set: str) -> int:
    """Folds of the class losses that a synthetic set's filter uses."""
    return config["synthetic_sets"][synthetic_set].get("folds", folds_of_run(config))


def folds_of_run(config: dict[str, Any]) -> int:
    """Folds of class_loss.tsv, which ranks masks and limits the filters of sets that don't say otherwise."""
    return config.get("class_loss", {}).get("folds", 1)


def experiment_of(scorer: str, fold: str) -> str:
    """Name of the segmentor of a fold i-of-k."""
    return f"{scorer}.fold-{fold}"


def with_folds(config: dict[str, Any], experiments: pd.DataFrame) -> pd.DataFrame:
    """The experiments table with a column `fold` (i-of-k or "") and a row for each fold in use.

    Raises: InputError for a scorer that starts from a pre-training, which has seen the images held out.
    """
    found = [experiments.assign(fold="")]
    for dataset in config["datasets"]:
        sets = [name for name, chosen in config["synthetic_sets"].items() if chosen["dataset"] == dataset]
        numbers = {folds_of_run(config), *(folds_of_set(config, name) for name in sets)} - {1}
        scorer = config["scorers"][dataset]
        row = experiments[(experiments.dataset == dataset) & (experiments.experiment == scorer["experiment"])]
        if numbers and find_regime(row.regime.item()).pretrained:
            raise InputError(
                f"class_loss.folds: the scorer {scorer['experiment']} starts from a pre-training, which has seen the"
                " images held out; choose a scorer of regime real, or 1 fold"
            )
        for fold in (f"{number}-of-{count}" for count in sorted(numbers) for number in range(1, count + 1)):
            own = {"experiment": experiment_of(scorer["experiment"], fold), "fold": fold, "study": STUDY}
            found.append(row.assign(**own, train_seeds=[(scorer["train_seed"],)]))
    return pd.concat(found, ignore_index=True)
