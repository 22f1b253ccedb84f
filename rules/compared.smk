# What evaluation and comparison take as input, and what `all` asks for.
# Needs: what rules/inputs.smk reads. Makes: no files.

EVALUATION = {"scales": [1.0], "flip": False, "pictures": 4} | config.get("evaluation", {})
PICTURES = range(1, EVALUATION["pictures"] + 1)


def validated(dataset, study="main"):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in experiments_of(dataset, study) if checks.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def best_metrics(wildcards, study="main"):
    """metrics.json of the best checkpoints of the data set's trainings, where they have one."""
    return [
        path.replace("metrics.json", "best/metrics.json")
        for row in validated(wildcards.dataset, study)
        for path in metrics_of(row)
    ]


def compared_folder(role):
    """The training that a role (baseline, improved) shows pictures of: the first train seed that both have."""
    return lambda wildcards: experiment_folder(compared_row(wildcards, role), shared_seeds(wildcards)[0])


def compared_pictures(role):
    """Predictions of the experiment that plays a role in the comparison."""
    return lambda wildcards: [f"{compared_folder(role)(wildcards)}/predictions/{number}.png" for number in PICTURES]


def report_files(dataset):
    """What `all` asks of a data set."""
    figures = ["most_improved", "class_loss", "hardness", "filtered_share", "training", *predicted(dataset)]
    return [
        f"results/{dataset}/tables/miou.md",
        *(f"results/{dataset}/tables/{table}.tsv" for table in ("most_improved", "cost")),
        f"results/{dataset}/figures/contact_sheet.png",
        *(f"results/{dataset}/figures/{figure}.png" for figure in figures),
    ]
