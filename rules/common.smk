# The configuration, read and checked; wildcard constraints; small input functions named after what they return.
# Needs: config/. Makes: no files.

import atexit
import json
import math
import os
import re
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from snakemake.io import IOFile

from freemask import watchdog
from freemask.data.mask_format import MaskFormat
from freemask.data.masks import files_of
from freemask import plugins
from freemask.errors import InputError
from freemask.files import RUN, own_id, write_json
from freemask.filtering.filters import FILTERS, reads_predictions
from freemask.segmentation import experiments
from freemask.segmentation.regimes import find_regime
from freemask.workflow.config import read_run
from freemask.workflow import imported as imports
from freemask.workflow import classes, folds, launch, preflight, raw, sharing, site, slurm, sources, terminal
from freemask.workflow.code import code_digest
from freemask.workflow.places import ROOT, place
from freemask.workflow.settings import read_yaml

terminal.install(workflow)
sharing.keep_other_locks()

try:
    sharing.refuse_unwritable(Path.cwd())
except InputError as error:
    raise WorkflowError(str(error)) from None

try:
    for path in workflow.configfiles:
        if not str(path).endswith(".json"):
            read_yaml(path)  # refuses what Snakemake reads without a word, e.g. a key that stands twice
    DATASETS, MODELS, EXPERIMENTS = read_run(config, ", ".join(map(str, workflow.configfiles)))
    EXPERIMENTS = folds.with_folds(config, EXPERIMENTS)
    for generator in config["generators"].values():
        if "path" in generator:  # the user's folder, or the checkout's of the same name
            generator["path"] = str(place(generator["path"]))
    WEIGHTS = imports.fetchable(config, sources.fetchable_weights(config, MODELS, EXPERIMENTS))
except InputError as error:
    raise WorkflowError(f"configuration: {error}") from None

# The user's files, or the checkout's files of the same names.
config["experiments"] = str(place(config["experiments"]))
REPORTED = str(place("config/reported.yaml"))

ROWS = {(row.dataset, row.experiment): row for _, row in EXPERIMENTS.iterrows()}  # quicker to search than the table
MISSING = sources.missing_raw_data(config, DATASETS, workflow.overwrite_configfiles)
IMPORTED = imports.sources(config)


def missing_raw_data():
    """Raw data that the planned jobs need and that aren't on disk, a line each. Jobs that fetch need none."""
    planned = workflow.dag.needrun_jobs(exclude_finished=False) if workflow.dag else []  # a dry run finishes all
    # A module statement may put a prefix before the names of rules.
    jobs = [job for job in planned if "fetch_" not in job.rule.name]
    needed = {("data set", job.wildcards_dict.get("dataset")) for job in jobs}
    for rule, what in (("prepare_generator", "generator"), ("train_generator", "training")):
        needed |= {(what, job.wildcards_dict["generator"]) for job in jobs if job.rule.name.endswith(rule)}
    return [line for key, line in MISSING.items() if key in needed]


def tell_missing_raw_data():
    """List missing raw data at the end of a dry run, below its jobs."""
    if lines := missing_raw_data():
        sys.stderr.write("\n  ".join(["Raw data missing, nothing can run before they are there:", *lines]) + "\n")


atexit.register(tell_missing_raw_data)


def refuse_missing_raw_data():
    """Stop a real run before its first job if raw data are missing. Avoids unrequested downloads of 21 GB."""
    atexit.unregister(tell_missing_raw_data)
    if lines := missing_raw_data():
        raise WorkflowError("raw data missing (-n shows the plan without them):\n  " + "\n  ".join(lines))


def tell_unshared_folder():
    """Warn of a umask that keeps a group's members from continuing this run in their folder."""
    if warning := sharing.unshared(Path.cwd()):
        sys.stderr.write(f"warning: {warning}\n")


slurm.export()  # where the commands of profiles/slurm are

if "container" in config:

    # The image of envs/Containerfile holds the conda environments of the rules.
    containerized: config["container"]


# Of a named run: what its folders for all data sets end with.
OF_RUN = f"{RUN}{config['run']}" if "run" in config else ""
PAGE = f"report{OF_RUN}"  # the folder of the page

# Jobs run scripts and import the library from the checkout that this file belongs to, wherever they run.
# A literal part of every command: a module's commands are formatted with the names of the workflow that uses it.
SCRIPTS = shlex.quote(f"{ROOT}/scripts").replace("{", "{{").replace("}", "}}")
# The watchdog's limit is no parameter: another one makes no result outdated.
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(ROOT))}${{{{PYTHONPATH:+:$PYTHONPATH}}}};"
    f" export {watchdog.MINUTES}={config.get('watchdog_minutes', 30)}; "
)


def code_of(script, plugged_in=lambda wildcards: ()):
    """A parameter that changes with the code that a script's result depends on; found from its imports.

    A function, so that only jobs of a run take the time. plugged_in: wildcards to names of plug-ins, whose code counts
    as well.
    """
    return lambda wildcards: code_digest(script, *plugged_in(wildcards))


def strategy_of(wildcards):
    """The strategy of a plan, for code_of."""
    return [config["plans"][wildcards.plan]["strategy"]]


def method_of(wildcards):
    """The method of a generator, for code_of."""
    return [config["generators"][wildcards.generator].get("method", "freestyle")]


def filter_of(wildcards):
    """The filter rule of a path, for code_of."""
    return [filter_rule(wildcards)]


def regimes_of(wildcards):
    """The regimes of an experiment, or of all the data set's experiments, for code_of; sorted."""
    rows = EXPERIMENTS[EXPERIMENTS.dataset == wildcards.dataset]
    if "experiment" in wildcards.keys():
        rows = rows[rows.experiment == wildcards.experiment]
    return sorted(set(rows.regime))


def any_of(names):
    """A wildcard constraint that matches exactly these names."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    dataset=any_of(DATASETS),
    split="train|val|test",
    generator=any_of(config["generators"]),
    plan=any_of(config["plans"]),
    synthetic_set=any_of(config["synthetic_sets"]),
    experiment=any_of(EXPERIMENTS.experiment.unique()),
    train_seed=r"\d+",
    filter=r"[\w.]+-(inf|\d+(\.\d+)?)",
    folds=r"\d+",
    fold=r"\d+-of-\d+",
    scoring=r"(~\d+-folds)?(~labels)?",  # how a shard's pixels are scored, see set_scoring


scattergather:
    shard=config["shards"],
    part=config.get("class_loss_shards", 1),  # separate: more shards of synthesis don't change class losses


def option(name, value):
    """A command-line option with its value quoted for the shell; empty if there is no value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def options(name, values):
    """A command-line option with several values, each quoted for the shell; empty if there are none."""
    return f"{name} {shlex.join(map(str, values))}" if values else ""


def literal(text):
    """A parameter of the user's words: {braces} in it are no wildcards."""
    return lambda wildcards: text


def dataset_setting(key):
    """A setting of the data set, e.g. mask_size; of one by splits that of the split in the wildcards."""

    def value(wildcards):
        found = DATASETS[wildcards.dataset][key]
        if not isinstance(found, dict):
            return found
        if wildcards.split not in found:
            raise WorkflowError(f"config/datasets/{wildcards.dataset}.yaml: {key} has no {wildcards.split}")
        return found[wildcards.split]

    return value


def experiment_folder(row, train_seed):
    """The folder of one trained model."""
    return f"results/{row.dataset}/training/{row.experiment}/seed-{train_seed}"


def metrics_of(row):
    """metrics.json of every train seed of an experiment."""
    return [f"{experiment_folder(row, seed)}/metrics.json" for seed in row.train_seeds]


def scorer_file(name):
    """A file of the segmentor that scores, trained on real images; with a fold among the wildcards, of the fold's."""

    def path(wildcards):
        scorer = config["scorers"][wildcards.dataset]
        experiment = scorer["experiment"]
        if "fold" in wildcards.keys():
            experiment = folds.experiment_of(experiment, wildcards.fold)
        return f"results/{wildcards.dataset}/training/{experiment}/seed-{scorer['train_seed']}/{name}"

    return path


def scorer_batch_size(wildcards):
    """The scorer's images per batch, as an option, if the configuration gives it."""
    return option("--batch-size", config["scorers"][wildcards.dataset].get("batch_size"))


def experiments_of(dataset, study="main"):
    """The experiments of a data set as rows: the main ones, or the ablations and the rows they are compared with."""
    return list(experiments.of_study(EXPERIMENTS[EXPERIMENTS.dataset == dataset], study).itertuples())


def sets_of(dataset):
    """Synthetic sets that the data set's experiments (not its ablations) train on, in the configuration's order."""
    used = {row.synthetic_set for row in experiments_of(dataset)}
    return [name for name in config["synthetic_sets"] if name in used]


def is_imported(row, train_seed, *kinds):
    """Whether an experiment's train seed is imported as one of these kinds (default: any)."""
    source = IMPORTED.get((row.dataset, row.experiment, train_seed))
    return source is not None and source["kind"] in (kinds or ("checkpoint", "log"))


include: "common/preflight.smk"
include: "common/data.smk"
include: "common/selection.smk"
include: "common/generation.smk"
include: "common/filtering.smk"
include: "common/segmentation.smk"
include: "common/reporting.smk"
include: "common/cost.smk"
include: "common/page.smk"
include: "common/evidence.smk"
include: "common/status.smk"
