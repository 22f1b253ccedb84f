# Needs: real images, masks.tsv, a segmentor trained on real images. Makes: class_loss.tsv, hardness.tsv, plans/{plan}.tsv.


rule class_loss:
    """Loss [nats] of a segmentor on its real training images, summed per image and class: one shard."""
    input:
        index="results/{dataset}/index/train.tsv",
        label_space=label_space("labels", output="results/{dataset}/class_loss/{scatteritem}.tsv"),
        config=scorer_file("config.py"),
        weights=scorer_file("weights.pth"),
        preflight=after_preflight("results/{dataset}/class_loss/{scatteritem}.tsv"),
    output:
        sums="results/{dataset}/class_loss/{scatteritem}.tsv",
    log:
        "logs/{dataset}/class_loss/{scatteritem}.log",
    benchmark:
        "logs/{dataset}/class_loss/{scatteritem}.benchmark.tsv"
    conda:
        "../envs/segmentation.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="8h",
    params:
        batch_size=scorer_batch_size,
    shell:
        f"python {SCRIPTS}/class_loss.py"
        " --index {input.index:q} --shard {wildcards.scatteritem}"
        " --label-space {input.label_space[0]:q} --config {input.config:q}"
        " --weights {input.weights:q} {params.batch_size} --sums {output.sums:q} --threads {threads} --log {log:q}"


rule split_fold:
    """Real pairs that a fold's segmentor is trained on, and those held out, which it scores."""
    input:
        index="results/{dataset}/index/train.tsv",
    output:
        train="results/{dataset}/folds/{fold}/train.tsv",
        held="results/{dataset}/folds/{fold}/held.tsv",
    log:
        "logs/{dataset}/split_fold/{fold}.log",
    benchmark:
        "logs/{dataset}/split_fold/{fold}.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("split_fold"),
    shell:
        f"python {SCRIPTS}/split_fold.py"
        " --index {input.index:q} --fold {wildcards.fold} --train {output.train:q} --held {output.held:q} --log {log:q}"


use rule class_loss as fold_loss with:
    # one shard of the pairs that a fold's segmentor wasn't trained on
    input:
        index="results/{dataset}/folds/{fold}/held.tsv",
        label_space=label_space("labels"),
        config=scorer_file("config.py"),
        weights=scorer_file("weights.pth"),
    output:
        sums="results/{dataset}/folds/{fold}/class_loss/{scatteritem}.tsv",
    log:
        "logs/{dataset}/fold_loss/{fold}/{scatteritem}.log",
    benchmark:
        "logs/{dataset}/fold_loss/{fold}/{scatteritem}.benchmark.tsv"


rule gather_class_loss:
    """Class-wise mean loss [nats] from all shards; the same for any number of them."""
    input:
        index=loss_indexes(folds.folds_of_run(config)),
        shards=loss_shards(folds.folds_of_run(config)),
        label_space=label_space("labels"),
    output:
        class_loss="results/{dataset}/class_loss.tsv",
    log:
        "logs/{dataset}/gather_class_loss.log",
    benchmark:
        "logs/{dataset}/gather_class_loss.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("gather_class_loss"),
    shell:
        f"python {SCRIPTS}/gather_class_loss.py"
        " --index {input.index:q} --shards {input.shards:q} --label-space {input.label_space[0]:q}"
        " --class-loss {output.class_loss:q} --log {log:q}"


use rule gather_class_loss as gather_fold_losses with:
    # for the filters of sets that ask for another number of folds than the run
    input:
        index=of_folds(loss_indexes),
        shards=of_folds(loss_shards),
        label_space=label_space("labels"),
    output:
        class_loss="results/{dataset}/class_loss~{folds}-folds.tsv",
    log:
        "logs/{dataset}/gather_class_loss~{folds}-folds.log",
    benchmark:
        "logs/{dataset}/gather_class_loss~{folds}-folds.benchmark.tsv"
    localrule: True


rule mask_hardness:
    """Hardness of every mask: mean class-wise loss [nats] over its labelled pixels, and its rank."""
    input:
        masks="results/{dataset}/masks.tsv",
        class_loss="results/{dataset}/class_loss.tsv",
    output:
        hardness="results/{dataset}/hardness.tsv",
    log:
        "logs/{dataset}/mask_hardness.log",
    benchmark:
        "logs/{dataset}/mask_hardness.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("mask_hardness"),
    shell:
        f"python {SCRIPTS}/mask_hardness.py"
        " --masks {input.masks:q} --class-loss {input.class_loss:q}"
        " --hardness {output.hardness:q} --log {log:q}"


rule plan_synthesis:
    """The images to synthesize, mask and seed of each: harder masks get more images."""
    input:
        hardness="results/{dataset}/hardness.tsv",
        masks="results/{dataset}/masks.tsv",
        class_loss="results/{dataset}/class_loss.tsv",
    output:
        plan="results/{dataset}/plans/{plan}.tsv",
    log:
        "logs/{dataset}/plan_synthesis/{plan}.log",
    benchmark:
        "logs/{dataset}/plan_synthesis/{plan}.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    resources:
        # not parameters: another estimate makes no plan outdated
        seconds_per_image=str(config["seconds_per_image"]),
        planned_shards=str(config["shards"]),
    params:
        code=code_of("plan_synthesis", strategy_of),
        strategy=plan_setting("strategy"),
        n_max=plan_setting("n_max"),
        first_seed=plan_setting("first_seed"),
        mask_size=dataset_setting("mask_size"),
        synthesis_logs="logs/{dataset}/synthesize",  # not an input, for the same reason
    shell:
        f"python {SCRIPTS}/plan_synthesis.py"
        " --hardness {input.hardness:q} --masks {input.masks:q}"
        " --class-loss {input.class_loss:q} --strategy {params.strategy:q} --n-max {params.n_max}"
        " --first-seed {params.first_seed} --mask-size {params.mask_size}"
        " --shards {resources.planned_shards} --seconds-per-image {resources.seconds_per_image}"
        " --synthesis-logs {params.synthesis_logs:q} --plan {output.plan:q} --log {log:q}"
