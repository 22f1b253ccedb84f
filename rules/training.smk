# Needs: index/*.tsv, synthetic/{synthetic_set}/train.tsv. Makes: training/{experiment}/seed-{train_seed}/{config.py,weights.pth}.


rule training_config:
    """Resolve the mmengine configuration of one training."""
    input:
        train="results/{dataset}/index/train.tsv",
        val="results/{dataset}/index/val.tsv",
        check=expand("results/{{dataset}}/check/{split}.tsv", split=["train", "val"]),
        synthetic=pairs_to_train_on,
        classes=fact("classes"),
        script="scripts/training_config.py",
        code=["freemask/training.py", "freemask/protocol.py"],
    output:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
    log:
        "logs/{dataset}/training_config/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/training_config/{experiment}/seed-{train_seed}.benchmark.tsv"
    conda:
        "../envs/segmentation.yaml"
    params:
        settings=model_settings,
        regime=lambda wildcards: experiment_row(wildcards).regime,
        balance=lambda wildcards: experiment_row(wildcards).balance,
        precision=lambda wildcards: checks.precision(MODELS[experiment_row(wildcards).model], config),
        schedule=lambda wildcards: int(experiment_row(wildcards).schedule),
        ignored_label=fact("ignored_label"),
        gpus=config["training_gpus"],
        pairs=training_pairs,
        initial=initial_options,
    shell:
        "python {input.script:q} --settings {params.settings:q} --dataset {wildcards.dataset}"
        " --regime {params.regime} --balance {params.balance} --precision {params.precision}"
        " --schedule {params.schedule} --train-seed {wildcards.train_seed}"
        " --gpus {params.gpus} {params.pairs} {params.initial} --val {input.val:q} --classes {input.classes:q}"
        " --ignored-label {params.ignored_label} --config {output.config:q} --log {log:q}"


rule train:
    """Train one model in one regime; resumes from its last checkpoint after an interruption."""
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        train="results/{dataset}/index/train.tsv",
        synthetic=synthetic_pairs,
        initial=pretrained_weights,
        # ancient: a file fetched again must not start weeks of training
        initial_weights=lambda wildcards: ancient(initial_weights(wildcards)),
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
        mem_mb=128000,
        runtime="72h",
    # How it is started is part of the command, not a parameter: with other nodes or threads it gives the same model.
    shell:
        f"threads={{threads}}; {launch.training(config['training_gpus'], config.get('training_nodes', 1))}"
        f" scripts/train.py --launcher {'pytorch' if config['training_gpus'] > 1 else 'none'}"
        f" --threads {config['threads']}"
        " --config {input.config:q} --weights {output.weights:q} --log {log:q}"
