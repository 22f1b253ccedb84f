"""freemask: from a data set's own masks to a stronger segmentor (FreeMask, NeurIPS 2023).

Table of contents. Usage: `make demo`, or on a cluster `snakemake --profile slurm all`. See README.md.
"""

from snakemake.utils import min_version

min_version("9.27")

# A configuration named on the command line replaces the paper's; it isn't merged into it.
if not workflow.configfiles:

    configfile: "config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/selection.smk"
include: "rules/generation.smk"
include: "rules/filtering.smk"
include: "rules/segmentation.smk"
include: "rules/reporting.smk"


onstart:
    refuse_missing_raw_data()


# ---- What people ask for --------------------------------------------------------------------------------------


rule all:
    """Every table and figure of every data set in the configuration, without ablations."""
    default_target: True
    input:
        [report_files(dataset) for dataset in DATASETS],


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

    if experiments_of(dataset, "ablation"):

        rule:
            name:
                f"ablations_{dataset}"
            input:
                f"results/{dataset}/tables/ablations.md",

    for experiment in EXPERIMENTS[EXPERIMENTS.dataset == dataset].itertuples():

        rule:
            name:
                f"{dataset}_{experiment.experiment}"
            input:
                metrics_of(experiment),
