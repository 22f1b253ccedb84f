# Needs: `imported` of the configuration: checkpoints and logs of finished runs. Makes: of such a row, weights.pth, or
# metrics.json and per_class_iou.tsv, where rules/training.smk and rules/evaluation.smk make those of others.


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
