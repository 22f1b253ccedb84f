# What the page takes. Functions are named after what they return.


def made_ablations(dataset):
    """The data set's ablations that are evaluated: the page shows them, but doesn't ask for others."""
    rows = [row for row in experiments_of(dataset, "ablation") if row.study == "ablation"]
    return [row for row in rows if all(Path(metrics).exists() for metrics in metrics_of(row))]


def page_role(dataset):
    """What the page compares the improved segmentor with."""
    return "control" if has_control(dataset) else "baseline"


def page_pictures(dataset):
    """Predictions that the page shows: of the improved segmentor and what it is compared with; [] if one has none."""
    rows = [compared_row(dataset, role) for role in (page_role(dataset), "improved")]
    seed = shared_seeds(dataset, page_role(dataset))[0]
    if any(is_imported(row, seed, "log") for row in rows):
        return []
    return [f"{experiment_folder(row, seed)}/{name}" for row in rows for name in PREDICTIONS]


def of_datasets(*patterns):
    """Files of each data set: patterns with {dataset}, or functions of the wildcards."""

    def files(wildcards):
        found = []
        for dataset in DATASETS:
            own = SimpleNamespace(dataset=dataset)
            for one in patterns:
                paths = one(own) if callable(one) else one.format(dataset=dataset)
                found += [paths] if isinstance(paths, str) else paths
        return found

    return files


def page_trainings(wildcards):
    """What the page reads of each training: its config, where it has one, and its evaluation."""
    rows = [*experiments_of(wildcards.dataset), *made_ablations(wildcards.dataset)]
    return [
        f"{experiment_folder(row, seed)}/{name}"
        for row in rows
        for seed in row.train_seeds
        for name in ("metrics.json", "per_class_iou.tsv", *["config.py"] * (not is_imported(row, seed, "log")))
    ]


def page_facts():
    """What the page has to know of each data set besides its files (see freemask.reporting.recorded.Dataset)."""
    found = {}
    for dataset in DATASETS:
        ablations, contact_sheet = made_ablations(dataset), config["report"][dataset]["contact_sheet"]
        used = [row.synthetic_set for row in [*experiments_of(dataset), *ablations] if row.synthetic_set]
        found[dataset] = {
            "control": None,
            **comparison_of(dataset),
            "contact_sheet": contact_sheet,
            "train_seed": shared_seeds(dataset, page_role(dataset))[0],
            "pictures": len(page_pictures(dataset)) // 2,
            "ablations": [row.experiment for row in ablations],
            "sets": {name: facts_of_set(name) for name in dict.fromkeys([*used, contact_sheet])},
        }
    return found


def facts_of_set(name):
    """What the page says of a synthetic set."""
    chosen = config["synthetic_sets"][name]
    plan = config["plans"][chosen["plan"]]
    return {
        "generator": chosen["generator"],
        "plan": chosen["plan"],
        "strategy": plan["strategy"],
        "n_max": plan["n_max"],
        "filter": chosen.get("filter", "margin"),
        "alpha": set_alpha(name),
        **set_folds(name),
    }


def tell_headline():
    """Print the headline table and the path of the page at the end of a run that made the page."""
    for job in workflow.dag.jobs:
        if job.rule.name == "write_report":
            table = terminal.results(job.log[0])[1:]
            sys.stderr.write("\n".join([*table, "", f"report: {Path(job.output.report).resolve()}"]) + "\n")
