# The configuration, read and checked; wildcard constraints; small input functions named after what they return.
# Needs: config/. Makes: no files.


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

from freemask.errors import InputError
from freemask.segmentation import experiments
from freemask.workflow import config as checks
from freemask.workflow import imported as imports
from freemask.workflow import launch, sources
from freemask.workflow.code import ROOT, code_digest

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


# Jobs run scripts and import the library from the checkout that this file belongs to, wherever they run.
SCRIPTS = shlex.quote(f"{ROOT}/scripts")
shell.prefix(f"export PYTHONPATH={shlex.quote(str(ROOT))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; ")


def code_of(script):
    """A parameter that changes with the code that a script's result depends on; found from its imports."""
    return code_digest(script)


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


def class_table(wildcards):
    """The data set's class table; nothing where its YAML file lists the classes."""
    classes = DATASETS[wildcards.dataset]["classes"]
    return classes if isinstance(classes, str) else []


def listed_classes(wildcards):
    """Where the classes of a data set come from, as an option: a table, or rows listed in its YAML file."""
    classes = DATASETS[wildcards.dataset]["classes"]
    return option("--class-table", classes) if isinstance(classes, str) else option("--classes", json.dumps(classes))


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


def scorer_batch_size(wildcards):
    """The scorer's images per batch, as an option, where it is given."""
    return option("--batch-size", config["scorers"][wildcards.dataset].get("batch_size"))


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


def raw_data(wildcards):
    """What an index depends on: the miniature world's manifest, or the folders of a data set that is there."""
    facts = DATASETS[wildcards.dataset]
    if "miniworld" in facts:
        return f"results/{wildcards.dataset}/raw.tsv"
    folders = [Path(facts["root"]) / facts[kind][wildcards.split] for kind in ("images", "masks")]
    return [str(folder) for folder in folders if folder.is_dir()]


def generator_source(wildcards):
    """Where the generator comes from: trained here, or the path that the configuration gives (if it is there).

    Not fetched by being an input: it has some GB, and refuse_missing_raw_data names the command.
    """
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "train":
        return f"results/{wildcards.dataset}/generator_training/{wildcards.generator}/pipeline/model_index.json"
    path = Path(generator["path"])
    path = path / "model_index.json" if generator["source"] == "pipeline" else path
    return str(path) if path.exists() else []


def generator_weights(wildcards):
    """The weights themselves, or their digests where they are made here: new ones under old names are noticed."""
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "train":
        return f"results/{wildcards.dataset}/generator_training/{wildcards.generator}/weights.json"
    if generator["source"] == "pipeline":
        return sorted(map(str, Path(generator["path"]).glob("*/*.safetensors")))
    return generator_source(wildcards)


def margins_unless_infinite(wildcards):
    """No filtering (alpha = inf) needs no margin maps."""
    if wildcards.alpha == "inf":
        return []
    return "results/{dataset}/margins/{generator}/{plan}/{scatteritem}.tsv"


def synthetic_pairs(wildcards):
    """The synthetic set of a regime that trains on one."""
    row = experiment_row(wildcards)
    return f"results/{wildcards.dataset}/synthetic/{row.synthetic_set}/train.tsv" if row.synthetic_set else []


def pretrained_weights(wildcards):
    """What finetune starts from: the same model trained on the same synthetic set with the same train seed."""
    row = experiment_row(wildcards)
    if row.regime != "finetune":
        return []
    pretraining = checks.pretraining_of(row, EXPERIMENTS)
    return f"results/{row.dataset}/training/{pretraining}/seed-{wildcards.train_seed}/weights.pth"


def initial_weights(wildcards):
    """The weights file that a model starts from, fetched where it has an address; finetune starts elsewhere."""
    row = experiment_row(wildcards)
    return [] if row.regime == "finetune" else sources.initial_weights(MODELS[row.model]) or []


def initial_options(wildcards):
    """What training starts from, as an option: pre-trained weights, the model's initial weights, or nothing."""
    pretrained = option("--initial", pretrained_weights(wildcards))
    return pretrained or option("--initial-weights", initial_weights(wildcards))


def training_pairs(wildcards):
    """The pairs options of a regime: real, synthetic, or both."""
    row = experiment_row(wildcards)
    real = "" if row.regime == "synthetic" else f"results/{row.dataset}/index/train.tsv"
    return [option("--train", real), option("--synthetic", synthetic_pairs(wildcards))]


def model_settings(wildcards):
    """The model's entry of the models file: a change of it reruns its trainings and no others."""
    return json.dumps(MODELS[experiment_row(wildcards).model])


def experiments_of(dataset, study="main"):
    """The experiments of a data set, as rows, without ablations; or the ablations and what they are compared with."""
    return list(experiments.of_study(EXPERIMENTS[EXPERIMENTS.dataset == dataset], study).itertuples())


def all_metrics(wildcards, study="main"):
    """metrics.json of every training of the data set, ablations apart."""
    return [path for row in experiments_of(wildcards.dataset, study) for path in metrics_of(row)]


def all_ious(wildcards, study="main"):
    """per_class_iou.tsv of every training of the data set, ablations apart."""
    return [path.replace("metrics.json", "per_class_iou.tsv") for path in all_metrics(wildcards, study)]


def compared(role):
    """IoU per class of the experiment that plays a role (baseline, improved) in the comparison, shared train seeds."""

    def paths(wildcards):
        row = compared_row(wildcards, role)
        return [f"{experiment_folder(row, seed)}/per_class_iou.tsv" for seed in shared_seeds(wildcards)]

    return paths


def compared_row(wildcards, role):
    """The experiments row that plays a role in the data set's comparison."""
    rows = EXPERIMENTS[EXPERIMENTS.dataset == wildcards.dataset].set_index("experiment", drop=False)
    return rows.loc[config["report"][wildcards.dataset][role]]


def shared_seeds(wildcards):
    """Train seeds that both sides of the comparison have."""
    baseline, improved = (compared_row(wildcards, role).train_seeds for role in ("baseline", "improved"))
    return sorted(set(baseline) & set(improved))


def sets_of(dataset):
    """Synthetic sets that the data set's experiments (not its ablations) train on, in the configuration's order."""
    used = {row.synthetic_set for row in experiments_of(dataset)}
    return [name for name in config["synthetic_sets"] if name in used]


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})


IMPORTED = imports.sources(config)


def imported_rows(*kinds):
    """A pattern of the paths below results/ that belong to rows imported as one of these kinds."""
    rows = [row for row, source in IMPORTED.items() if source["kind"] in kinds]
    folders = [f"{dataset}/training/{experiment}/seed-{seed}/" for dataset, experiment, seed in rows]
    return f"(?:{any_of(folders)})"


def only_imported(*kinds):
    """A constraint on {dataset} that lets a rule make files of rows imported as one of these kinds only."""
    return f"(?={imported_rows(*kinds)})(?:{any_of(DATASETS)})"


def except_imported(*kinds):
    """A constraint on {dataset} that keeps a rule from files of rows imported as one of these kinds."""
    return f"(?!{imported_rows(*kinds)})(?:{any_of(DATASETS)})"


def imported(wildcards):
    """What stands in for a training, None where it is run here."""
    return IMPORTED.get((wildcards.dataset, wildcards.experiment, int(wildcards.train_seed)))


def imported_file(wildcards):
    """The checkpoint or log; one that was fetched again must not start what follows from it."""
    source = imported(wildcards)
    return ancient(source["file"]) if "url" in source else source["file"]


def pairs_to_train_on(wildcards):
    """The synthetic set of a row that is trained here: an imported one doesn't need it made."""
    return [] if imported(wildcards) else synthetic_pairs(wildcards)


def is_imported(row, train_seed, *kinds):
    """Whether one of these kinds (none given: any) stands in for a train seed of an experiment."""
    source = IMPORTED.get((row.dataset, row.experiment, train_seed))
    return source is not None and source["kind"] in (kinds or ("checkpoint", "log"))


def trained_rows(dataset):
    """Experiment and train seed of every training of the data set that is run here."""
    pairs = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    return [(row, seed) for row, seed in pairs if not is_imported(row, seed)]


def trained_weights(wildcards):
    """weights.pth of every training of the data set that is run here."""
    return [f"{experiment_folder(row, seed)}/weights.pth" for row, seed in trained_rows(wildcards.dataset)]


def predicted(dataset):
    """Figures of what the compared experiments predict: none where a log, which holds no predictions, stands in."""
    comparison = config["report"][dataset]
    names = [comparison[role] for role in ("baseline", "improved")]
    compared_rows = [row for row in experiments_of(dataset) if row.experiment in names]
    told = any(is_imported(row, seed, "log") for row in compared_rows for seed in row.train_seeds)
    return [] if told else ["confusion", "predictions"]


EVALUATION = {"scales": [1.0], "flip": False, "pictures": 4} | config.get("evaluation", {})
PICTURES = range(1, EVALUATION["pictures"] + 1)


def validated(dataset, study="main"):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in experiments_of(dataset, study) if checks.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def best_metrics(wildcards, study="main"):
    """metrics.json of the best checkpoints of the data set's trainings, where they have one."""
    return [
        path.replace("metrics.json", "best/metrics.json")
        for row in validated(wildcards.dataset, study)
        for path in metrics_of(row)
    ]


def compared_folder(role):
    """The training that a role (baseline, improved) shows pictures of: the first train seed that both have."""
    return lambda wildcards: experiment_folder(compared_row(wildcards, role), shared_seeds(wildcards)[0])


def compared_pictures(role):
    """Predictions of the experiment that plays a role in the comparison."""
    return lambda wildcards: [f"{compared_folder(role)(wildcards)}/predictions/{number}.png" for number in PICTURES]


def report_files(dataset):
    """What `all` asks of a data set."""
    figures = ["most_improved", "class_loss", "hardness", "filtered_share", "training", *predicted(dataset)]
    return [
        f"results/{dataset}/tables/miou.md",
        *(f"results/{dataset}/tables/{table}.tsv" for table in ("most_improved", "cost")),
        f"results/{dataset}/figures/contact_sheet.png",
        *(f"results/{dataset}/figures/{figure}.png" for figure in figures),
    ]
