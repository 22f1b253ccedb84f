# Needs: synthetic images, masks, the scorer. Makes: margins/, filtered/ (tables), synthetic/{synthetic_set}/train.tsv, export/.


rule measure_margins:
    """Margin map of every synthetic image in a shard: number of tolerance margins that filter a pixel (steps of 0.05)."""
    input:
        manifest="results/{dataset}/synthesis/{generator}/{plan}/{scatteritem}.tsv",
        masks="results/{dataset}/masks.tsv",
        class_loss=scored_class_loss,
        label_space=label_space(
            "labels", output="results/{dataset}/margins/{generator}/{plan}{scoring}/{scatteritem}.tsv"
        ),
        config=scorer_file("config.py"),
        weights=scorer_file("weights.pth"),
    output:
        manifest="results/{dataset}/margins/{generator}/{plan}{scoring}/{scatteritem}.tsv",
    log:
        "logs/{dataset}/measure_margins/{generator}/{plan}{scoring}/{scatteritem}.log",
    benchmark:
        "logs/{dataset}/measure_margins/{generator}/{plan}{scoring}/{scatteritem}.benchmark.tsv"
    conda:
        "../envs/segmentation.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="8h",
    params:
        margins_dir="results/{dataset}/margins/{generator}",
        batch_size=scorer_batch_size,
        # takes `output`, so Snakemake doesn't record it: paths say the same
        labels=lambda wildcards, output: "--labels" if wildcards.scoring.endswith("~labels") else "",
    shell:
        f"python {SCRIPTS}/measure_margins.py"
        " --shard {input.manifest:q} --masks {input.masks:q}"
        " --class-loss {input.class_loss:q} --label-space {input.label_space[0]:q}"
        " --config {input.config:q} --weights {input.weights:q} --margins-dir {params.margins_dir:q}"
        " {params.batch_size} {params.labels} --manifest {output.manifest:q} --threads {threads} --log {log:q}"


rule filter_masks:
    """Share of a shard's pixels that can't be trusted (loss > alpha * class-wise mean loss), by image and by class."""
    input:
        images="results/{dataset}/synthesis/{generator}/{plan}/{scatteritem}.tsv",
        masks="results/{dataset}/masks.tsv",
        margins=margins_to_filter,
        label_space=label_space("labels"),
    output:
        manifest="results/{dataset}/filtered/{generator}/{plan}{scoring}/{filter}/{scatteritem}.tsv",
        class_shares="results/{dataset}/filtered/{generator}/{plan}{scoring}/{filter}/{scatteritem}.classes.tsv",
    log:
        "logs/{dataset}/filter_masks/{generator}/{plan}{scoring}/{filter}/{scatteritem}.log",
    benchmark:
        "logs/{dataset}/filter_masks/{generator}/{plan}{scoring}/{filter}/{scatteritem}.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: config["threads"]
    params:
        code=code_of("filter_masks", filter_of),
        filter=filter_rule,
        alpha=lambda wildcards: wildcards.filter.rpartition("-")[2],
        margins=lambda wildcards, input: option("--margins", input.margins),
    shell:
        f"python {SCRIPTS}/filter_masks.py"
        " --filter {params.filter:q} --alpha {params.alpha}"
        " --images {input.images:q} --masks {input.masks:q} {params.margins} --label-space {input.label_space[0]:q}"
        " --manifest {output.manifest:q} --class-shares {output.class_shares:q} --threads {threads} --log {log:q}"


rule synthetic_set:
    """Gather the shards of a synthetic set in plan order: names of images, masks and margin maps, no copies."""
    input:
        plan=of_set("results/{dataset}/plans/{plan}.tsv"),
        shards=of_set("results/{dataset}/filtered/{generator}/{plan}{scoring}/{filter}/{scatteritem}.tsv"),
        class_shards=of_set("results/{dataset}/filtered/{generator}/{plan}{scoring}/{filter}/{scatteritem}.classes.tsv"),
        label_space=label_space("labels"),
    output:
        train="results/{dataset}/synthetic/{synthetic_set}/train.tsv",
        class_shares="results/{dataset}/synthetic/{synthetic_set}/classes.tsv",
        shard_shares="results/{dataset}/synthetic/{synthetic_set}/shards.tsv",
    log:
        "logs/{dataset}/synthetic_set/{synthetic_set}.log",
    benchmark:
        "logs/{dataset}/synthetic_set/{synthetic_set}.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("synthetic_set"),
    shell:
        f"python {SCRIPTS}/synthetic_set.py"
        " --plan {input.plan:q} --shards {input.shards:q}"
        " --class-shards {input.class_shards:q} --label-space {input.label_space[0]:q}"
        " --train {output.train:q}"
        " --class-shares {output.class_shares:q} --shard-shares {output.shard_shares:q} --log {log:q}"


rule export_synthetic_set:
    """A synthetic set as a folder that other programs read: images as links, filtered masks, metadata, a card."""
    input:
        synthetic="results/{dataset}/synthetic/{synthetic_set}/train.tsv",
        class_shares="results/{dataset}/synthetic/{synthetic_set}/classes.tsv",
        label_space="results/{dataset}/label_space.json",
    output:
        # images and masks beside them are no outputs: they outlive an interrupted job
        metadata="results/{dataset}/export/{synthetic_set}/metadata.jsonl",
        card="results/{dataset}/export/{synthetic_set}/README.md",
        classes="results/{dataset}/export/{synthetic_set}/classes.tsv",
    log:
        "logs/{dataset}/export_synthetic_set/{synthetic_set}.log",
    benchmark:
        "logs/{dataset}/export_synthetic_set/{synthetic_set}.benchmark.tsv"
    conda:
        "../envs/synthesis.yaml"
    threads: config["threads"]
    params:
        code=code_of("export_synthetic_set"),
        title=dataset_setting("title"),
        settings=set_settings,
    shell:
        f"python {SCRIPTS}/export_synthetic_set.py"
        " --synthetic {input.synthetic:q} --class-shares {input.class_shares:q} --label-space {input.label_space:q}"
        " --title {params.title:q} --settings {params.settings:q}"
        " --metadata {output.metadata:q} --card {output.card:q} --classes {output.classes:q}"
        " --threads {threads} --log {log:q}"
