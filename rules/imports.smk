# Needs: `imported` of the configuration: checkpoints and logs of finished runs. Makes: of such a row, weights.pth, or
# metrics.json and per_class_iou.tsv, where rules/training.smk and rules/evaluation.smk make those of others.

from freemask import imports

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


rule import_checkpoint:
    """Check a checkpoint against the row's model, executing nothing in it, and write its weights as a training does."""
    input:
        checkpoint=imported_file,
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        script="scripts/import_checkpoint.py",
        code="freemask/segmentation/checkpoints.py",
    output:
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
    log:
        "logs/{dataset}/import_checkpoint/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/import_checkpoint/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=only_imported("checkpoint"),
    conda:
        "../envs/segmentation.yaml"
    resources:
        mem_mb=16000,
    params:
        sha256=lambda wildcards: option("--sha256", imported(wildcards).get("sha256")),
    shell:
        "python {input.script:q} --checkpoint {input.checkpoint:q} {params.sha256} --config {input.config:q}"
        " --weights {output.weights:q} --log {log:q}"


rule import_log:
    """mIoU, accuracy and IoU per class [%] as a finished run's log tells them; empty where it has no IoU per class."""
    input:
        run=imported_file,
        classes=fact("classes"),
        script="scripts/import_log.py",
        code="freemask/run_logs.py",
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/per_class_iou.tsv",
    log:
        "logs/{dataset}/import_log/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/import_log/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=only_imported("log"),
    conda:
        "../envs/workflow.yaml"
    params:
        take=lambda wildcards: imported(wildcards)["take"],
        ignored_label=fact("ignored_label"),
        iterations=lambda wildcards: (
            MODELS[experiment_row(wildcards).model]["iterations"][wildcards.dataset]
            * int(experiment_row(wildcards).schedule)
        ),
    shell:
        "python {input.script:q} --run {input.run:q} --take {params.take} --iterations {params.iterations}"
        " --classes {input.classes:q} --ignored-label {params.ignored_label} --metrics {output.metrics:q}"
        " --per-class-iou {output.per_class_iou:q} --log {log:q}"
