# Configuration read and checked, wildcard constraints, small input functions named after what they return.
# Needs: config/. Makes: DATASETS, EXPERIMENTS, MODELS, SYNTHETIC_SETS and the functions below.

import json
import math
import re
import shlex
from pathlib import Path

import pandas as pd

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from freemask import config as checks
from freemask.errors import InputError

try:
    checks.check_schema(config, "config", ", ".join(map(str, workflow.configfiles)))
    DATASETS = {name: checks.read_dataset(name, config) for name in config["datasets"]}
    MODELS = checks.read_yaml(config["models"])
    checks.check_schema(MODELS, "models", config["models"])
    EXPERIMENTS = checks.read_experiments(config)
    checks.check_references(config, EXPERIMENTS, MODELS)
except InputError as error:
    raise WorkflowError(f"configuration: {error}") from None

SYNTHETIC_SETS = pd.DataFrame([{"name": name, **chosen} for name, chosen in config["synthetic_sets"].items()])
MISSING = checks.missing_raw_data(config, DATASETS)
if MISSING:
    logger.warning("Raw data missing, nothing can run before they are there:\n  " + "\n  ".join(MISSING))


def refuse_missing_raw_data():
    """Stop a real run (not a dry run) before its first job where raw data are missing."""
    if MISSING:
        raise WorkflowError("raw data missing (-n shows the plan without them):\n  " + "\n  ".join(MISSING))


def any_of(names):
    """A wildcard constraint that matches exactly these names."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    dataset=any_of(DATASETS),
    split="train|val",
    generator=any_of(config["generators"]),
    plan=any_of(config["plans"]),
    synthetic_set=any_of(config["synthetic_sets"]),
    experiment=any_of(EXPERIMENTS.experiment.unique()),
    train_seed=r"\d+",
    alpha=r"inf|\d+(\.\d+)?",


scattergather:
    shard=config["shards"],


def option(name, value):
    """A command-line option with its value quoted for the shell, or nothing where there is no value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def fact(key, split=None):
    """A fact of the data set, e.g. mask_size."""

    def value(wildcards):
        found = DATASETS[wildcards.dataset][key]
        return found[split or wildcards.split] if isinstance(found, dict) else found

    return value


def generator_setting(key):
    """A setting of the generator, e.g. guidance_scale."""
    return lambda wildcards: config["generators"][wildcards.generator][key]


def plan_setting(key):
    """A setting of the plan, e.g. n_max."""
    return lambda wildcards: config["plans"][wildcards.plan][key]


def experiment_row(wildcards):
    """The row of the experiments table."""
    rows = EXPERIMENTS[(EXPERIMENTS.dataset == wildcards.dataset) & (EXPERIMENTS.experiment == wildcards.experiment)]
    if rows.empty:
        raise WorkflowError(f"{config['experiments']}: no experiment {wildcards.experiment} on {wildcards.dataset}")
    return rows.iloc[0]


def experiment_folder(row, train_seed):
    """Where one trained model lives."""
    return f"results/{row.dataset}/training/{row.experiment}/seed-{train_seed}"


def metrics_of(row):
    """The metrics of every train seed of an experiment."""
    return [f"{experiment_folder(row, seed)}/metrics.json" for seed in row.train_seeds]


def scorer_file(name):
    """A file of the segmentor that scores, trained on real images."""

    def path(wildcards):
        scorer = config["scorers"][wildcards.dataset]
        return f"results/{wildcards.dataset}/training/{scorer['experiment']}/seed-{scorer['train_seed']}/{name}"

    return path


def set_alpha(synthetic_set):
    """The tolerance margin of a synthetic set as it stands in paths: 1.25, 0.9, inf."""
    alpha = config["synthetic_sets"][synthetic_set]["alpha"]
    return "inf" if math.isinf(alpha) else f"{alpha:g}"


def set_shards(pattern):
    """The shards that a synthetic set gathers; {generator}, {plan} and {alpha} are the set's."""

    def paths(wildcards):
        chosen = config["synthetic_sets"][wildcards.synthetic_set]
        filled = pattern.format(
            dataset=wildcards.dataset,
            generator=chosen["generator"],
            plan=chosen["plan"],
            alpha=set_alpha(wildcards.synthetic_set),
            scatteritem="{scatteritem}",
        )
        return gather.shard(filled)

    return paths


def set_plan(wildcards):
    """The plan of a synthetic set."""
    return f"results/{wildcards.dataset}/plans/{config['synthetic_sets'][wildcards.synthetic_set]['plan']}.tsv"
