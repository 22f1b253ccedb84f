"""freemask: from a data set's own masks to a stronger segmentor (FreeMask, NeurIPS 2023).

Table of contents. Usage: `make demo`, or on a cluster `snakemake --profile slurm all`. See README.md.
"""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

CHECKOUT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
if not CHECKOUT.is_dir():
    raise WorkflowError(f"{CHECKOUT} isn't a local folder: clone the repository, and give the path of its Snakefile")
sys.path.insert(0, str(CHECKOUT))  # the library, also where it isn't installed

# A configuration given on the command line or by a `module` statement replaces the paper's.
if "datasets" not in config:
    from freemask.workflow.places import place

    configfile: str(place("config/config.yaml"))


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/preflight.smk"
include: "rules/data.smk"
include: "rules/selection.smk"
include: "rules/generation.smk"
include: "rules/filtering.smk"
include: "rules/segmentation.smk"
include: "rules/reporting.smk"
include: "rules/evidence.smk"


onstart:
    refuse_missing_raw_data()
    tell_unshared_folder()
    site.export(workflow, seconds_of_a_batch())
    write_plan()


onsuccess:
    tell_headline()


rule all:
    """Every table and figure of every data set in the configuration, without ablations, and the page of all of them."""
    default_target: True
    input:
        [report_files(dataset) for dataset in DATASETS],
        f"results/{PAGE}/report.html",


rule synthesis_all:
    """Every synthetic set but those of ablations, up to the filtered masks; only the scorers are trained."""
    input:
        [f"results/{dataset}/synthetic/{name}/train.tsv" for dataset in DATASETS for name in sets_of(dataset)],


for dataset in DATASETS:

    rule:
        name:
            f"table_{dataset}"
        input:
            f"results/{dataset}/tables/miou.md",

    rule:
        name:
            f"export_{dataset}"
        input:
            [f"results/{dataset}/export/{name}/metadata.jsonl" for name in sets_of(dataset)],

    if experiments_of(dataset, "ablation"):

        rule:
            name:
                f"ablations_{dataset}"
            input:
                f"results/{dataset}/tables/ablations.md",

    for experiment in EXPERIMENTS[(EXPERIMENTS.dataset == dataset) & (EXPERIMENTS.fold == "")].itertuples():

        rule:
            name:
                f"{dataset}_{experiment.experiment}"
            input:
                metrics_of(experiment),
