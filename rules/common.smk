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
from types import SimpleNamespace

import pandas as pd
from snakemake.io import IOFile

from freemask import watchdog
from freemask.errors import InputError
from freemask.segmentation import experiments
from freemask.segmentation.regimes import find_regime
from freemask.workflow.config import read_run
from freemask.workflow import imported as imports
from freemask.workflow import failed_logs, launch, preflight, raw, sharing, site, slurm, sources
from freemask.workflow.code import code_digest
from freemask.workflow.places import ROOT, place

failed_logs.shorten()

try:
    sharing.refuse_unwritable(Path.cwd())
except InputError as error:
    raise WorkflowError(str(error)) from None

try:
    DATASETS, MODELS, EXPERIMENTS = read_run(config, ", ".join(map(str, workflow.configfiles)))
except InputError as error:
    raise WorkflowError(f"configuration: {error}") from None

# The user's files, or the checkout's files of the same names.
config["experiments"] = str(place(config["experiments"]))
REPORTED = str(place("config/reported.yaml"))
for generator in config["generators"].values():
    if "path" in generator:
        generator["path"] = str(place(generator["path"]))

ROWS = {(row.dataset, row.experiment): row for _, row in EXPERIMENTS.iterrows()}  # quicker to search than the table
MISSING = sources.missing_raw_data(config, DATASETS)
IMPORTED = imports.sources(config)
WEIGHTS = imports.fetchable(config, sources.fetchable_weights(config, MODELS, EXPERIMENTS))


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


# Jobs run scripts and import the library from the checkout that this file belongs to, wherever they run.
# A literal part of every command: a module's commands are formatted with the names of the workflow that uses it.
SCRIPTS = shlex.quote(f"{ROOT}/scripts").replace("{", "{{").replace("}", "}}")
# The watchdog's limit is no parameter: another one makes no result outdated.
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(ROOT))}${{{{PYTHONPATH:+:$PYTHONPATH}}}};"
    f" export {watchdog.MINUTES}={config.get('watchdog_minutes', 30)}; "
)


def code_of(script, plugged_in=None):
    """A parameter that changes with the code that a script's result depends on; found from its imports.

    plugged_in: a function of the wildcards to the names of plug-ins, whose code counts as well.
    """
    if plugged_in is None:
        return code_digest(script)
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
    split="train|val",
    generator=any_of(config["generators"]),
    plan=any_of(config["plans"]),
    synthetic_set=any_of(config["synthetic_sets"]),
    experiment=any_of(EXPERIMENTS.experiment.unique()),
    train_seed=r"\d+",
    filter=r"[\w.]+-(inf|\d+(\.\d+)?)",


scattergather:
    shard=config["shards"],
    part=config.get("class_loss_shards", 1),  # separate: more shards of synthesis don't change class losses


def option(name, value):
    """A command-line option with its value quoted for the shell; empty if there is no value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def options(name, values):
    """A command-line option with several values, each quoted for the shell; empty if there are none."""
    return f"{name} {shlex.join(map(str, values))}" if values else ""


def dataset_setting(key, split=None):
    """A setting of the data set, e.g. mask_size."""

    def value(wildcards):
        found = DATASETS[wildcards.dataset][key]
        return found[split or wildcards.split] if isinstance(found, dict) else found

    return value


def experiment_folder(row, train_seed):
    """The folder of one trained model."""
    return f"results/{row.dataset}/training/{row.experiment}/seed-{train_seed}"


def metrics_of(row):
    """metrics.json of every train seed of an experiment."""
    return [f"{experiment_folder(row, seed)}/metrics.json" for seed in row.train_seeds]


def scorer_file(name):
    """A file of the segmentor that scores, trained on real images."""

    def path(wildcards):
        scorer = config["scorers"][wildcards.dataset]
        return f"results/{wildcards.dataset}/training/{scorer['experiment']}/seed-{scorer['train_seed']}/{name}"

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


# ---- preflight -------------------------------------------------------------------------------------------------------

PREFLIGHTS = ["synthesis", "segmentation"]  # kinds of GPU jobs, by their environments


def after_preflight(output):
    """The checks that an expensive job waits for.

    Nothing where `output` was made without them: another set of inputs would make it again.
    """

    def checks(wildcards):
        files = [f"results/{wildcards.dataset}/preflight/{kind}.json" for kind in PREFLIGHTS]
        recorded = workflow.persistence.input(IOFile(output.format(**wildcards)))
        return [] if recorded is not None and files[0] not in recorded else ancient(files)

    return checks


def seconds_of_a_batch():
    """What the slowest batch of images takes [s]."""
    return max(config["seconds_per_image"] * one["batch_size"] for one in config["generators"].values())


def preflight_options(wildcards, output):
    """Options of preflight. Takes `output` so that Snakemake doesn't record them: nothing is checked again by itself."""
    facts, chosen = DATASETS[wildcards.dataset], [config["synthetic_sets"][name] for name in sets_of(wildcards.dataset)]
    rows = experiments_of(wildcards.dataset)
    images = {
        f"synthesis/{one['generator']}/{one['plan']}": preflight.images_per_mask(config["plans"][one["plan"]])
        for one in chosen
    }
    folders = [Path(facts["root"]) / facts[kind][split] for kind in ("images", "masks") for split in ("train", "val")]
    weights = [*generator_files(wildcards.dataset), *(sources.initial_weights(MODELS[row.model]) for row in rows)]
    missing = [source["url"] for name, source in WEIGHTS.items() if not Path(f"weights/{name}").exists()]
    return [
        options("--files", sorted({str(path) for path in [*folders, *weights] if path and Path(path).exists()})),
        options("--downloads", missing),
        option("--index", f"results/{wildcards.dataset}/index/train.tsv"),
        option("--masks", folders[2]),
        option("--images-per-mask", json.dumps(images)),
        option("--mask-size", facts["mask_size"]),
    ]


def gpu_options(kind, wildcards, output):
    """Options of preflight_gpu, which Snakemake doesn't record either."""
    generators = [one for one in config["generators"].values() if one["dataset"] == wildcards.dataset]
    models = [MODELS[row.model] for row, _ in trained_rows(wildcards.dataset)]
    if kind == "synthesis":
        dtypes, largest = {one["dtype"] for one in generators}, max(generators, key=lambda one: one["batch_size"])
        own = [
            option("--batch-size", largest["batch_size"]),
            option("--image-size", largest["image_size"]),
            options("--weights", generator_files(wildcards.dataset)),
        ]
    else:
        names = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
        dtypes = {names[experiments.precision(model, config)] for model in models}
        own = ["--compiled-ops" if any("mask2former" in model["base"] for model in models) else ""]
    return [option("--gpus", str(config["training_gpus"])), options("--dtypes", sorted({"float32", *dtypes})), *own]


def generator_files(dataset):
    """Checkpoints, or weights in pipeline folders, that the data set's generators are read from."""
    paths = [Path(one["path"]) for one in config["generators"].values() if one["dataset"] == dataset and "path" in one]
    return [str(file) for path in paths for file in (sorted(path.glob("*/*.safetensors")) if path.is_dir() else [path])]


# ---- data ------------------------------------------------------------------------------------------------------------


def class_table(wildcards):
    """The data set's class table; nothing where its YAML file lists the classes."""
    classes = DATASETS[wildcards.dataset]["classes"]
    return str(place(classes)) if isinstance(classes, str) else []


def listed_classes(wildcards):
    """Where the classes of a data set come from, as an option: a table, or rows listed in its YAML file."""
    classes = DATASETS[wildcards.dataset]["classes"]
    return (
        option("--class-table", place(classes))
        if isinstance(classes, str)
        else option("--classes", json.dumps(classes))
    )


def ignored_suffixes(wildcards):
    """Ends of file names that are neither images nor masks, as options."""
    ends = DATASETS[wildcards.dataset].get("ignored_suffixes", [])
    return " ".join(f"--ignored-suffixes={shlex.quote(end)}" for end in ends)


def mask_format(wildcards):
    """What a data set's masks may hold; labels and colors of classes, not their names and words."""
    return json.dumps(DATASETS[wildcards.dataset]["mask_format"].to_json())


def raw_data(wildcards):
    """What the miniature world's index depends on besides the state of its files: their manifest."""
    return f"results/{wildcards.dataset}/raw.tsv" if "miniworld" in DATASETS[wildcards.dataset] else []


def training_index(wildcards):
    """The training split's index, with which another split's images are compared."""
    return [] if wildcards.split == "train" else f"results/{wildcards.dataset}/index/train.tsv"


def raw_state(wildcards):
    """A file that changes if a split's raw data change after they were indexed."""
    return f"results/{wildcards.dataset}/index/{wildcards.split}.state"


def notice_raw_data():
    """Bring the states of raw data up to date: once a run, before Snakemake looks which files there are."""
    for dataset, facts in DATASETS.items():
        for split in ("train", "val"):
            state = Path(f"results/{dataset}/index/{split}.state")
            if changes := raw.notice(facts, split, state, config.get("watch_raw_data", True)):
                sys.stderr.write(f"raw data of {dataset}, {split}, differ from their index: {changes}\n")


if workflow.is_main_process:
    try:
        notice_raw_data()
    except InputError as error:
        raise WorkflowError(str(error)) from None


# ---- selection -------------------------------------------------------------------------------------------------------


def plan_setting(key):
    """A setting of the plan, e.g. n_max."""
    return lambda wildcards: config["plans"][wildcards.plan][key]


# ---- generation ------------------------------------------------------------------------------------------------------


def generator_setting(key):
    """A setting of the generator, e.g. guidance_scale."""
    return lambda wildcards: config["generators"][wildcards.generator][key]


def generator_options(wildcards):
    """Options of the generator's settings that have a default, where they are given."""
    generator = config["generators"][wildcards.generator]
    parts = generator.get("prompt_parts")
    compile = {True: "always", False: "never"}.get(generator.get("compile"))
    given = [option("--method", generator.get("method")), option("--compile", compile)]
    return [*given, option("--prompt-parts", json.dumps(parts) if parts else "")]


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
    """The weights themselves, or their digests if they are trained here: new weights under old names cause a rerun."""
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "train":
        return f"results/{wildcards.dataset}/generator_training/{wildcards.generator}/weights.json"
    if generator["source"] == "pipeline":
        return sorted(map(str, Path(generator["path"]).glob("*/*.safetensors")))
    return generator_source(wildcards)


# ---- filtering -------------------------------------------------------------------------------------------------------


def set_alpha(synthetic_set):
    """The tolerance margin of a synthetic set as paths have it: 1.25, 0.9, inf."""
    alpha = config["synthetic_sets"][synthetic_set]["alpha"]
    return "inf" if math.isinf(alpha) else f"{alpha:g}"


def set_filter(synthetic_set):
    """The filter of a synthetic set as paths have it: alpha-1.25, alpha-inf (none), or package.module.object-1.25."""
    name = config["synthetic_sets"][synthetic_set].get("filter", "margin")
    if name == "none":
        return "alpha-inf"
    return f"{'alpha' if name == 'margin' else name.replace(':', '.')}-{set_alpha(synthetic_set)}"


def filter_rule(wildcards):
    """The filter that a path names: margin, or package.module:object."""
    name = wildcards.filter.rpartition("-")[0]
    return "margin" if name == "alpha" else ":".join(name.rsplit(".", 1))


def filter_alpha(wildcards):
    """The tolerance margin in {filter}."""
    return wildcards.filter.rpartition("-")[2]


def set_shards(pattern):
    """The shards that a synthetic set gathers; {generator}, {plan} and {filter} are the set's."""

    def paths(wildcards):
        chosen = config["synthetic_sets"][wildcards.synthetic_set]
        filled = pattern.format(
            dataset=wildcards.dataset,
            generator=chosen["generator"],
            plan=chosen["plan"],
            filter=set_filter(wildcards.synthetic_set),
            scatteritem="{scatteritem}",
        )
        return gather.shard(filled)

    return paths


def set_plan(wildcards):
    """The plan of a synthetic set."""
    return f"results/{wildcards.dataset}/plans/{config['synthetic_sets'][wildcards.synthetic_set]['plan']}.tsv"


def margins_to_filter(wildcards):
    """The margin maps of a shard; nothing if there is no filter."""
    if wildcards.filter == "alpha-inf":
        return []
    return "results/{dataset}/margins/{generator}/{plan}/{scatteritem}.tsv"


# ---- segmentation ----------------------------------------------------------------------------------------------------


def experiment_row(wildcards):
    """The row of the experiments table."""
    if (wildcards.dataset, wildcards.experiment) not in ROWS:
        raise WorkflowError(f"{config['experiments']}: no experiment {wildcards.experiment} on {wildcards.dataset}")
    return ROWS[wildcards.dataset, wildcards.experiment]


def model_settings(wildcards):
    """The model's entry of the models file, of this data set's only: a change of it reruns its trainings and no others."""
    entry = MODELS[experiment_row(wildcards).model]
    by_dataset = {
        key: {wildcards.dataset: entry[key][wildcards.dataset]}
        for key in ("iterations", "warmup")
        if wildcards.dataset in entry.get(key, {})
    }
    return json.dumps(entry | by_dataset)


def synthetic_pairs(wildcards):
    """The synthetic set of a regime that trains on one."""
    row = experiment_row(wildcards)
    return f"results/{wildcards.dataset}/synthetic/{row.synthetic_set}/train.tsv" if row.synthetic_set else []


def pairs_to_train_on(wildcards):
    """The synthetic set of a row that is trained here; nothing for an imported row."""
    return [] if imported(wildcards) else synthetic_pairs(wildcards)


def training_pairs(wildcards):
    """The pairs options of a regime: real, synthetic, or both."""
    row = experiment_row(wildcards)
    real = f"results/{row.dataset}/index/train.tsv" if find_regime(row.regime).real else ""
    return [option("--train", real), option("--synthetic", synthetic_pairs(wildcards))]


def pretrained_weights(wildcards):
    """The weights that a regime with a pre-training starts from: same model, synthetic set and train seed."""
    row = experiment_row(wildcards)
    if not find_regime(row.regime).pretrained:
        return []
    pretraining = experiments.pretraining_of(row, EXPERIMENTS)
    return f"results/{row.dataset}/training/{pretraining}/seed-{wildcards.train_seed}/weights.pth"


def initial_weights(wildcards):
    """The file of a model's initial weights, fetched where it has an address; a pre-training replaces it."""
    row = experiment_row(wildcards)
    return [] if find_regime(row.regime).pretrained else sources.initial_weights(MODELS[row.model]) or []


def initial_options(wildcards):
    """What training starts from, as an option: pre-trained weights, the model's initial weights, or nothing."""
    pretrained = option("--initial", pretrained_weights(wildcards))
    return pretrained or option("--initial-weights", initial_weights(wildcards))


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
    """Source of an imported training; None if it is trained here."""
    return IMPORTED.get((wildcards.dataset, wildcards.experiment, int(wildcards.train_seed)))


def imported_file(wildcards):
    """The checkpoint or log. A fetched file is marked ancient, so fetching it again reruns nothing."""
    source = imported(wildcards)
    return ancient(source["file"]) if "url" in source else source["file"]


# ---- reporting -------------------------------------------------------------------------------------------------------


def validated(dataset, study="main"):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in experiments_of(dataset, study) if experiments.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def of_trainings(name, study="main", rows_of=experiments_of):
    """A file of each training of a study, e.g. metrics.json; of its validated experiments with rows_of=validated."""
    return lambda wildcards: [
        f"{experiment_folder(row, seed)}/{name}"
        for row in rows_of(wildcards.dataset, study)
        for seed in row.train_seeds
    ]


def trained_rows(dataset):
    """Experiment and train seed of every training of the data set that is run here."""
    pairs = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    return [(row, seed) for row, seed in pairs if not is_imported(row, seed)]


def trained_weights(wildcards):
    """weights.pth of every training of the data set that is run here."""
    return [f"{experiment_folder(row, seed)}/weights.pth" for row, seed in trained_rows(wildcards.dataset)]


def compared_row(dataset, role):
    """The experiments row of a side of the data set's comparison (baseline or improved)."""
    rows = EXPERIMENTS[EXPERIMENTS.dataset == dataset].set_index("experiment", drop=False)
    return rows.loc[config["report"][dataset][role]]


def has_control(dataset):
    """Whether the comparison has a control: real images at twice the schedule."""
    return "control" in config["report"][dataset]


def shared_seeds(dataset, role="baseline"):
    """Train seeds that the improved segmentor shares with the other side of the comparison (baseline or control)."""
    other, improved = (compared_row(dataset, one).train_seeds for one in (role, "improved"))
    return sorted(set(other) & set(improved))


def compared(role, *names, seeds=None, against="baseline"):
    """Files of a side of the comparison with `against`, for each shared train seed (or the first `seeds` of them)."""
    return lambda wildcards: [
        f"{experiment_folder(compared_row(wildcards.dataset, role), seed)}/{name}"
        for seed in shared_seeds(wildcards.dataset, against)[:seeds]
        for name in names
    ]


def control_files(name):
    """A file of the control, for each train seed that it shares with the improved segmentor; nothing without one."""
    found = compared("control", name, against="control")
    return lambda wildcards: found(wildcards) if has_control(wildcards.dataset) else []


def control_seeds(wildcards):
    """Train seeds of control_files, as an option."""
    chosen = shared_seeds(wildcards.dataset, "control") if has_control(wildcards.dataset) else []
    return options("--control-seeds", chosen)


def comparison_of(dataset):
    """The data set's title and what its classes are compared between, for the paper's tables."""
    chosen = config["report"][dataset]
    roles = {role: chosen[role] for role in ("baseline", "control", "improved") if role in chosen}
    return {"title": DATASETS[dataset]["title"], "top": chosen.get("top_classes", 10), **roles}


def set_settings(synthetic_set):
    """What ablations vary of a synthetic set: strategy and n_max of its plan, its filter."""
    plan = config["plans"][config["synthetic_sets"][synthetic_set]["plan"]]
    chosen = set_filter(synthetic_set).replace("alpha-inf", "none").replace("alpha-", "alpha ")
    return {"strategy": plan["strategy"], "n_max": plan["n_max"], "filter": chosen}


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})


def of_each(names, pattern):
    """A path for each of the data set's plans (names=plans_of) or synthetic sets (names=sets_of)."""
    return lambda wildcards: [pattern.format(dataset=wildcards.dataset, name=name) for name in names(wildcards.dataset)]


def has_predictions(dataset):
    """Whether the compared experiments have predictions: an imported log holds none."""
    rows = [compared_row(dataset, role) for role in ("baseline", "improved")]
    return not any(is_imported(row, seed, "log") for row in rows for seed in row.train_seeds)


def report_files(dataset):
    """The tables and figures of a data set in `all`."""
    tables = ("miou.md", "most_improved.tsv", "cost.tsv")
    return [*(f"results/{dataset}/tables/{table}" for table in tables), *figures_of(dataset)]


def figures_of(dataset):
    """The data set's figures, without those of predictions if there are none."""
    made = [one for one in FIGURES if has_predictions(dataset) or not OF_PREDICTIONS & set(one.parameters)]
    return [f"results/{dataset}/figures/{one.name}.png" for one in made]


def figure_outputs(figure):
    """The figure's outputs by suffix; the PNG goes into the report."""
    paths = {suffix: f"results/{{dataset}}/figures/{figure.name}.{suffix}" for suffix in figure.suffixes}
    return paths | {"png": report(paths["png"], category="Figures", caption="../report/figure.rst")}


def figure_values(figure, wildcards):
    """Options with values from the configuration: another value draws the figure again."""
    return figures.options({name: value(wildcards.dataset) for name, value in figure.choose(VALUES).items()})


def figure_command(figure, wildcards, input, output):
    """The figure's command. Depends on input and output, so Snakemake doesn't record it as a parameter."""
    files = {name: input[name] for name in figure.choose(FILES) if name not in VALUES}
    return f"{shlex.quote(str(figure.script))} {figures.options(files | {figure.output: output})}"


def figure_caption(figure, wildcards, input):
    """Takes `input` so that Snakemake doesn't record it: a changed caption doesn't redraw the figure."""
    return figure.caption


# ---- the page --------------------------------------------------------------------------------------------------------


def made_ablations(dataset):
    """The data set's ablations that are evaluated: the page shows them, but doesn't ask for others."""
    rows = [row for row in experiments_of(dataset, "ablation") if row.study == "ablation"]
    return [row for row in rows if all(Path(metrics).exists() for metrics in metrics_of(row))]


def page_role(dataset):
    """What the page compares the improved segmentor with."""
    return "control" if has_control(dataset) else "baseline"


def page_pictures(dataset):
    """Predictions that the page shows: of the improved segmentor and what it is compared with; [] if one has none."""
    rows = [compared_row(dataset, role) for role in (page_role(dataset), "improved")]
    seed = shared_seeds(dataset, page_role(dataset))[0]
    if any(is_imported(row, seed, "log") for row in rows):
        return []
    return [f"{experiment_folder(row, seed)}/{name}" for row in rows for name in PREDICTIONS]


def of_datasets(*patterns):
    """Files of each data set: patterns with {dataset}, or functions of the wildcards."""

    def files(wildcards):
        found = []
        for dataset in DATASETS:
            own = SimpleNamespace(dataset=dataset)
            for one in patterns:
                paths = one(own) if callable(one) else one.format(dataset=dataset)
                found += [paths] if isinstance(paths, str) else paths
        return found

    return files


def page_trainings(wildcards):
    """What the page reads of each training: its config, where it has one, and its evaluation."""
    rows = [*experiments_of(wildcards.dataset), *made_ablations(wildcards.dataset)]
    return [
        f"{experiment_folder(row, seed)}/{name}"
        for row in rows
        for seed in row.train_seeds
        for name in ("metrics.json", "per_class_iou.tsv", *["config.py"] * (not is_imported(row, seed, "log")))
    ]


def page_confusion(wildcards):
    """Confusion matrices of the improved segmentor; an imported log has none."""
    row = compared_row(wildcards.dataset, "improved")
    return [
        f"{experiment_folder(row, seed)}/confusion.tsv" for seed in row.train_seeds if not is_imported(row, seed, "log")
    ]


def page_filtered(wildcards):
    """What the filter removes of each class in the synthetic set that the page shows."""
    return f"results/{wildcards.dataset}/synthetic/{config['report'][wildcards.dataset]['contact_sheet']}/classes.tsv"


def page_facts():
    """What the page has to know of each data set besides its files (see freemask.reporting.recorded.Dataset)."""
    found = {}
    for dataset in DATASETS:
        chosen, plans = config["report"][dataset], config["plans"]
        shown = [*experiments_of(dataset), *made_ablations(dataset)]
        sets = {row.synthetic_set: config["synthetic_sets"][row.synthetic_set] for row in shown if row.synthetic_set}
        sets |= {name: config["synthetic_sets"][name] for name in [chosen["contact_sheet"]]}
        found[dataset] = {
            "title": DATASETS[dataset]["title"],
            "baseline": chosen["baseline"],
            "control": chosen.get("control"),
            "improved": chosen["improved"],
            "contact_sheet": chosen["contact_sheet"],
            "top": chosen.get("top_classes", 10),
            "train_seed": shared_seeds(dataset, page_role(dataset))[0],
            "pictures": len(page_pictures(dataset)) // 2,
            "ablations": [row.experiment for row in made_ablations(dataset)],
            "sets": {
                name: {
                    "generator": one["generator"],
                    "plan": one["plan"],
                    "strategy": plans[one["plan"]]["strategy"],
                    "n_max": plans[one["plan"]]["n_max"],
                    "filter": one.get("filter", "margin"),
                    "alpha": set_alpha(name),
                }
                for name, one in sets.items()
            },
        }
    return found
