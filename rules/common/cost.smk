# What `cost` is told of a run. Functions are named after what they return.


def pairs_of(dataset):
    """Number of pairs of each split: of the index, else of the raw folder, else as the data set's file says."""
    facts, found, made = DATASETS[dataset], {}, DATASETS[dataset].get("miniworld", {})
    known = facts.get("pairs", {"train": made.get("training", 0), "val": made.get("validation", 0)})
    share = facts.get("validation_share", 0)
    shares = {"train": 1 - share, "val": share or 1, "test": 1}
    for split, folder in facts["masks"].items():
        listed = preflight.count_rows(Path(f"results/{dataset}/index/{split}.tsv"))
        raw = Path(facts["root"]) / folder
        files = files_of(raw, facts["mask_suffix"], facts.get("ignored_suffixes", [])) if raw.is_dir() else ()
        found[split] = listed or round(sum(1 for _ in files) * shares[split]) or known.get(split, 0)
    return found


def jobs_of(dataset):
    """Number of jobs of each rule in `all`, without fetched weights, by the configuration alone."""
    sets, shards, kinds = sets_of(dataset), config["shards"], ("checkpoint", "log")
    chosen = [(one["generator"], one["plan"]) for one in map(config["synthetic_sets"].get, sets)]
    filtered = {(*one, set_scoring(name), set_filter(name)) for one, name in zip(chosen, sets)}
    of_run, of_sets = folds.folds_of_run(config), fold_numbers(dataset)
    parts, fitted = config.get("class_loss_shards", 1), len(fold_rows(dataset))
    generators = {generator for generator, _ in chosen}
    splits = DATASETS[dataset]["images"]
    seeds = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    imports = [sum(is_imported(row, seed, kind) for row, seed in seeds) for kind in kinds]
    numbers = {
        "preflight_submitting": 1,
        **{f"preflight_{kind}": 1 for kind in PREFLIGHTS},
        "make_miniworld": int("miniworld" in DATASETS[dataset]),
        "index_dataset": len(splits),
        "check_dataset": len(splits),
        "resize_masks": 1,
        "class_loss": parts * (1 in {of_run} | of_sets),
        "gather_class_loss": 1,
        "split_fold": fitted,
        "fold_loss": fitted * parts,
        "gather_fold_losses": len(of_sets - {of_run}),
        "mask_hardness": 1,
        "plan_synthesis": len(plans_of(dataset)),
        "train_generator": sum(config["generators"][name]["source"] == "train" for name in generators),
        "prepare_generator": len(generators),
        "synthesize": shards * len(set(chosen)),
        "measure_margins": shards * len({one[:3] for one in filtered if one[3] != "alpha-inf"}),
        "filter_masks": shards * len(filtered),
        "synthetic_set": len(sets),
        "training_config": fitted + len(seeds) - imports[1],
        "train": fitted + len(seeds) - sum(imports),
        "evaluate": len(seeds) - imports[1],
        "evaluate_best": number_of_trainings(validated(dataset)),
        "evaluate_test": number_of_trainings(tested(dataset)),
        "evaluate_best_test": number_of_trainings(validated(dataset, rows_of=tested)),
        "import_checkpoint": imports[0],
        "import_log": imports[1],
        "result_tables": 1,
        "training_cost": 1,
        "most_improved": 1,
        "list_warnings": 1,
        "write_report": int(dataset == next(iter(DATASETS))),  # one page of all data sets
        **{one.script.stem: 1 for one in FIGURES if f"results/{dataset}/figures/{one.name}.png" in figures_of(dataset)},
    }
    return {rule: number for rule, number in numbers.items() if number}


def number_of_trainings(rows):
    """Number of trainings of experiments."""
    return sum(len(row.train_seeds) for row in rows)


def fold_numbers(dataset):
    """Numbers of folds of the class losses that the filters of the data set's synthetic sets use."""
    return {folds.folds_of_set(config, name) for name in sets_of(dataset) if set_filter(name) != "alpha-inf"}


def fold_rows(dataset):
    """The trainings of folds that the run needs."""
    used = {f"{count}" for count in fold_numbers(dataset) | {folds.folds_of_run(config)}}
    rows = EXPERIMENTS[(EXPERIMENTS.dataset == dataset) & (EXPERIMENTS.fold != "")].itertuples()
    return [row for row in rows if row.fold.rpartition("-")[2] in used]


def cost_of_rule(name):
    """What `cost` is told of a rule; `rules` knows it by its own name, also if a module statement renamed it."""
    found, gpus = getattr(rules, name).rule, max(config["training_gpus"], 1) if name == "train" else 1
    return {
        "stage": Path(found.snakefile).stem,
        "files": len(found.output) + len(found.log) + bool(found.benchmark),
        "gpus": ("gpu" in found.resources) * gpus,
    }


def way_of(model):
    """How a model's training steps are computed: captured, or launched with merged groups."""
    captured = "captured_backbone" in experiments.acceleration(model, config["training_gpus"])
    return "captured" if captured else "merged"


def cost_of_dataset(dataset):
    """What `cost` is told of a data set."""
    chosen = [config["synthetic_sets"][name] for name in sets_of(dataset)]
    plans = [(one["generator"], one["plan"]) for one in chosen]
    return {
        "pairs": pairs_of(dataset),
        "mask_size": DATASETS[dataset]["mask_size"],
        "jobs": jobs_of(dataset),
        "fold_losses": len((fold_numbers(dataset) | {folds.folds_of_run(config)}) - {1}),
        "plans": [
            config["plans"][plan]
            | {"generator": generator, "images": preflight.count_rows(Path(f"results/{dataset}/plans/{plan}.tsv"))}
            for generator, plan in dict.fromkeys(plans)
        ],
        "trainings": [
            {
                "name": f"{row.experiment}/seed-{seed}",
                "model": row.model,
                "updates": MODELS[row.model]["iterations"][dataset] * int(row.schedule),
            }
            for row, seed in [*trained_rows(dataset), *((row, row.train_seeds[0]) for row in fold_rows(dataset))]
        ],
    }


def cost_of_run(wildcards):
    """What `cost` is told of the run, as JSON."""
    given, gpus = workflow.global_resources.get("gpu"), config["training_gpus"]
    datasets = {dataset: cost_of_dataset(dataset) for dataset in DATASETS}
    counted = {rule for facts in datasets.values() for rule in facts["jobs"]}
    used = {one["model"] for facts in datasets.values() for one in facts["trainings"]}
    run = {
        "gpus": (given and given.value) or (not gpus and workflow.resource_settings.cores) or config["shards"],
        "training_gpus": gpus,
        "shards": config["shards"],
        "views": len(EVALUATION["scales"]) * (1 + EVALUATION["flip"]),
        "seconds_per_image": config["seconds_per_image"],
        "rules": {rule: cost_of_rule(rule) for rule in sorted(counted)},
        "generators": {
            name: {key: one[key] for key in ("image_size", "steps", "compile") if key in one}
            for name, one in config["generators"].items()
        },
        "models": {
            name: {"gpus": model["gpus"], "way": way_of(model), "validated": experiments.validates(model)}
            for name, model in MODELS.items()
            if name in used
        },
        "datasets": datasets,
    }
    return json.dumps(run)


def card_of_run(wildcards, resources):
    """Type of the run's GPUs as an option: the profile's default resource gpu_model, if there is one."""
    return option("--card", resources.get("gpu_model"))


def measured_cards(wildcards):
    """Files that benchmarks/gpu.sh wrote: the user's first."""
    return [
        path
        for path in ("build/gpu/gpu.json", *map(str, sorted(place("resources/costs").glob("*.json"))))
        if Path(path).exists()
    ]
