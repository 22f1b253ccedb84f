# Configuration read and checked, wildcard constraints, small input functions named after what they return.
# Needs: config/. Makes: DATASETS, EXPERIMENTS, MODELS, SYNTHETIC_SETS and the functions below.

import atexit
import json
import math
import re
import shlex
import sys
from functools import partial
from pathlib import Path

import pandas as pd

from snakemake.exceptions import WorkflowError

from freemask import config as checks
from freemask import launch, sources, studies
from freemask.errors import InputError

try:
    DATASETS, MODELS, EXPERIMENTS = checks.read_run(config, ", ".join(map(str, workflow.configfiles)))
except InputError as error:
    raise WorkflowError(f"configuration: {error}") from None

SYNTHETIC_SETS = pd.DataFrame([{"name": name, **chosen} for name, chosen in config["synthetic_sets"].items()])
MISSING = sources.missing_raw_data(config, DATASETS)


def missing_raw_data():
    """What the planned jobs need and isn't here, one line each. Jobs that fetch need nothing."""
    planned = workflow.dag.needrun_jobs(exclude_finished=False) if workflow.dag else []  # a dry run finishes all
    jobs = [job for job in planned if not job.rule.name.startswith("fetch_")]
    needed = {("data set", job.wildcards_dict.get("dataset")) for job in jobs}
    needed |= {("generator", job.wildcards_dict["generator"]) for job in jobs if job.rule.name == "prepare_generator"}
    needed |= {("training", job.wildcards_dict["generator"]) for job in jobs if job.rule.name == "train_generator"}
    return [line for key, line in MISSING.items() if key in needed]


def tell_missing_raw_data():
    """Say at the end of a dry run, below its many jobs, what must be there before a real one."""
    if lines := missing_raw_data():
        sys.stderr.write("\n  ".join(["Raw data missing, nothing can run before they are there:", *lines]) + "\n")


atexit.register(tell_missing_raw_data)


def refuse_missing_raw_data():
    """Stop a real run (not a dry run) before its first job where raw data are missing: nobody wants 21 GB unasked."""
    atexit.unregister(tell_missing_raw_data)
    if lines := missing_raw_data():
        raise WorkflowError("raw data missing (-n shows the plan without them):\n  " + "\n  ".join(lines))


# Jobs import the library from this folder, also in environments that conda makes.
shell.prefix(f"export PYTHONPATH={shlex.quote(str(workflow.basedir))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; ")


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
    part=config.get("class_loss_shards", 1),  # of its own: another cut of the synthesis needs no other class losses


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


def generator_options(wildcards):
    """Options of the generator's settings that have a default, where they are given."""
    generator = config["generators"][wildcards.generator]
    parts = generator.get("prompt_parts")
    given = [option("--kind", generator.get("kind")), "--compile" if generator.get("compile") else ""]
    return [*given, option("--prompt-parts", json.dumps(parts) if parts else "")]


def plan_setting(key):
    """A setting of the plan, e.g. n_max."""
    return lambda wildcards: config["plans"][wildcards.plan][key]
