# Small input functions named after what they return.
# Needs: what rules/common.smk reads. Makes: no files.


def experiment_row(wildcards):
    """The row of the experiments table."""
    rows = EXPERIMENTS[(EXPERIMENTS.dataset == wildcards.dataset) & (EXPERIMENTS.experiment == wildcards.experiment)]
    if rows.empty:
        raise WorkflowError(f"{config['experiments']}: no experiment {wildcards.experiment} on {wildcards.dataset}")
    return rows.iloc[0]


def experiment_folder(row, train_seed):
    """Where one trained model lives."""
    return f"results/{row.dataset}/training/{row.experiment}/seed-{train_seed}"


def metrics_of(row):
    """The metrics of every train seed of an experiment."""
    return [f"{experiment_folder(row, seed)}/metrics.json" for seed in row.train_seeds]


def scorer_file(name):
    """A file of the segmentor that scores, trained on real images."""

    def path(wildcards):
        scorer = config["scorers"][wildcards.dataset]
        return f"results/{wildcards.dataset}/training/{scorer['experiment']}/seed-{scorer['train_seed']}/{name}"

    return path


def scorer_batch_size(wildcards):
    """The scorer's images per batch, as an option, where it is given."""
    return option("--batch-size", config["scorers"][wildcards.dataset].get("batch_size"))


def set_alpha(synthetic_set):
    """The tolerance margin of a synthetic set as it stands in paths: 1.25, 0.9, inf."""
    alpha = config["synthetic_sets"][synthetic_set]["alpha"]
    return "inf" if math.isinf(alpha) else f"{alpha:g}"


def set_shards(pattern):
    """The shards that a synthetic set gathers; {generator}, {plan} and {alpha} are the set's."""

    def paths(wildcards):
        chosen = config["synthetic_sets"][wildcards.synthetic_set]
        filled = pattern.format(
            dataset=wildcards.dataset,
            generator=chosen["generator"],
            plan=chosen["plan"],
            alpha=set_alpha(wildcards.synthetic_set),
            scatteritem="{scatteritem}",
        )
        return gather.shard(filled)

    return paths


def set_plan(wildcards):
    """The plan of a synthetic set."""
    return f"results/{wildcards.dataset}/plans/{config['synthetic_sets'][wildcards.synthetic_set]['plan']}.tsv"


def raw_data(wildcards):
    """What an index depends on: the miniature world's manifest, or the folders of a data set that is there."""
    facts = DATASETS[wildcards.dataset]
    if "miniworld" in facts:
        return f"results/{wildcards.dataset}/raw.tsv"
    folders = [Path(facts["root"]) / facts[kind][wildcards.split] for kind in ("images", "masks")]
    return [str(folder) for folder in folders if folder.is_dir()]


def generator_source(wildcards):
    """Where the generator comes from: trained here, or the path that the configuration gives (if it is there).

    Not fetched by being an input: it has some GB, and refuse_missing_raw_data names the command.
    """
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "train":
        return f"results/{wildcards.dataset}/generator_training/{wildcards.generator}/pipeline/model_index.json"
    path = Path(generator["path"])
    path = path / "model_index.json" if generator["source"] == "pipeline" else path
    return str(path) if path.exists() else []


def generator_weights(wildcards):
    """The weights themselves, or their digests where they are made here: new ones under old names are noticed."""
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "train":
        return f"results/{wildcards.dataset}/generator_training/{wildcards.generator}/weights.json"
    if generator["source"] == "pipeline":
        return sorted(map(str, Path(generator["path"]).glob("*/*.safetensors")))
    return generator_source(wildcards)


def margins_unless_infinite(wildcards):
    """No filtering (alpha = inf) needs no margin maps."""
    if wildcards.alpha == "inf":
        return []
    return "results/{dataset}/margins/{generator}/{plan}/{scatteritem}.tsv"


def synthetic_pairs(wildcards):
    """The synthetic set of a regime that trains on one."""
    row = experiment_row(wildcards)
    return f"results/{wildcards.dataset}/synthetic/{row.synthetic_set}/train.tsv" if row.synthetic_set else []


def pretrained_weights(wildcards):
    """What finetune starts from: the same model trained on the same synthetic set with the same train seed."""
    row = experiment_row(wildcards)
    if row.regime != "finetune":
        return []
    pretraining = checks.pretraining_of(row, EXPERIMENTS)
    return f"results/{row.dataset}/training/{pretraining}/seed-{wildcards.train_seed}/weights.pth"


def initial_weights(wildcards):
    """The weights file that a model starts from, fetched where it has an address; finetune starts elsewhere."""
    row = experiment_row(wildcards)
    return [] if row.regime == "finetune" else sources.initial_weights(MODELS[row.model]) or []


def initial_options(wildcards):
    """What training starts from, as an option: pre-trained weights, the model's initial weights, or nothing."""
    pretrained = option("--initial", pretrained_weights(wildcards))
    return pretrained or option("--initial-weights", initial_weights(wildcards))


def training_pairs(wildcards):
    """The pairs options of a regime: real, synthetic, or both."""
    row = experiment_row(wildcards)
    real = "" if row.regime == "synthetic" else f"results/{row.dataset}/index/train.tsv"
    return [option("--train", real), option("--synthetic", synthetic_pairs(wildcards))]


def model_settings(wildcards):
    """The model's entry of the models file: a change of it reruns its trainings and no others."""
    return json.dumps(MODELS[experiment_row(wildcards).model])


def experiments_of(dataset, study="main"):
    """The experiments of a data set, as rows, without ablations; or the ablations and what they are compared with."""
    return list(studies.of_study(EXPERIMENTS[EXPERIMENTS.dataset == dataset], study).itertuples())


def all_metrics(wildcards, study="main"):
    """metrics.json of every training of the data set, ablations apart."""
    return [path for row in experiments_of(wildcards.dataset, study) for path in metrics_of(row)]


def all_ious(wildcards, study="main"):
    """per_class_iou.tsv of every training of the data set, ablations apart."""
    return [path.replace("metrics.json", "per_class_iou.tsv") for path in all_metrics(wildcards, study)]


def compared(role):
    """IoU per class of the experiment that plays a role (baseline, improved) in the comparison, shared train seeds."""

    def paths(wildcards):
        row = compared_row(wildcards, role)
        return [f"{experiment_folder(row, seed)}/per_class_iou.tsv" for seed in shared_seeds(wildcards)]

    return paths


def compared_row(wildcards, role):
    """The experiments row that plays a role in the data set's comparison."""
    rows = EXPERIMENTS[EXPERIMENTS.dataset == wildcards.dataset].set_index("experiment", drop=False)
    return rows.loc[config["report"][wildcards.dataset][role]]


def shared_seeds(wildcards):
    """Train seeds that both sides of the comparison have."""
    baseline, improved = (compared_row(wildcards, role).train_seeds for role in ("baseline", "improved"))
    return sorted(set(baseline) & set(improved))


def sets_of(dataset):
    """Synthetic sets that the data set's experiments (not its ablations) train on, in the configuration's order."""
    used = {row.synthetic_set for row in experiments_of(dataset)}
    return [name for name in config["synthetic_sets"] if name in used]


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})
