# Which rows a checkpoint or a log of a finished run fills, and what that means for other rules' inputs.
# Needs: what rules/inputs.smk reads. Makes: no files.

from freemask import imports

IMPORTED = imports.sources(config)


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
    """What stands in for a training, None where it is run here."""
    return IMPORTED.get((wildcards.dataset, wildcards.experiment, int(wildcards.train_seed)))


def imported_file(wildcards):
    """The checkpoint or log; one that was fetched again must not start what follows from it."""
    source = imported(wildcards)
    return ancient(source["file"]) if "url" in source else source["file"]


def pairs_to_train_on(wildcards):
    """The synthetic set of a row that is trained here: an imported one doesn't need it made."""
    return [] if imported(wildcards) else synthetic_pairs(wildcards)


def is_imported(row, train_seed, *kinds):
    """Whether one of these kinds (none given: any) stands in for a train seed of an experiment."""
    source = IMPORTED.get((row.dataset, row.experiment, train_seed))
    return source is not None and source["kind"] in (kinds or ("checkpoint", "log"))


def trained_rows(dataset):
    """Experiment and train seed of every training of the data set that is run here."""
    pairs = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    return [(row, seed) for row, seed in pairs if not is_imported(row, seed)]


def trained_weights(wildcards):
    """weights.pth of every training of the data set that is run here."""
    return [f"{experiment_folder(row, seed)}/weights.pth" for row, seed in trained_rows(wildcards.dataset)]


def predicted(dataset):
    """Figures of what the compared experiments predict: none where a log, which holds no predictions, stands in."""
    comparison = config["report"][dataset]
    names = [comparison[role] for role in ("baseline", "improved")]
    compared_rows = [row for row in experiments_of(dataset) if row.experiment in names]
    told = any(is_imported(row, seed, "log") for row in compared_rows for seed in row.train_seeds)
    return [] if told else ["confusion", "predictions"]
