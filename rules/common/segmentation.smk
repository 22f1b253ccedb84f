# What rules of segmentation take. Functions are named after what they return.


def experiment_row(wildcards):
    """The row of the experiments table."""
    if (wildcards.dataset, wildcards.experiment) not in ROWS:
        raise WorkflowError(f"{config['experiments']}: no experiment {wildcards.experiment} on {wildcards.dataset}")
    return ROWS[wildcards.dataset, wildcards.experiment]


def real_pairs(wildcards):
    """The index of the real pairs that a training may use: all of them, but those held out of a fold."""
    fold = experiment_row(wildcards).fold
    return f"results/{wildcards.dataset}/{f'folds/{fold}' if fold else 'index'}/train.tsv"


def model_settings(wildcards):
    """The model's entry of the models file, of this data set's only: a change of it reruns its trainings and no others."""
    entry = MODELS[experiment_row(wildcards).model]
    by_dataset = {
        key: {wildcards.dataset: entry[key][wildcards.dataset]}
        for key in ("iterations", "warmup")
        if wildcards.dataset in entry.get(key, {})
    }
    return json.dumps(entry | by_dataset)


def checks(output):
    """The checks that a training's config waits for. That of a test split only if `output` wasn't made before there was
    one: another set of inputs would train again.
    """

    def paths(wildcards):
        folder = f"results/{wildcards.dataset}/check"
        tested = has_test(wildcards.dataset) and not made_without(f"{folder}/test.tsv", output.format(**wildcards))
        return [f"{folder}/{split}.tsv" for split in ("train", "val", *["test"] * tested)]

    return paths


def has_test(dataset):
    """Whether a data set has a test split."""
    return "test" in DATASETS[dataset]["images"]


def synthetic_pairs(wildcards):
    """The synthetic set of a regime that trains on one."""
    row = experiment_row(wildcards)
    return f"results/{wildcards.dataset}/synthetic/{row.synthetic_set}/train.tsv" if row.synthetic_set else []


def training_pairs(wildcards):
    """The pairs options of a regime: real, synthetic, or both."""
    row = experiment_row(wildcards)
    real = real_pairs(wildcards) if find_regime(row.regime).real else ""
    return [option("--train", real), option("--synthetic", synthetic_pairs(wildcards))]


def pretrained_weights(wildcards):
    """The weights that a regime with a pre-training starts from: same model, synthetic set and train seed."""
    row = experiment_row(wildcards)
    if not find_regime(row.regime).pretrained:
        return []
    pretraining = experiments.pretraining_of(row, EXPERIMENTS)
    return f"results/{row.dataset}/training/{pretraining}/seed-{wildcards.train_seed}/weights.pth"


def initial_weights(wildcards):
    """The file of a model's initial weights, fetched where it has an address; a pre-training replaces it."""
    row = experiment_row(wildcards)
    return [] if find_regime(row.regime).pretrained else sources.initial_weights(MODELS[row.model]) or []


def initial_options(wildcards):
    """What training starts from, as an option: pre-trained weights, the model's initial weights, or nothing."""
    pretrained = option("--initial", pretrained_weights(wildcards))
    return pretrained or option("--initial-weights", initial_weights(wildcards))


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
    """Source of an imported training; None if it is trained here."""
    return IMPORTED.get((wildcards.dataset, wildcards.experiment, int(wildcards.train_seed)))


def last_weights(wildcards, input):
    """The weights of a training, or imported ones, as options of `evaluate`."""
    return [option("--weights", input.weights), f"--checkpoint {'imported' if imported(wildcards) else 'last'}"]


def best_weights(wildcards, input):
    """best.pth, which a training that validates leaves beside weights.pth, as options of `evaluate`."""
    return [option("--weights", Path(input.weights).with_name("best.pth")), "--checkpoint best"]


def imported_file(wildcards):
    """The checkpoint or log. A fetched file is marked ancient, so fetching it again reruns nothing."""
    source = imported(wildcards)
    return ancient(source["file"]) if "url" in source else source["file"]
