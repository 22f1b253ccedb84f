# What tables and figures take. Functions are named after what they return.


def validated(dataset, study="main", rows_of=experiments_of):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in rows_of(dataset, study) if experiments.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def tested(dataset, study="main"):
    """The data set's experiments that are evaluated on its test split; an imported log's can't be."""
    rows = experiments_of(dataset, study) if has_test(dataset) else []
    return [row for row in rows if not any(is_imported(row, seed, "log") for seed in row.train_seeds)]


def of_trainings(name, study="main", rows_of=experiments_of):
    """A file of each training of a study, e.g. metrics.json; of its validated experiments with rows_of=validated."""
    return lambda wildcards: [
        f"{experiment_folder(row, seed)}/{name}"
        for row in rows_of(wildcards.dataset, study)
        for seed in row.train_seeds
    ]


def trained_rows(dataset):
    """Experiment and train seed of every training of the data set that is run here."""
    pairs = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    return [(row, seed) for row, seed in pairs if not is_imported(row, seed)]


def names_of(rows_of, study):
    """Names of the experiments that a function of data set and study gives."""
    return lambda wildcards: [row.experiment for row in rows_of(wildcards.dataset, study)]


def tested_option(study):
    """The experiments with a test split as an option; with `input`, so that Snakemake doesn't record it as a parameter."""
    return lambda wildcards, input: options("--test", names_of(tested, study)(wildcards))


def trained_weights(wildcards):
    """weights.pth of every training of the data set that is run here."""
    return [f"{experiment_folder(row, seed)}/weights.pth" for row, seed in trained_rows(wildcards.dataset)]


def compared_row(dataset, role):
    """The experiments row of a side of the data set's comparison: baseline, control or improved."""
    return ROWS[dataset, config["report"][dataset][role]]


def has_control(dataset):
    """Whether the comparison has a control: real images at twice the schedule."""
    return "control" in config["report"][dataset]


def shared_seeds(dataset, role="baseline"):
    """Train seeds that the improved segmentor shares with the other side of the comparison (baseline or control)."""
    other, improved = (compared_row(dataset, one).train_seeds for one in (role, "improved"))
    return sorted(set(other) & set(improved))


def compared(role, *names, seeds=None, against="baseline"):
    """Files of a side of the comparison with `against`, for each shared train seed (or the first `seeds` of them)."""
    return lambda wildcards: [
        f"{experiment_folder(compared_row(wildcards.dataset, role), seed)}/{name}"
        for seed in shared_seeds(wildcards.dataset, against)[:seeds]
        for name in names
    ]


def control_files(name):
    """A file of the control, for each train seed that it shares with the improved segmentor; nothing without one."""
    found = compared("control", name, against="control")
    return lambda wildcards: found(wildcards) if has_control(wildcards.dataset) else []


def control_seeds(wildcards):
    """Train seeds of control_files, as an option."""
    chosen = shared_seeds(wildcards.dataset, "control") if has_control(wildcards.dataset) else []
    return options("--control-seeds", chosen)


def comparison_of(dataset):
    """The data set's title and what its classes are compared between, for the paper's tables."""
    chosen = config["report"][dataset]
    roles = {role: chosen[role] for role in ("baseline", "control", "improved") if role in chosen}
    return {"title": DATASETS[dataset]["title"], "top": chosen.get("top_classes", 10), **roles}


def varied_settings(synthetic_set):
    """What ablations vary of a synthetic set: strategy and n_max of its plan, its filter with its folds."""
    plan = config["plans"][config["synthetic_sets"][synthetic_set]["plan"]]
    chosen = set_filter(synthetic_set).replace("alpha-inf", "none").replace("alpha-", "alpha ")
    chosen += "".join(f", {count} folds" for count in set_folds(synthetic_set).values())
    return {"strategy": plan["strategy"], "n_max": plan["n_max"], "filter": chosen}


def confusion_of_improved(wildcards):
    """Confusion matrices of the improved segmentor; an imported log has none."""
    row = compared_row(wildcards.dataset, "improved")
    seeds = [seed for seed in row.train_seeds if not is_imported(row, seed, "log")]
    return [f"{experiment_folder(row, seed)}/confusion.tsv" for seed in seeds]


def shown_set(name):
    """A file of the synthetic set whose pictures the report shows."""
    return lambda wildcards: (
        f"results/{wildcards.dataset}/synthetic/{config['report'][wildcards.dataset]['contact_sheet']}/{name}"
    )


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})


def of_each(names, pattern):
    """A path for each of the data set's plans (names=plans_of) or synthetic sets (names=sets_of)."""
    return lambda wildcards: [pattern.format(dataset=wildcards.dataset, name=name) for name in names(wildcards.dataset)]


def has_predictions(dataset):
    """Whether the compared experiments have predictions: an imported log holds none."""
    rows = [compared_row(dataset, role) for role in ("baseline", "improved")]
    return not any(is_imported(row, seed, "log") for row in rows for seed in row.train_seeds)


def report_files(dataset):
    """The tables and figures of a data set in `all`."""
    tables = ("miou.md", "most_improved.tsv", "cost.tsv", "warnings.tsv")
    return [*(f"results/{dataset}/tables/{table}" for table in tables), *figures_of(dataset)]


def figures_of(dataset):
    """The data set's figures, without those of predictions if there are none."""
    made = [one for one in FIGURES if has_predictions(dataset) or not OF_PREDICTIONS & set(one.parameters)]
    return [f"results/{dataset}/figures/{one.name}.png" for one in made]


def figure_outputs(figure):
    """The figure's outputs by suffix; the PNG goes into the report."""
    paths = {suffix: f"results/{{dataset}}/figures/{figure.name}.{suffix}" for suffix in figure.suffixes}
    return paths | {"png": report(paths["png"], category="Figures", caption="../report/figure.rst")}


def figure_values(figure, wildcards):
    """Options with values from the configuration: another value draws the figure again."""
    return figures.options({name: value(wildcards.dataset) for name, value in figure.choose(VALUES).items()})


def figure_command(figure, wildcards, input, output):
    """The figure's command. Depends on input and output, so Snakemake doesn't record it as a parameter."""
    files = {name: input[name] for name in figure.choose(FILES) if name not in VALUES}
    return f"{shlex.quote(str(figure.script))} {figures.options(files | {figure.output: output})}"


def figure_caption(figure, wildcards, input):
    """Takes `input` so that Snakemake doesn't record it: a changed caption doesn't redraw the figure."""
    return figure.caption
