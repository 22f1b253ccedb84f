# What the rules of evidence take, of the configuration's key `evidence`. Functions are named after what they return.

EVIDENCE = config.get("evidence", {})
ANOTHER_WORLD = [str(place(EVIDENCE["another_world"]))] if EVIDENCE.get("another_world") else []


def asked_evidence(wildcards):
    """The page of each data set of a configuration with questions."""
    if not EVIDENCE:
        raise WorkflowError("no questions in the configuration (key evidence); use --configfile config/evidence.yaml")
    return [f"results/{dataset}/evidence/evidence.md" for dataset in DATASETS]


def filtered_sets(dataset):
    """Synthetic sets of the arms that have a filter."""
    return [name for name in sets_of(dataset) if set_filter(name) != "alpha-inf"]


def shown_sets(dataset):
    """Those of which the page shows what the filter takes."""
    return [name for name in EVIDENCE["sheets"] if name in filtered_sets(dataset)]


def unfiltered_sets(dataset):
    """A set without a filter of each generator, by generator."""
    used = {name: config["synthetic_sets"][name]["generator"] for name in sets_of(dataset)}
    return {generator: name for name, generator in used.items() if set_filter(name) == "alpha-inf"}


def faulty(wildcards):
    """An option, if it is known where the images of a set fail."""
    chosen = config["generators"][config["synthetic_sets"][wildcards.synthetic_set]["generator"]]
    return "--faulty" if chosen.get("method", "").startswith("freemask.generation.faulty:") else ""


def judge_file(name):
    """A file of the segmentor that rates generators."""

    def path(wildcards):
        row = ROWS[wildcards.dataset, EVIDENCE["judge"]]
        return f"{experiment_folder(row, row.train_seeds[0])}/{name}"

    return path


def evidence_facts(wildcards):
    """What the page of evidence says besides what was measured."""
    own = {"title": DATASETS[wildcards.dataset]["title"], "images": pairs_of(wildcards.dataset)}
    files = " ".join(os.path.relpath(path, ROOT) for path in workflow.configfiles)
    given = [f"{key}={value}" for key, value in workflow.config_settings.config.items()]
    options = f" --config {shlex.join(given)}" if given else ""
    command = f"snakemake --configfile {files}{options} --cores 2 evidence"
    return json.dumps(EVIDENCE | own | {"source": files, "command": command})
