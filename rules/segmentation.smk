# Needs: index/, synthetic/{synthetic_set}/train.tsv. Makes: training/{experiment}/seed-{train_seed}/: config.py, weights.pth, metrics.json, ...


EVALUATION = {"scales": [1.0], "flip": False, "pictures": 4} | config.get("evaluation", {})
PICTURES = range(1, EVALUATION["pictures"] + 1)


rule training_config:
    """Resolve the mmengine configuration of one training."""
    input:
        train=real_pairs,
        val="results/{dataset}/index/val.tsv",
        check=checks("results/{dataset}/training/{experiment}/seed-{train_seed}/config.py"),
        train_sizes="results/{dataset}/check/train.sizes.tsv",
        val_sizes="results/{dataset}/check/val.sizes.tsv",
        synthetic=lambda wildcards: [] if imported(wildcards) else synthetic_pairs(wildcards),
        label_space=label_space("labels"),
    output:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
    log:
        "logs/{dataset}/training_config/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/training_config/{experiment}/seed-{train_seed}.benchmark.tsv"
    localrule: True
    conda:
        "../envs/segmentation.yaml"
    params:
        code=code_of("training_config", regimes_of),
        settings=model_settings,
        regime=lambda wildcards: experiment_row(wildcards).regime,
        balance=lambda wildcards: experiment_row(wildcards).balance,
        precision=lambda wildcards: experiments.precision(MODELS[experiment_row(wildcards).model], config),
        schedule=lambda wildcards: int(experiment_row(wildcards).schedule),
        gpus=config["training_gpus"],
        mask_size=dataset_setting("mask_size"),
        pairs=training_pairs,
        initial=initial_options,
    shell:
        f"python {SCRIPTS}/training_config.py"
        " --settings {params.settings:q} --dataset {wildcards.dataset}"
        " --regime {params.regime} --balance {params.balance} --precision {params.precision}"
        " --schedule {params.schedule} --train-seed {wildcards.train_seed}"
        " --gpus {params.gpus} {params.pairs} {params.initial} --val {input.val:q} --label-space {input.label_space[0]:q}"
        " --mask-size {params.mask_size} --train-sizes {input.train_sizes:q} --val-sizes {input.val_sizes:q}"
        " --config {output.config:q} --log {log:q}"


rule train:
    """Train one model in one regime; resumes from its last checkpoint after an interruption."""
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        train=real_pairs,
        synthetic=synthetic_pairs,
        initial=pretrained_weights,
        # ancient: a file fetched again must not start weeks of training
        initial_weights=lambda wildcards: ancient(initial_weights(wildcards)),
        # config.py names the label space and holds the number of classes only
        labels=parts_of_classes(
            "labels", output="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth"
        ),
        preflight=after_preflight("results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth"),
    output:
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
    log:
        "logs/{dataset}/train/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/train/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("checkpoint", "log"),
    conda:
        "../envs/segmentation.yaml"
    threads: max(config["threads"], 4 * config["training_gpus"] // config.get("training_nodes", 1))  # four loaders a GPU
    resources:
        gpu=config["training_gpus"],
        nodes=config.get("training_nodes", 1),
        mem_mb=128000,  # per node
        runtime="72h",
    # How it is started is part of the command, not a parameter: with other nodes or threads it gives the same model.
    shell:
        f"threads={{threads}}; {launch.training(config['training_gpus'], config.get('training_nodes', 1))}"
        f" {SCRIPTS}/train.py --threads {config['threads']}"
        " --config {input.config:q} --weights {output.weights:q} --log {log:q}"


rule evaluate:
    """mIoU, accuracy and IoU per class [%] on the validation set, whole images; confusion matrix [pixels], a few predictions."""
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
        index="results/{dataset}/index/val.tsv",
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/per_class_iou.tsv",
        confusion="results/{dataset}/training/{experiment}/seed-{train_seed}/confusion.tsv",
        predictions=expand(
            "results/{{dataset}}/training/{{experiment}}/seed-{{train_seed}}/predictions/{number}.png", number=PICTURES
        ),
    log:
        "logs/{dataset}/evaluate/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("log"),
    conda:
        "../envs/segmentation.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=32000,
        runtime="4h",
    params:
        weights=last_weights,
        scales=EVALUATION["scales"],
        flip="--flip" if EVALUATION["flip"] else "",
        # Takes `output`, so Snakemake doesn't record it. areas: no output, so evaluations from before it stay.
        more=lambda wildcards, output: [
            option("--areas", Path(output.per_class_iou).with_name("image_areas.npz")),
            option("--confusion", output.confusion),
            f"--predictions {shlex.join(output.predictions)}",
        ],
    shell:
        f"python {SCRIPTS}/evaluate.py"
        " --config {input.config:q} {params.weights}"
        " --scales {params.scales} {params.flip} --metrics {output.metrics:q} --per-class-iou {output.per_class_iou:q}"
        " {params.more} --threads {threads} --log {log:q}"


use rule evaluate as evaluate_best with:
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/best/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/best/per_class_iou.tsv",
    log:
        "logs/{dataset}/evaluate_best/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate_best/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("checkpoint", "log"),
    params:
        weights=best_weights,
        more="",


use rule evaluate as evaluate_test with:
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
        index="results/{dataset}/index/test.tsv",
        check="results/{dataset}/check/test.tsv",
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/test/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/test/per_class_iou.tsv",
    log:
        "logs/{dataset}/evaluate_test/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate_test/{experiment}/seed-{train_seed}.benchmark.tsv"
    params:
        more=lambda wildcards, input: option("--table", input.index),


use rule evaluate_test as evaluate_best_test with:
    # the best checkpoint, chosen by the validations, on images that it wasn't chosen on
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/best/test/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/best/test/per_class_iou.tsv",
    log:
        "logs/{dataset}/evaluate_best_test/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate_best_test/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("checkpoint", "log"),
    params:
        weights=best_weights,


rule import_checkpoint:
    """Check a checkpoint against the row's model, executing nothing in it, and write its weights as a training does."""
    input:
        checkpoint=imported_file,
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
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
        code=code_of("import_checkpoint"),
        sha256=lambda wildcards: option("--sha256", imported(wildcards).get("sha256")),
    shell:
        f"python {SCRIPTS}/import_checkpoint.py"
        " --checkpoint {input.checkpoint:q} {params.sha256} --config {input.config:q}"
        " --weights {output.weights:q} --log {log:q}"


rule import_log:
    """mIoU, accuracy and IoU per class [%] from a finished run's log; no values per class if the log has none."""
    input:
        run=imported_file,
        label_space=label_space("labels", "names"),
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/per_class_iou.tsv",
    log:
        "logs/{dataset}/import_log/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/import_log/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=only_imported("log"),
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("import_log"),
        take=lambda wildcards: imported(wildcards)["take"],
        iterations=lambda wildcards: (
            MODELS[experiment_row(wildcards).model]["iterations"][wildcards.dataset]
            * int(experiment_row(wildcards).schedule)
        ),
    shell:
        f"python {SCRIPTS}/import_log.py"
        " --run {input.run:q} --take {params.take} --iterations {params.iterations}"
        " --label-space {input.label_space[0]:q} --metrics {output.metrics:q}"
        " --per-class-iou {output.per_class_iou:q} --log {log:q}"
