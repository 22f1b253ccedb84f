# Needs: plans/{plan}.tsv, masks, a generator. Makes: generator/{generator}/, synthetic images and a manifest per shard.


rule train_generator:
    """Train a mask-to-image generator: the miniature from scratch, or Stable Diffusion 1.x on the data set's pairs."""
    input:
        index="results/{dataset}/index/train.tsv",
        check="results/{dataset}/check/train.tsv",
        label_space=label_space(
            "labels",
            "words",
            output="results/{dataset}/generator_training/{generator}/pipeline/model_index.json",
        ),
        preflight=after_preflight("results/{dataset}/generator_training/{generator}/pipeline/model_index.json"),
    output:
        pipeline="results/{dataset}/generator_training/{generator}/pipeline/model_index.json",
        weights="results/{dataset}/generator_training/{generator}/weights.json",
    log:
        "logs/{dataset}/train_generator/{generator}.log",
    benchmark:
        "logs/{dataset}/train_generator/{generator}.benchmark.tsv"
    conda:
        "../envs/synthesis.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=64000,
        runtime="48h",
    params:
        settings=lambda wildcards: json.dumps(generator_setting("training")(wildcards)),
        image_size=generator_setting("image_size"),
        folder=subpath(output.pipeline, ancestor=2),
    shell:
        f"python {SCRIPTS}/train_generator.py"
        " --settings {params.settings:q} --index {input.index:q}"
        " --label-space {input.label_space[0]:q} --image-size {params.image_size}"
        " --folder {params.folder:q} --threads {threads} --log {log:q}"


rule prepare_generator:
    """Make the diffusers pipeline folder that generates: convert a checkpoint, or check and link a folder."""
    input:
        path=generator_source,
        weights=generator_weights,
    output:
        pipeline="results/{dataset}/generator/{generator}/model_index.json",
        weights="results/{dataset}/generator_weights/{generator}.json",
    log:
        "logs/{dataset}/prepare_generator/{generator}.log",
    benchmark:
        "logs/{dataset}/prepare_generator/{generator}.benchmark.tsv"
    conda:
        "../envs/synthesis.yaml"
    params:
        code=code_of("prepare_generator", method_of),
        source=generator_setting("source"),
        path=lambda wildcards, input: option("--path", input.path),
        method=lambda wildcards: option("--method", config["generators"][wildcards.generator].get("method")),
        sha256=lambda wildcards: option("--sha256", config["generators"][wildcards.generator].get("sha256")),
    shell:
        f"python {SCRIPTS}/prepare_generator.py"
        " --source {params.source} {params.path} {params.method} {params.sha256}"
        " --pipeline {output.pipeline:q} --weights {output.weights:q} --log {log:q}"


rule synthesize:
    """Synthesize one shard of the plan on one GPU; existing images aren't made again."""
    input:
        plan="results/{dataset}/plans/{plan}.tsv",
        masks="results/{dataset}/masks.tsv",
        generator="results/{dataset}/generator/{generator}/model_index.json",
        weights="results/{dataset}/generator_weights/{generator}.json",
        label_space=painted_classes("results/{dataset}/synthesis/{generator}/{plan}/{scatteritem}.tsv"),
        preflight=after_preflight("results/{dataset}/synthesis/{generator}/{plan}/{scatteritem}.tsv"),
    output:
        manifest="results/{dataset}/synthesis/{generator}/{plan}/{scatteritem}.tsv",
    log:
        "logs/{dataset}/synthesize/{generator}/{plan}/{scatteritem}.log",
    benchmark:
        "logs/{dataset}/synthesize/{generator}/{plan}/{scatteritem}.benchmark.tsv"
    conda:
        "../envs/synthesis.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=24000,
        runtime="48h",
    params:
        torch_threads=config["threads"],  # --cores may lower {threads}, and their number changes bytes on a CPU
        images_dir=images_folder,
        scheduler=generator_setting("scheduler"),
        steps=generator_setting("steps"),
        guidance_scale=generator_setting("guidance_scale"),
        image_size=generator_setting("image_size"),
        dtype=generator_setting("dtype"),
        batch_size=generator_setting("batch_size"),
        jpeg_quality=generator_setting("jpeg_quality"),
        optional=generator_options,
    shell:
        f"python {SCRIPTS}/synthesize.py"
        " --plan {input.plan:q} --shard {wildcards.scatteritem} --masks {input.masks:q}"
        " --label-space {input.label_space[0]:q} --generator {input.generator:q}"
        " --scheduler {params.scheduler} --steps {params.steps} --guidance-scale {params.guidance_scale}"
        " --image-size {params.image_size} --dtype {params.dtype} --batch-size {params.batch_size}"
        " --jpeg-quality {params.jpeg_quality} --images-dir {params.images_dir:q} --manifest {output.manifest:q}"
        " {params.optional} --threads {params.torch_threads} --log {log:q}"


for dataset in DATASETS:

    # Without output, so that it runs whenever it is requested; without input, since it checks what exists.
    rule:
        """Check every made image and mask against the table that names it; set damaged files aside."""
        name:
            f"verify_{dataset}"
        log:
            f"logs/{dataset}/verify.log",
        conda:
            "../envs/cpu.yaml"
        threads: config["threads"]
        params:
            folder=f"results/{dataset}",
            report=f"results/{dataset}/verify/report.tsv",
        shell:
            f"python {SCRIPTS}/verify.py"
            " --folder {params.folder:q} --report {params.report:q} --threads {threads}"
            " --log {log:q}"

    for name, deletes in (("unused", ""), ("prune", "--delete")):

        # Without output and input for the same reasons.
        rule:
            """List, or delete, images that no plan holds any more and other files that nothing uses."""
            name:
                f"{name}_{dataset}"
            log:
                f"logs/{dataset}/{name}.log",
            conda:
                "../envs/synthesis.yaml"
            params:
                folder=f"results/{dataset}",
                plans=json.dumps(plans_by_generator(dataset)),
                files=f"results/{dataset}/unused.tsv",
                delete=deletes,
            shell:
                f"python {SCRIPTS}/unused.py"
                " --folder {params.folder:q} --plans {params.plans:q} --files {params.files:q} {params.delete}"
                " --log {log:q}"
