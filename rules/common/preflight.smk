# What preflight is told of a run. Functions are named after what they return.


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
    plans = {f"synthesis/{one['generator']}/{one['plan']}": config["plans"][one["plan"]] for one in chosen}
    folders = [Path(facts["root"]) / facts[kind][split] for kind in ("images", "masks") for split in facts["images"]]
    weights = [*generator_files(wildcards.dataset), *(sources.initial_weights(MODELS[row.model]) for row in rows)]
    missing = [source["url"] for name, source in WEIGHTS.items() if not Path(f"weights/{name}").exists()]
    return [
        options("--files", sorted({str(path) for path in [*folders, *weights] if path and Path(path).exists()})),
        options("--downloads", missing),
        option("--pairs", pairs_of(wildcards.dataset)["train"]),
        option("--plans", json.dumps(plans)),
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
