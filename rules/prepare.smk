# Needs: the raw data set. Makes: index/{split}.tsv, check/{split}.tsv, masks/*.png + masks.tsv.


rule make_miniworld:
    """Write the procedural data set in ADE20K's folder layout; makes a table of its files."""
    input:
        script="scripts/make_miniworld.py",
        code=["freemask/miniworld/scenes.py", "freemask/miniworld/appearance.py", "freemask/miniworld/dataset.py"],
    output:
        manifest="results/{dataset}/raw.tsv",
    log:
        "logs/{dataset}/make_miniworld.log",
    benchmark:
        "logs/{dataset}/make_miniworld.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    params:
        root=fact("root"),
        world=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["miniworld"]),
    shell:
        "python {input.script:q} --root {params.root:q} --world {params.world:q} --manifest {output.manifest:q}"
        " --log {log:q}"


rule write_classes:
    """The class table of a data set whose YAML file lists its classes itself."""
    input:
        script="scripts/write_classes.py",
    output:
        classes="results/{dataset}/classes.tsv",
    log:
        "logs/{dataset}/write_classes.log",
    benchmark:
        "logs/{dataset}/write_classes.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(name for name, facts in DATASETS.items() if "class_rows" in facts),
    conda:
        "../envs/workflow.yaml"
    params:
        rows=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["class_rows"]),
    shell:
        "python {input.script:q} --rows {params.rows:q} --classes {output.classes:q} --log {log:q}"


rule index_dataset:
    """Pair images and masks of a split by name; where one stands alone, checks all and stops as check_dataset does."""
    input:
        raw_data,
        classes=fact("classes"),
        script="scripts/index_dataset.py",
        code="freemask/masks.py",
    output:
        index="results/{dataset}/index/{split}.tsv",
    log:
        "logs/{dataset}/index_dataset/{split}.log",
    benchmark:
        "logs/{dataset}/index_dataset/{split}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: config["threads"]
    params:
        images=lambda wildcards: f"{fact('root')(wildcards)}/{fact('images')(wildcards)}",
        masks=lambda wildcards: f"{fact('root')(wildcards)}/{fact('masks')(wildcards)}",
        image_suffix=fact("image_suffix"),
        mask_suffix=fact("mask_suffix"),
        # for the report of a failure: neither inputs nor outputs
        ignored_label=fact("ignored_label"),
        offenders="results/{dataset}/check/{split}.offenders.tsv",
        cache="results/{dataset}/check/{split}.cache.sqlite",
    shell:
        "python {input.script:q} --images {params.images:q} --masks {params.masks:q}"
        " --image-suffix={params.image_suffix:q} --mask-suffix={params.mask_suffix:q}"
        " --index {output.index:q} --classes {input.classes:q} --ignored-label {params.ignored_label}"
        " --offenders {params.offenders:q} --cache {params.cache:q} --threads {threads} --log {log:q}"


rule check_dataset:
    """Open every image and mask of a split once; stops the workflow with a table of all that can't be used."""
    input:
        index="results/{dataset}/index/{split}.tsv",
        classes=fact("classes"),
        script="scripts/check_dataset.py",
        code=["freemask/check.py", "freemask/probe.py"],
    output:
        frequencies="results/{dataset}/check/{split}.tsv",
    log:
        "logs/{dataset}/check_dataset/{split}.log",
    benchmark:
        "logs/{dataset}/check_dataset/{split}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: config["threads"]
    params:
        # not outputs: Snakemake deletes a failed job's outputs, and the cache before a job
        offenders="results/{dataset}/check/{split}.offenders.tsv",
        cache="results/{dataset}/check/{split}.cache.sqlite",
        ignored_label=fact("ignored_label"),
    shell:
        "python {input.script:q} --index {input.index:q} --classes {input.classes:q}"
        " --ignored-label {params.ignored_label} --frequencies {output.frequencies:q}"
        " --offenders {params.offenders:q} --cache {params.cache:q} --threads {threads} --log {log:q}"


rule resize_masks:
    """Resize the training masks to squares, nearest neighbour; the table counts the pixels of every label."""
    input:
        index="results/{dataset}/index/train.tsv",
        check="results/{dataset}/check/train.tsv",
        classes=fact("classes"),
        script="scripts/resize_masks.py",
        code="freemask/masks.py",
    output:
        masks="results/{dataset}/masks.tsv",
    log:
        "logs/{dataset}/resize_masks.log",
    benchmark:
        "logs/{dataset}/resize_masks.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: config["threads"]
    params:
        masks_dir="results/{dataset}/masks",
        mask_size=fact("mask_size"),
        ignored_label=fact("ignored_label"),
    shell:
        "python {input.script:q} --index {input.index:q} --classes {input.classes:q}"
        " --ignored-label {params.ignored_label} --mask-size {params.mask_size} --masks-dir {params.masks_dir:q}"
        " --masks {output.masks:q} --threads {threads} --log {log:q}"
