# Needs: metrics and IoU per class of the experiments, synthetic sets, hardness. Makes: tables/, figures/.

FIGURES = ["png", "pdf"]


def experiments_of(dataset):
    """The experiments of a data set, as rows."""
    return list(EXPERIMENTS[EXPERIMENTS.dataset == dataset].itertuples())


def all_metrics(wildcards):
    """metrics.json of every training of the data set."""
    return [path for row in experiments_of(wildcards.dataset) for path in metrics_of(row)]


def all_ious(wildcards):
    """per_class_iou.tsv of every training of the data set."""
    return [path.replace("metrics.json", "per_class_iou.tsv") for path in all_metrics(wildcards)]


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
    """Synthetic sets that the data set's experiments train on, in the configuration's order."""
    used = {row.synthetic_set for row in experiments_of(dataset)}
    return [name for name in config["synthetic_sets"] if name in used]


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})


def report_files(dataset):
    """What `all` asks of a data set."""
    figures = ["most_improved", "class_loss", "hardness", "filtered_share", "training"]
    return [
        f"results/{dataset}/tables/miou.md",
        f"results/{dataset}/tables/most_improved.tsv",
        f"results/{dataset}/figures/contact_sheet.png",
        *(f"results/{dataset}/figures/{figure}.png" for figure in figures),
    ]


rule result_tables:
    """mIoU [%] of every experiment (mean and deviation over train seeds) with gains, and IoU per class [%]."""
    input:
        metrics=all_metrics,
        per_class=all_ious,
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        classes=fact("classes"),
        reported="config/reported.yaml",
        script="scripts/result_tables.py",
        code=["freemask/results.py", "freemask/layout.py", "freemask/tables.py"],
    output:
        markdown=report("results/{dataset}/tables/miou.md", category="Tables", caption="../report/miou.rst"),
        csv=report("results/{dataset}/tables/miou.csv", category="Tables", caption="../report/miou.rst"),
        latex="results/{dataset}/tables/miou.tex",
        per_class=report(
            "results/{dataset}/tables/per_class_iou.tsv", category="Tables", caption="../report/per_class_iou.rst"
        ),
    log:
        "logs/{dataset}/result_tables.log",
    benchmark:
        "logs/{dataset}/result_tables.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        training="results/{dataset}/training",
        ignored_label=fact("ignored_label"),
    shell:
        "python {input.script:q} --experiments {input.experiments:q} --dataset {wildcards.dataset}"
        " --training {params.training:q} --masks {input.masks:q} --classes {input.classes:q}"
        " --ignored-label {params.ignored_label} --reported {input.reported:q} --markdown {output.markdown:q}"
        " --csv {output.csv:q} --latex {output.latex:q} --per-class {output.per_class:q} --log {log:q}"


rule most_improved:
    """Gain in IoU [points] of every class from the baseline to the improved segmentor, largest first."""
    input:
        real=compared("baseline"),
        joint=compared("improved"),
        reported="config/reported.yaml",
        script="scripts/most_improved.py",
        code=["freemask/results.py", "freemask/tables.py"],
    output:
        table=report(
            "results/{dataset}/tables/most_improved.tsv",
            category="Tables",
            caption="../report/most_improved_table.rst",
        ),
    log:
        "logs/{dataset}/most_improved.log",
    benchmark:
        "logs/{dataset}/most_improved.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        train_seeds=lambda wildcards: " ".join(map(str, shared_seeds(wildcards))),
    shell:
        "python {input.script:q} --real {input.real:q} --joint {input.joint:q} --train-seeds {params.train_seeds}"
        " --reported {input.reported:q} --dataset {wildcards.dataset} --most-improved {output.table:q} --log {log:q}"


rule plot_most_improved:
    """Bar plot of the classes that gain most IoU."""
    input:
        table="results/{dataset}/tables/most_improved.tsv",
        script="scripts/plot_most_improved.py",
    output:
        figures=report(
            multiext("results/{dataset}/figures/most_improved", *[f".{suffix}" for suffix in FIGURES]),
            category="Figures",
            caption="../report/most_improved.rst",
        ),
    log:
        "logs/{dataset}/plot_most_improved.log",
    benchmark:
        "logs/{dataset}/plot_most_improved.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        top=lambda wildcards: config["report"][wildcards.dataset].get("top_classes", 10),
        title=lambda wildcards: f"Most improved classes, {DATASETS[wildcards.dataset]['title']}",
    shell:
        "python {input.script:q} --most-improved {input.table:q} --top {params.top} --title {params.title:q}"
        " --figures {output.figures:q} --log {log:q}"


rule plot_class_loss:
    """Class-wise mean loss [nats] of the scorer on real images."""
    input:
        class_loss="results/{dataset}/class_loss.tsv",
        script="scripts/plot_class_loss.py",
    output:
        figures=report(
            multiext("results/{dataset}/figures/class_loss", *[f".{suffix}" for suffix in FIGURES]),
            category="Figures",
            caption="../report/class_loss.rst",
        ),
    log:
        "logs/{dataset}/plot_class_loss.log",
    benchmark:
        "logs/{dataset}/plot_class_loss.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    shell:
        "python {input.script:q} --class-loss {input.class_loss:q} --figures {output.figures:q} --log {log:q}"


rule plot_hardness:
    """Histogram of mask hardness, and the images that plans give the masks."""
    input:
        hardness="results/{dataset}/hardness.tsv",
        plans=lambda wildcards: [
            f"results/{wildcards.dataset}/plans/{plan}.tsv" for plan in plans_of(wildcards.dataset)
        ],
        script="scripts/plot_hardness.py",
    output:
        figures=report(
            multiext("results/{dataset}/figures/hardness", *[f".{suffix}" for suffix in FIGURES]),
            category="Figures",
            caption="../report/hardness.rst",
        ),
    log:
        "logs/{dataset}/plot_hardness.log",
    benchmark:
        "logs/{dataset}/plot_hardness.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        names=lambda wildcards: plans_of(wildcards.dataset),
    shell:
        "python {input.script:q} --hardness {input.hardness:q} --plans {input.plans:q} --names {params.names:q}"
        " --figures {output.figures:q} --log {log:q}"


rule plot_filtered_share:
    """Share of each class's synthetic pixels that each tolerance margin filters."""
    input:
        class_shares=lambda wildcards: [
            f"results/{wildcards.dataset}/synthetic/{name}/classes.tsv" for name in sets_of(wildcards.dataset)
        ],
        script="scripts/plot_filtered_share.py",
    output:
        figures=report(
            multiext("results/{dataset}/figures/filtered_share", *[f".{suffix}" for suffix in FIGURES]),
            category="Figures",
            caption="../report/filtered_share.rst",
        ),
    log:
        "logs/{dataset}/plot_filtered_share.log",
    benchmark:
        "logs/{dataset}/plot_filtered_share.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        names=lambda wildcards: [f"{name} (alpha {set_alpha(name)})" for name in sets_of(wildcards.dataset)],
    shell:
        "python {input.script:q} --class-shares {input.class_shares:q} --names {params.names:q}"
        " --figures {output.figures:q} --log {log:q}"


rule plot_training:
    """Loss and learning rate of every training."""
    input:
        weights=lambda wildcards: [path.replace("metrics.json", "weights.pth") for path in all_metrics(wildcards)],
        script="scripts/plot_training.py",
    output:
        figures=report(
            multiext("results/{dataset}/figures/training", *[f".{suffix}" for suffix in FIGURES]),
            category="Figures",
            caption="../report/training.rst",
        ),
    log:
        "logs/{dataset}/plot_training.log",
    benchmark:
        "logs/{dataset}/plot_training.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        work=lambda wildcards, input: [str(Path(path).parent / "work") for path in input.weights],
        names=lambda wildcards, input: [" ".join(Path(path).parts[-3:-1]) for path in input.weights],
    shell:
        "python {input.script:q} --work {params.work:q} --names {params.names:q} --figures {output.figures:q}"
        " --log {log:q}"


rule contact_sheet:
    """Rows of mask, filtered mask (filtered white, ignored black), real image and synthetic images."""
    input:
        train=lambda wildcards: "results/{dataset}/synthetic/{set}/train.tsv".format(
            dataset=wildcards.dataset, set=config["report"][wildcards.dataset]["contact_sheet"]
        ),
        masks="results/{dataset}/masks.tsv",
        index="results/{dataset}/index/train.tsv",
        classes=fact("classes"),
        script="scripts/contact_sheet.py",
    output:
        figure=report(
            "results/{dataset}/figures/contact_sheet.png", category="Figures", caption="../report/contact_sheet.rst"
        ),
    log:
        "logs/{dataset}/contact_sheet.log",
    benchmark:
        "logs/{dataset}/contact_sheet.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        ignored_label=fact("ignored_label"),
        title=lambda wildcards: f"{DATASETS[wildcards.dataset]['title']}: masks and the images synthesized from them",
    shell:
        "python {input.script:q} --train {input.train:q} --masks {input.masks:q} --index {input.index:q}"
        " --classes {input.classes:q} --ignored-label {params.ignored_label} --title {params.title:q}"
        " --figure {output.figure:q} --log {log:q}"
