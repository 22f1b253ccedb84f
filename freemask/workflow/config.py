"""Configuration read and checked at the door: one error naming file, key, value and remedy, before any job starts."""

import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from freemask import plugins
from freemask.data.colors import of_hexadecimal
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import MaskFormat
from freemask.errors import InputError
from freemask.files import read_text
from freemask.filtering.filters import FILTERS
from freemask.filtering.margins import parse_alpha
from freemask.generation.generators import GENERATORS
from freemask.generation.schedulers import SCHEDULERS, WHOLE_INTERVALS
from freemask.segmentation.experiments import check_training, precision, pretraining_of, read_all_experiments
from freemask.segmentation.regimes import REGIMES, SAMPLERS, find_regime
from freemask.selection.strategies import STRATEGIES
from freemask.workflow import imported, named_runs
from freemask.workflow.places import ROOT, place

# What a schema's keyword "choices" names: the names of a table, or package.module:object.
CHOICES = {
    "filter": FILTERS,
    "method": GENERATORS,
    "regime": REGIMES,
    "sampler": SAMPLERS,
    "scheduler": SCHEDULERS,
    "strategy": STRATEGIES,
}
RENAMED = {"kind": "method"}  # keys of earlier versions
# What the schemas' patterns ask for, in words.
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "letters, digits, '_', '.' and '-', with a letter or digit first",
    r"^[A-Za-z0-9_-]+$": "letters, digits, '_' and '-'",
    r"^[0-9]{1,9}(,[0-9]{1,9})*$": "whole numbers of at most 9 digits joined by commas, e.g. 0,1,2",
    r"^#[0-9a-fA-F]{6}$": "'#' and six hexadecimal digits, in quotes, e.g. \"#2060a0\"",
    r"^\S+$": "text without spaces",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits in small letters",
    r"^[0-9a-f]{8,64}$": "8 to 64 hexadecimal digits in small letters",
    r"^.*\.[A-Za-z]+$": "an end with the dot, e.g. .jpg or _rgb.png",
    r"^.*\.([pP][nN][gG]|[tT][iI][fF][fF]?)$": "an end in .png, .tif or .tiff: other formats change labels",
    r"^https?://.+/[^/?#]+$": "the web address of a file, https://...",
    r"^https?://.*[^/]$": "the web address of a file, https://...",
    r"^hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}$": "hf://owner/name@commit, with all 40 digits of the commit",
    r"^(\.|[^/.][^/]*(/[^/.][^/]*)*)$": "a folder below root, e.g. images/train, or .",
    r"(^|/)plot_\w+\.py$": "the path of a script plot_<name>.py",
    r"^mmseg::.+\.py$": "mmseg:: and the path of a config, mmseg::segformer/segformer_...-512x512.py",
    r"^[^/]": "a path relative to the working directory",
}
SCHEMAS = ROOT / "config/schemas"
DATASETS = Path("config/datasets")


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


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; InputError where it is missing or isn't YAML."""
    try:
        return yaml.load(read_text(path, "check the name where the configuration mentions it"), Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML; mend it: {error}") from None


class Loader(yaml.SafeLoader):
    """YAML that is read as people mean it: no key stands twice, 010 isn't 8, 3e-3 is a number."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """A mapping whose keys differ, as it is written: merging puts a key there twice."""
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<" and keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, in decimal digits."""
        if re.match(r"[-+]?0[0-9]|.*:", node.value):
            what = f"{node.value} would be read as {super().construct_yaml_int(node)}; write that, or put it in quotes"
            raise yaml.MarkedYAMLError(None, None, what, node.start_mark)
        return super().construct_yaml_int(node)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("+-0123456789")
)


def expand(value: Any, source: str | Path) -> Any:
    """A copy of settings with ~ and $VARIABLE resolved at the start of each value, as a shell does.

    Raises: InputError for a variable that isn't set.
    """
    if isinstance(value, dict):
        return {key: expand(inner, source) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, source) for inner in value]
    if not (isinstance(value, str) and value.startswith(("~", "$"))):
        return value
    path = os.path.expandvars(os.path.expanduser(value))
    if path.startswith(("~", "$")):
        raise InputError(f"{source}: {value}: no such user or environment variable here; set it, or write the path out")
    return path


def _choices(_validator: Any, table: str, name: Any, _schema: dict) -> Iterator[ValidationError]:
    """The schema keyword "choices": a name of the table, or package.module:object."""
    if isinstance(name, str) and name not in CHOICES[table] and not re.fullmatch(plugins.PATTERN, name):
        yield ValidationError(f"{name!r} is not one of {list(CHOICES[table])}, nor package.module:object")


NUMBERS = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: type(value) is int,  # 64.0 isn't one to a command line
        "number": lambda _, value: type(value) in (int, float) and value == value,  # NaN isn't one
    }
)
Validator = extend(Draft202012Validator, {"choices": _choices}, type_checker=NUMBERS)


def check_schema(value: Any, schema: str, source: str | Path) -> None:
    """Check a value against config/schemas/{schema}.schema.json.

    Raises: InputError naming source, key, value and what the schema says of the key.
    """
    rules = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    errors = list(Validator(rules).iter_errors(value))
    unknown = [error for error in errors if error.validator == "additionalProperties"]  # a misspelt key is missing, too
    error = best_match(unknown or errors)
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        raise InputError(f"{source}: {key}: {_unknown_key(error)}")
    if error.validator == "required":
        raise InputError(f"{source}: {key}: {error.message}; add it ({error.schema.get('description', 'see README')})")
    value, message = (textwrap.shorten(text, 120) for text in (repr(error.instance), error.message))
    described = error.schema.get("description", "see docs/configuration.md")
    if error.validator == "pattern":
        message = f"want {PATTERNS[error.validator_value]}"
    raise InputError(f"{source}: {key} = {value}: {message}; {described}")


def _unknown_key(error: ValidationError) -> str:
    """What to say of the first unknown key: its new name, or the known ones."""
    known = error.schema["properties"]
    name = next(name for name in error.instance if name not in known)
    if RENAMED.get(name) in known:
        return f"key {name!r} is now called {RENAMED[name]!r}; rename it"
    return f"unknown key {name!r}; remove it or use one of: {', '.join(known)}"


def read_dataset(name: str, config: dict, base: Path = Path()) -> dict:
    """Settings of one data set, with the run's `root` (data_roots), its `label_space` and its `mask_format`.

    Listed classes have words and labels.
    """
    path = place(DATASETS / f"{name}.yaml", base)
    _known("datasets", "data set", name, _datasets(base), f" in {DATASETS}")
    facts = read_yaml(path)
    check_schema(facts, "dataset", path)
    _complete_splits(facts, path)
    facts["root"] = expand(config.get("data_roots", {}).get(name, facts["root"]), path)
    colors = facts.get("masks_are") == "colors"
    ignored = facts.get("ignored_label")
    if isinstance(facts["classes"], list):
        facts["classes"] = [_listed_class(row, number, colors, path) for number, row in enumerate(facts["classes"])]
        facts["label_space"] = LabelSpace.of_table(pd.DataFrame(facts["classes"]), ignored, path)
    else:
        facts["label_space"] = LabelSpace.of_class_table(place(facts["classes"], base), ignored)
    space = facts["label_space"]
    if len(space) < 2:
        raise InputError(
            f"{path}: one class, so there is nothing to tell apart; list the background as a class as well"
        )
    if "trainids" in facts["mask_suffix"].lower() and space.ids != tuple(range(len(space))):
        raise InputError(
            f"{path}: mask_suffix = {facts['mask_suffix']}: by their name these masks hold train ids "
            f"0..{len(space) - 1}, but the classes have the labels {space.ids[0]}..{space.ids[-1]} of the original "
            "masks; give those masks' suffix, or number the classes 0, 1, 2, ... in train-id order"
        )
    facts["mask_format"] = _color_masks(facts, path) if colors else MaskFormat.of_labels(space, ignored is not None)
    if "ignored_color" in facts and not colors:
        raise InputError(f"{path}: ignored_color is for masks_are: colors; masks of labels have an ignored_label")
    return facts


def _complete_splits(facts: dict, path: Path) -> None:
    """Give a data set without a validation split the folders of the training split, of which a share validates."""
    images, masks = facts["images"], facts["masks"]
    if images.keys() != masks.keys():
        only = sorted(images.keys() ^ masks.keys())[0]
        raise InputError(f"{path}: images and masks have different splits; give {only} for both, or for none")
    if ("val" in images) == ("validation_share" in facts):
        raise InputError(
            f"{path}: {'two validation splits' if 'val' in images else 'no validation split'}; give either folders, "
            "val in images and masks, or validation_share, the share of the training images that validates, e.g. 0.1"
        )
    windows = facts.get("windows", {"size": 1, "overlap": 0})
    if 2 * windows["overlap"] > windows["size"]:
        raise InputError(
            f"{path}: windows.overlap = {windows['overlap']} is more than half of windows.size = {windows['size']}; "
            "make it smaller"
        )
    for kind, folders in (("images", images), ("masks", masks)):
        complete = {"val": folders["train"], **folders}
        facts[kind] = {split: complete[split] for split in ("train", "val", "test") if split in complete}


def _listed_class(row: dict, number: int, colors: bool, path: Path) -> dict:
    """A class that a data set's file lists, with its defaults: word, and where masks are colors label."""
    if "label" not in row and not colors:
        raise InputError(f"{path}: classes.{number}: {row['name']} has no label; add it (raw label in the masks)")
    return {"word": row["name"], "label": number, **row}


def _color_masks(facts: dict, path: Path) -> MaskFormat:
    """The format of masks that are colors, each of one class or of ignored pixels."""
    space, ignored = facts["label_space"], facts.get("ignored_color")
    owners = [(color, name) for color, name in zip(space.colors, space.names, strict=True)]
    if ignored:
        owners.append((of_hexadecimal(ignored), "ignored_color"))
    for color, _ in owners:
        equal = [name for other, name in owners if other == color]
        if len(equal) > 1:
            shown = "#{:02x}{:02x}{:02x}".format(*color)
            raise InputError(f"{path}: masks_are: colors, but {' and '.join(equal)} are all {shown}; give each its own")
    return MaskFormat.of_colors(space, of_hexadecimal(ignored) if ignored else None)


def read_experiments(config: dict, base: Path = Path()) -> pd.DataFrame:
    """The experiments of the run's data sets, checked row by row; see segmentation.experiments for the columns."""
    path = place(config["experiments"], base)

    def check_row(row: dict, where: str) -> None:
        check_schema(row, "experiments", where)
        _known(where, "dataset", row["dataset"], _datasets(base), f" in {DATASETS}")

    table = read_all_experiments(path, check_row)
    table = table[table.dataset.isin(config["datasets"])].reset_index(drop=True)
    for dataset in config["datasets"]:
        if dataset not in set(table.dataset):
            raise InputError(f"{path}: no experiment of data set {dataset}; add its rows or take it out of datasets")
    for row in table[table.duplicated(["dataset", "experiment"])].itertuples():
        raise InputError(f"{path}: experiment {row.experiment!r} stands twice for {row.dataset}; rename one")
    return table


def _datasets(base: Path) -> list[str]:
    """Data sets that have a file of facts."""
    return sorted({path.stem for folder in (base, ROOT) for path in (folder / DATASETS).glob("*.yaml")})


def _check_ids(config: dict, base: Path) -> None:
    """Data sets that are named beside `datasets`, which this run needn't use, must be there as well."""
    named = [(key, name) for key in named_runs.BY_DATASET for name in config.get(key, {})]
    named += [(f"generators.{name}.dataset", chosen["dataset"]) for name, chosen in config["generators"].items()]
    for where, name in named:
        _known(where, "data set", name, _datasets(base), f" in {DATASETS}")


def check_references(config: dict, datasets: dict[str, dict], experiments: pd.DataFrame, models: dict) -> None:
    """Everything that is named must be there: data sets, generators, plans, sets, models, scorers, comparisons."""
    for name, chosen in config["synthetic_sets"].items():
        _check_set(f"synthetic_sets.{name}", chosen, config)
    for name, generator in config["generators"].items():
        _check_generator(name, generator, datasets)
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
            _known(f"evidence, data set {dataset}", "experiment", name, rows.index)
        if not find_regime(rows.regime[evidence["judge"]]).only_real:
            raise InputError(f"evidence.judge: {evidence['judge']} isn't trained on real images alone; choose another")
    for name in evidence["sheets"]:
        _known("evidence.sheets", "synthetic set", name, config["synthetic_sets"])


def _check_generator(name: str, generator: dict, datasets: dict[str, dict]) -> None:
    """A generator's size, source, method and steps."""
    if generator["dataset"] in datasets and generator["image_size"] != datasets[generator["dataset"]]["mask_size"]:
        raise InputError(
            f"generators.{name}.image_size = {generator['image_size']}, but {generator['dataset']} has mask_size "
            f"{datasets[generator['dataset']]['mask_size']}; make them agree"
        )
    wanted = "training" if generator["source"] == "train" else "path"
    if wanted not in generator:
        raise InputError(f"generators.{name}: source {generator['source']} needs the key {wanted!r}; add it")
    if generator["source"] == "train":
        _check_generator_training(f"generators.{name}", generator, datasets)
    if generator.get("method", "freestyle") != "freestyle" and generator["source"] != "pipeline":
        raise InputError(
            f"generators.{name}: method {generator['method']} with source {generator['source']}; it takes source: "
            "pipeline, a folder that its own library saved, e.g. diffusers' StableDiffusionControlNetPipeline"
        )
    if generator["scheduler"] in WHOLE_INTERVALS and 1000 % generator["steps"]:
        raise InputError(
            f"generators.{name}.steps = {generator['steps']}: {generator['scheduler']} wants a divisor of the 1000"
            " noise levels, e.g. 20, 25, 40, 50"
        )
    if "sha256" in generator and generator.get("address", "").startswith("hf://"):
        raise InputError(f"generators.{name}.sha256: the commit in {generator['address']} pins it; leave sha256 out")


def _check_generator_training(where: str, generator: dict, datasets: dict[str, dict]) -> None:
    """What a generator's training starts from, and its batches."""
    training, dataset = generator["training"], generator["dataset"]
    if ("init" in training) == ("stream" in training):
        raise InputError(f"{where}.training: give either init (a folder to fine-tune) or stream (the miniature)")
    if "stream" in training and dataset in datasets and "miniworld" not in datasets[dataset]:
        raise InputError(
            f"{where}.training.stream renders scenes of the miniature world, but the generator is for {dataset}; give "
            "init, the folder of a pipeline to fine-tune on its images"
        )
    parts = training.get("gradient_accumulation", 1)
    if training["batch_size"] % parts:
        raise InputError(
            f"{where}.training.gradient_accumulation = {parts}: want a divisor of batch_size = {training['batch_size']}"
        )


def _check_set(where: str, chosen: dict, config: dict) -> None:
    """A synthetic set's generator, plan and alpha."""
    _known(where, "generator", chosen["generator"], config["generators"])
    _known(where, "plan", chosen["plan"], config["plans"])
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
    _known(where, "model", row.model, models)
    entry, regime = models[row.model], find_regime(row.regime)
    named, gpus = f"{where}, model {row.model!r} in {config['models']}", config["training_gpus"]
    check_training(named, entry, row.dataset, row.regime, row.balance, gpus, precision(entry, config))
    if not regime.needs_synthetic_set:
        if row.synthetic_set:
            raise InputError(
                f"{where}: regime {row.regime} takes no synthetic_set (found {row.synthetic_set!r}); empty it"
            )
        return
    _known(where, "synthetic_set", row.synthetic_set, config["synthetic_sets"])
    if config["synthetic_sets"][row.synthetic_set]["dataset"] != row.dataset:
        raise InputError(f"{where}: synthetic_set {row.synthetic_set!r} is of another data set; choose one of its own")
    if regime.pretrained:
        pretraining_of(row, experiments)


def _check_choices(dataset: str, config: dict, experiments: pd.DataFrame) -> None:
    """The scorer and the comparison of one data set name rows of the experiments table."""
    rows = experiments[experiments.dataset == dataset].set_index("experiment")
    _known("scorers", "data set", dataset, config["scorers"])
    _known("report", "data set", dataset, config["report"])
    scorer = config["scorers"][dataset]
    _known(f"scorers.{dataset}", "experiment", scorer["experiment"], rows.index)
    chosen = rows.loc[scorer["experiment"]]
    if not find_regime(chosen.regime).only_real or scorer["train_seed"] not in chosen.train_seeds:
        raise InputError(
            f"scorers.{dataset}: {scorer['experiment']} with train_seed {scorer['train_seed']} isn't trained on real "
            f"images in {config['experiments']} (regime {chosen.regime}, train_seeds {chosen.train_seeds})"
        )
    comparison = config["report"][dataset]
    for key in ("baseline", "control", "improved"):
        if key in comparison:
            _known(f"report.{dataset}", key, comparison[key], rows.index)
    for role in ("baseline", "control"):
        if role in comparison and not set(rows.loc[comparison[role]].train_seeds) & set(
            rows.loc[comparison["improved"]].train_seeds
        ):
            raise InputError(
                f"report.{dataset}: {role} {comparison[role]!r} and improved {comparison['improved']!r} have no "
                f"train seed in common in {config['experiments']}; give them one, gains are taken seed by seed"
            )
    own = [name for name, chosen in config["synthetic_sets"].items() if chosen["dataset"] == dataset]
    _known(f"report.{dataset}", "contact_sheet", comparison["contact_sheet"], own)


def _known(where: str, key: str, value: str, known: Any, place: str = "") -> None:
    if value not in known:
        raise InputError(
            f"{where}: {key} {value!r} isn't defined{place}; use one of: {', '.join(map(str, known)) or '(none)'}"
        )
