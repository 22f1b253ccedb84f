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
from freemask.data.mask_format import MaskFormat
from freemask.errors import InputError
from freemask.files import RUN, own_id
from freemask.segmentation import experiments
from freemask.segmentation.regimes import find_regime
from freemask.workflow.config import read_run
from freemask.workflow import imported as imports
from freemask.workflow import classes, failed_logs, launch, preflight, raw, sharing, site, slurm, sources
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
    split="train|val|test",
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
        if not isinstance(found, dict):
            return found
        if (split or wildcards.split) not in found:
            raise WorkflowError(f"config/datasets/{wildcards.dataset}.yaml: {key} has no {split or wildcards.split}")
        return found[split or wildcards.split]

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
        return [] if made_without(files[0], output.format(**wildcards)) else ancient(files)

    return checks


def made_without(file, output):
    """Whether a file exists that was made without another as its input."""
    recorded = workflow.persistence.input(IOFile(output))
    return recorded is not None and file not in recorded


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
    folders = [Path(facts["root"]) / facts[kind][split] for kind in ("images", "masks") for split in facts["images"]]
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


def label_space(*parts, output=None):
    """The label space, and files that change only if these parts of it do: labels, words, colors, names.

    No rule makes them (see freemask.workflow.classes). The label space itself is ancient, since any part changes it. An
    `output` that was made before there were such files depends on all of it, until it is made again: other inputs would
    make it again now.
    """

    def files(wildcards):
        space, used = f"results/{wildcards.dataset}/label_space.json", parts_of_classes(*parts)(wildcards)
        if output and made_without(used[0], output.format(**wildcards)):
            return [space]
        return [ancient(space), *used]

    return files


def parts_of_classes(*parts, output=None):
    """Files that change only if these parts of the classes do; nothing where `output` was made without them."""

    def files(wildcards):
        used = [f"results/{wildcards.dataset}/classes/{part}.json" for part in parts]
        return [] if output and made_without(used[0], output.format(**wildcards)) else used

    return files


def ignored_suffixes(wildcards):
    """Ends of file names that are neither images nor masks, as options."""
    ends = DATASETS[wildcards.dataset].get("ignored_suffixes", [])
    return " ".join(f"--ignored-suffixes={shlex.quote(end)}" for end in ends)


def index_options(wildcards):
    """How a split's files become pairs, as options: which are left out, which windows images are cut into."""
    facts, split = DATASETS[wildcards.dataset], wildcards.split
    given = [ignored_suffixes(wildcards)]
    if "validation_share" in facts and split != "test":
        given.append(f"--validation-share {facts['validation_share']}")
    if "windows" in facts:
        given.append(f"--windows {shlex.quote(json.dumps(facts['windows']))}")
        given.append(f"--windows-dir {shlex.quote(f'results/{wildcards.dataset}/windows/{split}')}")
    return " ".join([*given, f"--split {split}"] if len(given) > 1 else given)


def mask_format(wildcards):
    """What a data set's masks may hold; labels and colors of classes, not their names and words."""
    return json.dumps(DATASETS[wildcards.dataset]["mask_format"].to_json())


def checked_format(wildcards):
    """What the masks of an index may hold: labels where images were cut, since ignored pixels surround what counts."""
    facts = DATASETS[wildcards.dataset]
    return (
        json.dumps(MaskFormat.of_labels(facts["label_space"]).to_json())
        if "windows" in facts
        else mask_format(wildcards)
    )


def raw_data(wildcards):
    """What the miniature world's index depends on besides the state of its files: their manifest."""
    return f"results/{wildcards.dataset}/raw.tsv" if "miniworld" in DATASETS[wildcards.dataset] else []


def training_index(wildcards):
    """The training split's index, with which another split's images are compared."""
    return [] if wildcards.split == "train" else f"results/{wildcards.dataset}/index/train.tsv"


def raw_state(wildcards):
    """A file that changes if a split's raw data change after they were indexed."""
    return f"results/{wildcards.dataset}/index/{wildcards.split}.state"


def notice_data():
    """Bring states of raw data and parts of classes up to date: once a run, before Snakemake looks for files."""
    for dataset, facts in DATASETS.items():
        classes.notice(facts["label_space"], Path(f"results/{dataset}"))
        for split in facts["images"]:
            state = Path(f"results/{dataset}/index/{split}.state")
            if changes := raw.notice(facts, split, state, config.get("watch_raw_data", True)):
                sys.stderr.write(f"raw data of {dataset}, {split}, differ from their index: {changes}\n")


if workflow.is_main_process:
    try:
        notice_data()
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


def painted_classes(output):
    """The label space, as images depend on it: FreestyleNet reads words; other methods may read all of it."""

    def files(wildcards):
        all_parts = method_of(wildcards) != ["freestyle"]
        return label_space("labels", "words", *["colors", "names"] * all_parts, output=output)(wildcards)

    return files


def images_folder(wildcards):
    """The folder of a generator's images, which all runs of a data set share."""
    return f"results/{own_id(wildcards.dataset)}/synthesis/{wildcards.generator}/images"


def plans_by_generator(dataset):
    """Plans of all the data set's synthetic sets, ablations included, by generator."""
    found = {}
    for chosen in config["synthetic_sets"].values():
        if chosen["dataset"] == dataset:
            found.setdefault(chosen["generator"], set()).add(chosen["plan"])
    return {generator: sorted(plans) for generator, plans in found.items()}


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


def set_settings(wildcards):
    """How a synthetic set is made, for the card of its export (JSON); no paths of this machine."""
    chosen = config["synthetic_sets"][wildcards.synthetic_set]
    generator = config["generators"][chosen["generator"]]
    shown = {key: value for key, value in generator.items() if key not in ("path", "address", "sha256", "training")}
    plan, rule = config["plans"][chosen["plan"]], chosen.get("filter", "margin")
    made = {"generator": {"id": chosen["generator"], **shown}, "plan": {"id": chosen["plan"], **plan}}
    return json.dumps(made | {"filter": {"rule": rule, "alpha": set_alpha(wildcards.synthetic_set)}})


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


def checks(output):
    """The checks that a training's config waits for. That of a test split only if `output` wasn't made before there was
    one: another set of inputs would train again.
    """

    def paths(wildcards):
        folder = f"results/{wildcards.dataset}/check"
        tested = has_test(wildcards.dataset) and not made_without(f"{folder}/test.tsv", output.format(**wildcards))
        return [f"{folder}/{split}.tsv" for split in ("train", "val", *["test"] * tested)]

    return paths


def has_test(dataset):
    """Whether a data set has a test split."""
    return "test" in DATASETS[dataset]["images"]


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


def validated(dataset, study="main", rows_of=experiments_of):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in rows_of(dataset, study) if experiments.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def tested(dataset, study="main"):
    """The data set's experiments that are evaluated on its test split; an imported log's can't be."""
    rows = experiments_of(dataset, study) if has_test(dataset) else []
    return [row for row in rows if not any(is_imported(row, seed, "log") for seed in row.train_seeds)]


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
    tables = ("miou.md", "most_improved.tsv", "cost.tsv", "warnings.tsv")
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


# ---- cost ------------------------------------------------------------------------------------------------------------


def pairs_of(dataset):
    """Number of pairs of each split: of the index, else of the raw folder, else as the data set's file says."""
    facts, found = DATASETS[dataset], {}
    for split in ("train", "val"):
        folder = Path(facts["root"]) / facts["masks"][split]
        number = preflight.rows(Path(f"results/{dataset}/index/{split}.tsv")) or preflight.entries(folder)
        found[split] = number or facts.get("pairs", {}).get(split, 0)
    return found


def jobs_of(dataset):
    """Number of jobs of each rule in `all`, without fetched weights, by the configuration alone."""
    sets, shards, kinds = sets_of(dataset), config["shards"], ("checkpoint", "log")
    chosen = [(one["generator"], one["plan"]) for one in map(config["synthetic_sets"].get, sets)]
    filtered = {(*one, set_filter(name)) for one, name in zip(chosen, sets)}
    generators = {generator for generator, _ in chosen}
    seeds = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    imports = [sum(is_imported(row, seed, kind) for row, seed in seeds) for kind in kinds]
    numbers = {
        "preflight_submitting": 1,
        **{f"preflight_{kind}": 1 for kind in PREFLIGHTS},
        "make_miniworld": int("miniworld" in DATASETS[dataset]),
        "index_dataset": 2,
        "check_dataset": 2,
        "resize_masks": 1,
        "class_loss": config.get("class_loss_shards", 1),
        "gather_class_loss": 1,
        "mask_hardness": 1,
        "plan_synthesis": len(plans_of(dataset)),
        "train_generator": sum(config["generators"][name]["source"] == "train" for name in generators),
        "prepare_generator": len(generators),
        "synthesize": shards * len(set(chosen)),
        "measure_margins": shards * len({one[:2] for one in filtered if one[2] != "alpha-inf"}),
        "filter_masks": shards * len(filtered),
        "synthetic_set": len(sets),
        "training_config": len(seeds) - imports[1],
        "train": len(seeds) - sum(imports),
        "evaluate": len(seeds) - imports[1],
        "evaluate_best": sum(len(row.train_seeds) for row in validated(dataset)),
        "import_checkpoint": imports[0],
        "import_log": imports[1],
        "result_tables": 1,
        "training_cost": 1,
        "most_improved": 1,
        "list_warnings": 1,
        "write_report": int(dataset == next(iter(DATASETS))),  # one page of all data sets
        **{one.script.stem: 1 for one in FIGURES if f"results/{dataset}/figures/{one.name}.png" in figures_of(dataset)},
    }
    return {rule: number for rule, number in numbers.items() if number}


def way_of(model):
    """How a model's training steps are computed: captured, or launched with merged groups."""
    captured = "captured_backbone" in experiments.acceleration(model, config["training_gpus"])
    return "captured" if captured else "merged"


def cost_of_dataset(dataset):
    """What `cost` is told of a data set."""
    chosen = [config["synthetic_sets"][name] for name in sets_of(dataset)]
    plans = [(one["generator"], one["plan"]) for one in chosen]
    return {
        "pairs": pairs_of(dataset),
        "mask_size": DATASETS[dataset]["mask_size"],
        "jobs": jobs_of(dataset),
        "plans": [
            config["plans"][plan]
            | {"generator": generator, "images": preflight.rows(Path(f"results/{dataset}/plans/{plan}.tsv"))}
            for generator, plan in dict.fromkeys(plans)
        ],
        "trainings": [
            {
                "name": f"{row.experiment}/seed-{seed}",
                "model": row.model,
                "updates": MODELS[row.model]["iterations"][dataset] * int(row.schedule),
            }
            for row, seed in trained_rows(dataset)
        ],
    }


def cost_of_run(wildcards):
    """What `cost` is told of the run, as JSON."""
    evaluation = {"scales": [1.0], "flip": False} | config.get("evaluation", {})
    given, gpus = workflow.global_resources.get("gpu"), config["training_gpus"]
    datasets = {dataset: cost_of_dataset(dataset) for dataset in DATASETS}
    counted = {rule for facts in datasets.values() for rule in facts["jobs"]}
    used = {one["model"] for facts in datasets.values() for one in facts["trainings"]}
    about = {
        max((name for name in counted if rule.name.endswith(name)), key=len, default=""): {  # a module's prefix
            "stage": Path(rule.snakefile).stem,
            "files": len(rule.output) + len(rule.log) + bool(rule.benchmark),
            "gpus": ("gpu" in rule.resources) * (max(gpus, 1) if rule.name.endswith("train") else 1),
        }
        for rule in workflow.rules
    }
    run = {
        "gpus": (given and given.value) or (config["shards"] if gpus else workflow.cores),
        "training_gpus": gpus,
        "shards": config["shards"],
        "views": len(evaluation["scales"]) * (1 + evaluation["flip"]),
        "seconds_per_image": config["seconds_per_image"],
        "rules": {rule: about[rule] for rule in sorted(counted)},
        "generators": {
            name: {key: one[key] for key in ("image_size", "steps", "compile") if key in one}
            for name, one in config["generators"].items()
        },
        "models": {
            name: {"gpus": model["gpus"], "way": way_of(model), "validated": experiments.validates(model)}
            for name, model in MODELS.items()
            if name in used
        },
        "datasets": datasets,
    }
    return json.dumps(run)


def card_of_run(wildcards, resources):
    """Type of the run's GPUs as an option: the profile's default resource gpu_model, if there is one."""
    return option("--card", resources.get("gpu_model"))


def measured_cards(wildcards):
    """Files that benchmarks/gpu.sh wrote: the user's first."""
    return [
        path
        for path in ("build/gpu/gpu.json", *map(str, sorted(place("resources/costs").glob("*.json"))))
        if Path(path).exists()
    ]


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
