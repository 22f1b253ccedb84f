"""Configuration read and checked at the door: one error naming file, key, value and remedy, before any job starts."""

import json
import math
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.segmentation.experiments import with_optional_columns
from freemask.tables import read_table
from freemask.workflow import imported
from freemask.workflow.places import ROOT, place

SCHEMAS = ROOT / "config/schemas"
DATASETS = Path("config/datasets")
EXPERIMENT_COLUMNS = ["experiment", "dataset", "model", "regime", "schedule", "synthetic_set", "train_seeds"]


def read_run(config: Any, source: str | Path, base: Path = Path()) -> tuple[dict, dict, pd.DataFrame]:
    """Everything that a configuration names, checked.

    Args: source: what messages call the configuration; base: folder that the user's paths are relative to.
    Returns: facts of the data sets by id, entries of the models file by id, the experiments table.
    Raises: InputError for the first fault, naming file, key, value and remedy.
    """
    check_schema(config, "config", source)
    datasets = {name: read_dataset(name, config, base) for name in config["datasets"]}
    models = read_yaml(place(config["models"], base))
    check_schema(models, "models", config["models"])
    experiments = read_experiments(config, base)
    try:
        _check_ids(config, base)
        check_references(config, datasets, experiments, models)
        imported.check(config, experiments, pretraining_of, base)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return datasets, models, experiments


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; InputError where it is missing or isn't YAML."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name where the configuration mentions it") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML; mend it: {error}") from None


def check_schema(value: Any, schema: str, source: str | Path) -> None:
    """Check a value against config/schemas/{schema}.schema.json.

    Raises: InputError naming source, key, value and what the schema says of the key.
    """
    rules = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    errors = list(Draft202012Validator(rules).iter_errors(value))
    unknown = [error for error in errors if error.validator == "additionalProperties"]  # a misspelt key is missing, too
    error = best_match(unknown or errors)
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        extra = [name for name in error.instance if name not in error.schema["properties"]]
        known = ", ".join(error.schema["properties"])
        raise InputError(f"{source}: {key}: unknown key {extra[0]!r}; remove it or use one of: {known}")
    if error.validator == "required":
        raise InputError(f"{source}: {key}: {error.message}; add it ({error.schema.get('description', 'see README')})")
    value, message = (textwrap.shorten(text, 120) for text in (repr(error.instance), error.message))
    if error.validator == "pattern":
        message = f"want {error.validator_value}"
    raise InputError(f"{source}: {key} = {value}: {message}; {error.schema.get('description', 'see config/README.md')}")


def read_dataset(name: str, config: dict, base: Path = Path()) -> dict:
    """Facts of one data set with `root` as the run's data_roots has it, and its `labels` (a LabelSpace).

    Where the file lists the classes themselves, they become `class_rows`, and `classes` the table that is made of them.
    """
    path = place(DATASETS / f"{name}.yaml", base)
    _known("datasets", "data set", name, _datasets(base), f" in {DATASETS}")
    facts = read_yaml(path)
    check_schema(facts, "dataset", path)
    facts["root"] = config.get("data_roots", {}).get(name, facts["root"])
    if isinstance(facts["classes"], list):
        facts["classes"] = [{"word": row["name"], **row} for row in facts["classes"]]
        table = pd.DataFrame(facts["classes"])
        facts["label_space"] = LabelSpace.of_table(table, facts["ignored_label"], path)
    else:
        facts["label_space"] = LabelSpace.of_class_table(place(facts["classes"], base), facts["ignored_label"])
    return facts


def read_experiments(config: dict, base: Path = Path()) -> pd.DataFrame:
    """The experiments of the run's data sets, checked row by row; train_seeds become tuples of whole numbers."""
    path = place(config["experiments"], base)
    table = with_optional_columns(read_table(path, EXPERIMENT_COLUMNS))
    # a column of numbers or of nothing at all isn't read as text
    text = {column: table[column].astype(object).fillna("").astype(str) for column in ("synthetic_set", "train_seeds")}
    table = table.assign(**text)
    for number, row in enumerate(table.to_dict("records"), start=2):
        check_schema(row, "experiments", f"{path}, line {number}")
        _known(f"{path}, line {number}", "dataset", row["dataset"], _datasets(base), f" in {DATASETS}")
    table = table[table.dataset.isin(config["datasets"])].reset_index(drop=True)
    for dataset in config["datasets"]:
        if dataset not in set(table.dataset):
            raise InputError(f"{path}: no experiment of data set {dataset}; add its rows or take it out of datasets")
    for row in table[table.duplicated(["dataset", "experiment"])].itertuples():
        raise InputError(f"{path}: experiment {row.experiment!r} stands twice for {row.dataset}; rename one")
    table["train_seeds"] = [tuple(sorted({int(seed) for seed in text.split(",")})) for text in table.train_seeds]
    return table


def precision(entry: dict, config: dict) -> str:
    """The arithmetic that a model trains in: its own where it can't follow the run's, else the run's, else fp32."""
    return entry.get("precision", config.get("training_precision", "fp32"))


def _datasets(base: Path) -> list[str]:
    """Data sets that have a file of facts."""
    return sorted({path.stem for folder in (base, ROOT) for path in (folder / DATASETS).glob("*.yaml")})


def _check_ids(config: dict, base: Path) -> None:
    """Data sets that are named beside `datasets`, which this run needn't use, must be there as well."""
    named = [(key, name) for key in ("data_roots", "scorers", "report", "imported") for name in config.get(key, {})]
    named += [(f"generators.{name}.dataset", chosen["dataset"]) for name, chosen in config["generators"].items()]
    for where, name in named:
        _known(where, "data set", name, _datasets(base), f" in {DATASETS}")


def validates(entry: dict) -> bool:
    """Whether a model of the models file is validated during training: mmsegmentation's are, unless it says 0."""
    return entry.get("overrides", {}).get("train_cfg", {}).get("val_interval") != 0


def pretraining_of(row: pd.Series, experiments: pd.DataFrame) -> str:
    """The experiment whose weights a finetune row starts from: regime synthetic, same data set, model and set."""
    same = experiments[
        (experiments.regime == "synthetic")
        & (experiments.dataset == row.dataset)
        & (experiments.model == row.model)
        & (experiments.synthetic_set == row.synthetic_set)
    ]
    for candidate in same.itertuples():
        if set(row.train_seeds) <= set(candidate.train_seeds):
            return candidate.experiment
    raise InputError(
        f"experiment {row.experiment!r}: no row of regime synthetic with model {row.model!r}, synthetic_set "
        f"{row.synthetic_set!r} and train_seeds {','.join(map(str, row.train_seeds))} to start from; add one"
    )


def check_references(config: dict, datasets: dict[str, dict], experiments: pd.DataFrame, models: dict) -> None:
    """Everything that is named must be there: data sets, generators, plans, sets, models, scorers, comparisons."""
    for name, chosen in config["synthetic_sets"].items():
        _check_set(f"synthetic_sets.{name}", chosen, config)
    for name, generator in config["generators"].items():
        _check_generator(name, generator, datasets)
    for row in experiments.itertuples():
        _check_experiment(experiments.loc[row.Index], config, experiments, models)
        _check_gpus(experiments.loc[row.Index], config, models)
    real = experiments[experiments.regime == "real"]
    for row in real[real.duplicated(["dataset", "model", "schedule"])].itertuples():
        raise InputError(
            f"{config['experiments']}: experiment {row.experiment} is a second one of model {row.model!r} on real "
            "images "
            f"of {row.dataset} with schedule {row.schedule}, gains are over one; join their train_seeds in one row"
        )
    for dataset in config["datasets"]:
        _check_choices(dataset, config, experiments)


def _check_generator(name: str, generator: dict, datasets: dict[str, dict]) -> None:
    """A generator's size, source, kind and steps."""
    if generator["dataset"] in datasets and generator["image_size"] != datasets[generator["dataset"]]["mask_size"]:
        raise InputError(
            f"generators.{name}.image_size = {generator['image_size']}, but {generator['dataset']} has mask_size "
            f"{datasets[generator['dataset']]['mask_size']}; make them agree"
        )
    wanted = "training" if generator["source"] == "train" else "path"
    if wanted not in generator:
        raise InputError(f"generators.{name}: source {generator['source']} needs the key {wanted!r}; add it")
    if generator.get("kind") == "controlnet" and generator["source"] != "pipeline":
        raise InputError(
            f"generators.{name}: kind controlnet with source {generator['source']}; it takes source: pipeline, a "
            "folder that diffusers' StableDiffusionControlNetPipeline saved"
        )
    if generator["scheduler"] != "dpmsolver++" and 1000 % generator["steps"]:
        raise InputError(
            f"generators.{name}.steps = {generator['steps']}: {generator['scheduler']} wants a divisor of the 1000"
            " noise levels, e.g. 20, 25, 40, 50"
        )
    if "sha256" in generator and generator.get("address", "").startswith("hf://"):
        raise InputError(f"generators.{name}.sha256: the commit in {generator['address']} pins it; leave sha256 out")


def _check_gpus(row: pd.Series, config: dict, models: dict) -> None:
    """A training's GPUs and batch: an update sees as many images as the model's entry says, joint half of them real."""
    entry, used = models[row.model], max(config["training_gpus"], 1)
    if used % config.get("training_nodes", 1):
        raise InputError(
            f"training_nodes = {config['training_nodes']}: want a divisor of training_gpus = {used}, so that each node "
            "has as many"
        )
    if precision(entry, config) == "fp16" and not config["training_gpus"]:
        raise InputError("training_precision = fp16 needs GPUs, training_gpus is 0; choose fp32 or bf16")
    if entry["gpus"] % used:
        raise InputError(
            f"training_gpus = {used}: model {row.model!r} in {config['models']} is for gpus = {entry['gpus']}, want a "
            "divisor of it, so that an update sees as many images"
        )
    update = entry["batch_size"] * entry["gpus"]
    if row.regime == "joint" and update % 2:
        raise InputError(
            f"{config['experiments']}: experiment {row.experiment}: model {row.model!r} in {config['models']} has "
            f"batch_size * gpus = {update} image(s) an update, joint training wants half of them real; make it even"
        )


def _check_set(where: str, chosen: dict, config: dict) -> None:
    """A synthetic set's generator, plan and alpha."""
    _known(where, "generator", chosen["generator"], config["generators"])
    _known(where, "plan", chosen["plan"], config["plans"])
    painted = config["generators"][chosen["generator"]]["dataset"]
    if painted != chosen["dataset"]:
        raise InputError(
            f"{where}.generator = {chosen['generator']!r} paints {painted}, not {chosen['dataset']}; choose another"
        )
    steps = chosen["alpha"] / 0.05
    whole = math.isfinite(steps) and abs(steps - round(steps)) < 1e-6
    if steps != math.inf and not (whole and 1 <= round(steps) <= 255):
        raise InputError(f"{where}.alpha = {chosen['alpha']}, want .inf or a multiple of 0.05 in 0.05..12.75")


def _check_experiment(row: pd.Series, config: dict, experiments: pd.DataFrame, models: dict) -> None:
    """A row's model, synthetic set and pre-training."""
    where = f"{config['experiments']}: experiment {row.experiment}"
    _known(where, "model", row.model, models)
    if row.dataset not in models[row.model]["iterations"]:
        raise InputError(
            f"{where}: model {row.model!r} has no iterations for {row.dataset} in {config['models']}; add them there"
        )
    if row.balance != "exact" and row.regime != "joint":
        raise InputError(f"{where}: balance {row.balance} is for regime joint, this one is {row.regime}; empty it")
    if row.regime == "real":
        if row.synthetic_set:
            raise InputError(f"{where}: regime real takes no synthetic_set (found {row.synthetic_set!r}); empty it")
        return
    _known(where, "synthetic_set", row.synthetic_set, config["synthetic_sets"])
    if config["synthetic_sets"][row.synthetic_set]["dataset"] != row.dataset:
        raise InputError(f"{where}: synthetic_set {row.synthetic_set!r} is of another data set; choose one of its own")
    if row.regime == "finetune":
        pretraining_of(row, experiments)


def _check_choices(dataset: str, config: dict, experiments: pd.DataFrame) -> None:
    """The scorer and the comparison of one data set name rows of the experiments table."""
    rows = experiments[experiments.dataset == dataset].set_index("experiment")
    _known("scorers", "data set", dataset, config["scorers"])
    _known("report", "data set", dataset, config["report"])
    scorer = config["scorers"][dataset]
    _known(f"scorers.{dataset}", "experiment", scorer["experiment"], rows.index)
    chosen = rows.loc[scorer["experiment"]]
    if chosen.regime != "real" or scorer["train_seed"] not in chosen.train_seeds:
        raise InputError(
            f"scorers.{dataset}: {scorer['experiment']} with train_seed {scorer['train_seed']} isn't trained on real "
            f"images in {config['experiments']} (regime {chosen.regime}, train_seeds {chosen.train_seeds})"
        )
    comparison = config["report"][dataset]
    for key in ("baseline", "control", "improved"):
        if key in comparison:
            _known(f"report.{dataset}", key, comparison[key], rows.index)
    baseline, improved = (set(rows.loc[comparison[key]].train_seeds) for key in ("baseline", "improved"))
    if not baseline & improved:
        raise InputError(
            f"report.{dataset}: baseline {comparison['baseline']!r} and improved {comparison['improved']!r} have no "
            f"train seed in common in {config['experiments']}; give them one, gains are taken seed by seed"
        )
    own = [name for name, chosen in config["synthetic_sets"].items() if chosen["dataset"] == dataset]
    _known(f"report.{dataset}", "contact_sheet", comparison["contact_sheet"], own)


def _known(where: str, key: str, value: str, known: Any, place: str = "") -> None:
    if value not in known:
        raise InputError(
            f"{where}: {key} {value!r} isn't defined{place}; use one of: {', '.join(map(str, known)) or '(none)'}"
        )
