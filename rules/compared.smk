# What evaluation and comparison take as input.
# Needs: what rules/inputs.smk reads. Makes: no files.

EVALUATION = {"scales": [1.0], "flip": False, "pictures": 4} | config.get("evaluation", {})
PICTURES = range(1, EVALUATION["pictures"] + 1)


def validated(dataset):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    trained = [row for row in experiments_of(dataset) if not any(is_imported(row, seed) for seed in row.train_seeds)]
    return [row for row in trained if checks.validates(MODELS[row.model])]


def best_metrics(wildcards):
    """metrics.json of the best checkpoints of the data set's trainings, where they have one."""
    return [
        path.replace("metrics.json", "best/metrics.json")
        for row in validated(wildcards.dataset)
        for path in metrics_of(row)
    ]


def compared_folder(role):
    """The training that a role (baseline, improved) shows pictures of: the first train seed that both have."""
    return lambda wildcards: experiment_folder(compared_row(wildcards, role), shared_seeds(wildcards)[0])


def compared_pictures(role):
    """Predictions of the experiment that plays a role in the comparison."""
    return lambda wildcards: [f"{compared_folder(role)(wildcards)}/predictions/{number}.png" for number in PICTURES]
