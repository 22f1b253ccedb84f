# Needs: the raw data set, or its addresses. Makes: raw data below its root, weights/, index/, check/, masks/ + masks.tsv.


rule make_miniworld:
    """Write the procedural data set in ADE20K's folder layout; makes a table of its files."""
    output:
        manifest="results/{dataset}/raw.tsv",
    log:
        "logs/{dataset}/make_miniworld.log",
    benchmark:
        "logs/{dataset}/make_miniworld.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("make_miniworld"),
        root=dataset_setting("root"),
        world=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["miniworld"]),
    shell:
        f"python {SCRIPTS}/make_miniworld.py"
        " --root {params.root:q} --world {params.world:q} --manifest {output.manifest:q}"
        " --log {log:q}"


rule index_dataset:
    """Pair the images and masks of a split by name, read all, and write masks of other kinds as labels."""
    input:
        raw_data,
        state="results/{dataset}/index/{split}.state",
    output:
        index="results/{dataset}/index/{split}.tsv",
    log:
        "logs/{dataset}/index_dataset/{split}.log",
    benchmark:
        "logs/{dataset}/index_dataset/{split}.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: config["threads"]
    params:
        code=code_of("index_dataset"),
        images=lambda wildcards: f"{dataset_setting('root')(wildcards)}/{dataset_setting('images')(wildcards)}",
        masks=lambda wildcards: f"{dataset_setting('root')(wildcards)}/{dataset_setting('masks')(wildcards)}",
        image_suffix=dataset_setting("image_suffix"),
        mask_suffix=dataset_setting("mask_suffix"),
        options=index_options,
        ids_from=lambda wildcards: DATASETS[wildcards.dataset].get("ids_from", "name"),
        mask_format=mask_format,
        labels_dir="results/{dataset}/labels/{split}",
        # no outputs: they outlive a failed job
        files="results/{dataset}/index/{split}.files.json",
        offenders="results/{dataset}/check/{split}.offenders.tsv",
        cache="results/{dataset}/check/{split}.cache",
    shell:
        f"python {SCRIPTS}/index_dataset.py"
        " --images {params.images:q} --masks {params.masks:q}"
        " --image-suffix={params.image_suffix:q} --mask-suffix={params.mask_suffix:q} {params.options}"
        " --ids-from {params.ids_from}"
        " --mask-format {params.mask_format:q} --labels-dir {params.labels_dir:q}"
        " --index {output.index:q} --state {input.state:q} --files {params.files:q}"
        " --offenders {params.offenders:q} --cache {params.cache:q} --threads {threads} --log {log:q}"


rule check_dataset:
    """Check every image and mask of a split; stops the workflow with a table of all files that can't be used."""
    input:
        index="results/{dataset}/index/{split}.tsv",
        label_space=label_space("labels"),
        training_index=index_before("train"),
        validation_index=index_before("val"),
    output:
        frequencies="results/{dataset}/check/{split}.tsv",
        duplicates="results/{dataset}/check/{split}.duplicates.tsv",
        sizes="results/{dataset}/check/{split}.sizes.tsv",
    log:
        "logs/{dataset}/check_dataset/{split}.log",
    benchmark:
        "logs/{dataset}/check_dataset/{split}.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: config["threads"]
    params:
        code=code_of("check_dataset"),
        mask_format=checked_format,
        training_index=lambda wildcards, input: option("--training-index", input.training_index),
        validation_index=lambda wildcards, input: option("--validation-index", input.validation_index),
        # takes output, so that Snakemake doesn't record it: another number checks nothing again
        pictures=lambda wildcards, output: EVALUATION["pictures"] * (wildcards.split == "val"),
        # no outputs: Snakemake deletes outputs of failed jobs, and would delete the cache before each job
        offenders="results/{dataset}/check/{split}.offenders.tsv",
        cache="results/{dataset}/check/{split}.cache",
    shell:
        f"python {SCRIPTS}/check_dataset.py"
        " --index {input.index:q} --label-space {input.label_space[0]:q}"
        " --mask-format {params.mask_format:q} --frequencies {output.frequencies:q}"
        " --duplicates {output.duplicates:q} --sizes {output.sizes:q} {params.training_index} {params.validation_index}"
        " --pictures {params.pictures} --offenders {params.offenders:q} --cache {params.cache:q} --threads {threads} --log {log:q}"


rule resize_masks:
    """Resize the training masks to squares, nearest neighbour; the table counts the pixels of every label."""
    input:
        index="results/{dataset}/index/train.tsv",
        check="results/{dataset}/check/train.tsv",
        label_space=label_space("labels"),
    output:
        masks="results/{dataset}/masks.tsv",
    log:
        "logs/{dataset}/resize_masks.log",
    benchmark:
        "logs/{dataset}/resize_masks.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: config["threads"]
    params:
        code=code_of("resize_masks"),
        masks_dir="results/{dataset}/masks",
        mask_size=dataset_setting("mask_size"),
    shell:
        f"python {SCRIPTS}/resize_masks.py"
        " --index {input.index:q} --label-space {input.label_space[0]:q}"
        " --mask-size {params.mask_size} --masks-dir {params.masks_dir:q}"
        " --masks {output.masks:q} --threads {threads} --log {log:q}"


for dataset, facts in DATASETS.items():

    # Without output, so that it runs whenever it is requested, and has a page where the check fails.
    rule:
        """One page about a data set as it is: the check's findings, classes, sizes, images with their masks."""
        name:
            f"look_{dataset}"
        input:
            f"results/{dataset}/raw.tsv" if "miniworld" in facts else [],
            label_space=f"results/{dataset}/label_space.json",
        log:
            f"logs/{dataset}/look_at_dataset.log",
        conda:
            "../envs/cpu.yaml"
        threads: config["threads"]
        params:
            title=literal(facts["title"]),
            splits=literal(
                json.dumps(
                    {
                        split: [f"{facts['root']}/{facts[kind][split]}" for kind in ("images", "masks")]
                        for split in facts["images"]
                    }
                )
            ),
            image_suffix=literal(facts["image_suffix"]),
            mask_suffix=literal(facts["mask_suffix"]),
            ignored_suffixes=literal(ignored_suffixes(dataset)),
            ids_from=facts.get("ids_from", "name"),
            share=option("--validation-share", facts.get("validation_share", "")),
            mask_format=json.dumps(facts["mask_format"].to_json()),
            cache_dir=f"results/{dataset}/check",
            page=f"results/{dataset}/check/look.html",
        shell:
            f"python {SCRIPTS}/look_at_dataset.py"
            " --title {params.title:q} --splits {params.splits:q} --image-suffix={params.image_suffix:q}"
            " --mask-suffix={params.mask_suffix:q} {params.ignored_suffixes} --ids-from {params.ids_from} {params.share}"
            " --mask-format {params.mask_format:q} --label-space {input.label_space:q}"
            " --cache-dir {params.cache_dir:q} --page {params.page:q} --threads {threads} --log {log:q}"


# These rules have no outputs: they run only on request, and Snakemake never deletes a data set's folder.
for dataset, facts in DATASETS.items():
    if "archives" not in facts:
        continue

    rule:
        """Fetch the data set's archives and unpack them below its root; what exists stays."""
        name:
            f"fetch_{dataset}"
        log:
            f"logs/{dataset}/fetch_dataset.log",
        localrule: True
        conda:
            "../envs/cpu.yaml"
        params:
            dataset=dataset,
            root=literal(facts["root"]),
            archives=literal(json.dumps(facts["archives"])),
            folders=literal(list(dict.fromkeys([*facts["images"].values(), *facts["masks"].values()]))),
        shell:
            f"python {SCRIPTS}/fetch_dataset.py"
            " --dataset {params.dataset} --root {params.root:q}"
            " --archives {params.archives:q} --folders {params.folders:q} --log {log:q}"


rule fetch_weights:
    """Every generator checkpoint, initial weights file and imported checkpoint of the configuration."""
    input:
        expand("weights/{file}", file=WEIGHTS),
    localrule: True


rule fetch_weights_file:
    """Fetch one file of weights, or a folder of the Hugging Face hub; a file that exists is checked and stays."""
    output:
        weights=update("weights/{file}"),
    log:
        "logs/fetch_weights/{file}.log",
    benchmark:
        "logs/fetch_weights/{file}.benchmark.tsv"
    wildcard_constraints:
        file=any_of(WEIGHTS),
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        url=lambda wildcards: WEIGHTS[wildcards.file]["url"],
        sha256=lambda wildcards: option("--sha256", WEIGHTS[wildcards.file].get("sha256")),
    shell:
        f"python {SCRIPTS}/fetch_weights.py"
        " --url {params.url:q} {params.sha256} --weights {output.weights:q} --log {log:q}"
