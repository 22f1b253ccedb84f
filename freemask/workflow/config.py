"""A run's configuration, checked at the door: what it names must be there and fit together, before any job starts."""

from pathlib import Path
from typing import Any

import pandas as pd

from freemask.errors import InputError, check_known
from freemask.files import RUN
from freemask.filtering.margins import parse_alpha
from freemask.reporting.differences import read_differences
from freemask.segmentation.experiments import check_training, precision, pretraining_of, read_all_experiments
from freemask.segmentation.regimes import find_regime
from freemask.workflow import imported, named_runs
from freemask.workflow.dataset_settings import check_dataset, read_dataset
from freemask.workflow.generator_settings import check_generator
from freemask.workflow.places import place
from freemask.workflow.settings import check_schema, expand, read_yaml


def read_run(config: Any, source: str | Path, base: Path = Path()) -> tuple[dict, dict, pd.DataFrame]:
    """Everything that a configuration names, checked.

    Args: source: what messages call the configuration; base: folder that the user's paths are relative to.
    Returns: facts of the data sets by id, entries of the models file by id, the experiments table.
    Raises: InputError for the first fault, naming file, key, value and remedy.
    """
    check_schema(config, "config", source)
    config.update(expand(dict(config), source))
    datasets = {name: read_dataset(name, config, base) for name in config["datasets"]}
    models = read_yaml(place(config["models"], base))
    check_schema(models, "models", config["models"])
    for entry in models.values():
        iterations = entry["iterations"]
        if default := iterations.pop("default", None):
            entry["iterations"] = dict.fromkeys(config["datasets"], default) | iterations
    experiments = read_experiments(config, base)
    try:
        _check_ids(config, base)
        check_references(config, datasets, experiments, models)
        imported.check(config, experiments, base)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    datasets, experiments = named_runs.name(config, datasets, models, experiments)
    return datasets, models, experiments


def read_experiments(config: dict, base: Path = Path()) -> pd.DataFrame:
    """The experiments of the run's data sets, checked row by row; see segmentation.experiments for the columns."""
    path = place(config["experiments"], base)

    def check_row(row: dict, where: str) -> None:
        check_schema(row, "experiments", where)
        check_dataset(where, row["dataset"], base)

    table = read_all_experiments(path, check_row)
    table = table[table.dataset.isin(config["datasets"])].reset_index(drop=True)
    for dataset in config["datasets"]:
        if dataset not in set(table.dataset):
            raise InputError(f"{path}: no experiment of data set {dataset}; add its rows or take it out of datasets")
    for row in table[table.duplicated(["dataset", "experiment"])].itertuples():
        raise InputError(f"{path}: experiment {row.experiment!r} stands twice for {row.dataset}; rename one")
    return table


def _check_ids(config: dict, base: Path) -> None:
    """Data sets that are named beside `datasets`, which this run needn't use, must be there as well."""
    named = [(key, name) for key in named_runs.BY_DATASET for name in config.get(key, {})]
    named += [(f"generators.{name}.dataset", chosen["dataset"]) for name, chosen in config["generators"].items()]
    for where, name in named:
        check_dataset(where, name, base)


def check_references(config: dict, datasets: dict[str, dict], experiments: pd.DataFrame, models: dict) -> None:
    """Everything that is named must be there: data sets, generators, plans, sets, models, scorers, comparisons."""
    for name, chosen in config["synthetic_sets"].items():
        _check_set(f"synthetic_sets.{name}", chosen, config)
    for name, generator in config["generators"].items():
        check_generator(name, generator, datasets)
    if max(config["training_gpus"], 1) % config.get("training_nodes", 1):
        raise InputError(
            f"training_nodes = {config['training_nodes']}: want a divisor of training_gpus = "
            f"{max(config['training_gpus'], 1)}, so that each node has as many"
        )
    for index in experiments.index:
        _check_experiment(experiments.loc[index], config, experiments, models)
    real = experiments[experiments.regime == "real"]
    for row in real[real.duplicated(["dataset", "model", "schedule"])].itertuples():
        raise InputError(
            f"{config['experiments']}: experiment {row.experiment} is a second one of model {row.model!r} on real "
            f"images of {row.dataset} with schedule {row.schedule}; gains are over one row: join their train_seeds"
        )
    for dataset in config["datasets"]:
        _check_choices(dataset, config, experiments)
    if "evidence" in config:
        _check_evidence(config["evidence"], config, experiments)


def _check_evidence(evidence: dict, config: dict, experiments: pd.DataFrame) -> None:
    """What the page of evidence always needs; arms that aren't in the table are "not run" there."""
    for dataset in config["datasets"]:
        rows = experiments[experiments.dataset == dataset].set_index("experiment")
        for name in [evidence["judge"], *evidence["classes"]]:
            check_known(f"evidence, data set {dataset}", "experiment", name, rows.index)
        if not find_regime(rows.regime[evidence["judge"]]).only_real:
            raise InputError(f"evidence.judge: {evidence['judge']} isn't trained on real images alone; choose another")
    asked = [" over ".join(one[:2]) for question in evidence["questions"].values() for one in question["differences"]]
    for advice in evidence["advice"]:
        check_known("evidence.advice", "difference", " over ".join(advice["difference"][:2]), asked)
    if other := evidence.get("another_world"):
        where = f"evidence.another_world: {other}"
        run = f"{RUN}{config['run']}" if "run" in config else ""
        if other in {f"results/{dataset}{run}/evidence/differences.tsv" for dataset in config["datasets"]}:
            raise InputError(f"{where} is written by this run; give another one's, or null")
        table = read_differences(place(other))
        if not set(asked) & set((table.of + " over " + table.over)[table.seeds > 0]):
            raise InputError(f"{where}: no difference that is asked for; give the differences.tsv of a finished run")
    for name in evidence["sheets"]:
        check_known("evidence.sheets", "synthetic set", name, config["synthetic_sets"])


def _check_set(where: str, chosen: dict, config: dict) -> None:
    """A synthetic set's generator, plan and alpha."""
    check_known(where, "generator", chosen["generator"], config["generators"])
    check_known(where, "plan", chosen["plan"], config["plans"])
    trained = config["generators"][chosen["generator"]]["dataset"]
    if trained != chosen["dataset"]:
        raise InputError(
            f"{where}.generator = {chosen['generator']!r} is for {trained}, not {chosen['dataset']}; choose another"
        )
    try:
        parse_alpha(str(chosen["alpha"]))
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_experiment(row: pd.Series, config: dict, experiments: pd.DataFrame, models: dict) -> None:
    """A row's model, synthetic set, pre-training and GPUs."""
    where = f"{config['experiments']}: experiment {row.experiment}"
    check_known(where, "model", row.model, models)
    entry, regime = models[row.model], find_regime(row.regime)
    named, gpus = f"{where}, model {row.model!r} in {config['models']}", config["training_gpus"]
    check_training(named, entry, row.dataset, row.regime, row.balance, gpus, precision(entry, config))
    if not regime.needs_synthetic_set:
        if row.synthetic_set:
            raise InputError(
                f"{where}: regime {row.regime} takes no synthetic_set (found {row.synthetic_set!r}); empty it"
            )
        return
    check_known(where, "synthetic_set", row.synthetic_set, config["synthetic_sets"])
    if config["synthetic_sets"][row.synthetic_set]["dataset"] != row.dataset:
        raise InputError(f"{where}: synthetic_set {row.synthetic_set!r} is of another data set; choose one of its own")
    if regime.pretrained:
        pretraining_of(row, experiments)


def _check_choices(dataset: str, config: dict, experiments: pd.DataFrame) -> None:
    """The scorer and the comparison of one data set name rows of the experiments table."""
    rows = experiments[experiments.dataset == dataset].set_index("experiment")
    check_known("scorers", "data set", dataset, config["scorers"])
    check_known("report", "data set", dataset, config["report"])
    scorer = config["scorers"][dataset]
    check_known(f"scorers.{dataset}", "experiment", scorer["experiment"], rows.index)
    chosen = rows.loc[scorer["experiment"]]
    if not find_regime(chosen.regime).only_real or scorer["train_seed"] not in chosen.train_seeds:
        raise InputError(
            f"scorers.{dataset}: {scorer['experiment']} with train_seed {scorer['train_seed']} isn't trained on real "
            f"images in {config['experiments']} (regime {chosen.regime}, train_seeds {chosen.train_seeds})"
        )
    comparison = config["report"][dataset]
    for key in ("baseline", "control", "improved"):
        if key in comparison:
            check_known(f"report.{dataset}", key, comparison[key], rows.index)
    for role in ("baseline", "control"):
        if role in comparison and not set(rows.loc[comparison[role]].train_seeds) & set(
            rows.loc[comparison["improved"]].train_seeds
        ):
            raise InputError(
                f"report.{dataset}: {role} {comparison[role]!r} and improved {comparison['improved']!r} have no "
                f"train seed in common in {config['experiments']}; give them one, gains are taken seed by seed"
            )
    own = [name for name, chosen in config["synthetic_sets"].items() if chosen["dataset"] == dataset]
    check_known(f"report.{dataset}", "contact_sheet", comparison["contact_sheet"], own)
