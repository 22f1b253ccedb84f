# Needs: metrics, IoU per class, plans, sets, training logs. Makes: tables/, figures/.


def all_metrics(wildcards, study="main"):
    """metrics.json of every training of the data set, ablations apart."""
    return [path for row in experiments_of(wildcards.dataset, study) for path in metrics_of(row)]


def all_ious(wildcards, study="main"):
    """per_class_iou.tsv of every training of the data set, ablations apart."""
    return [path.replace("metrics.json", "per_class_iou.tsv") for path in all_metrics(wildcards, study)]


def validated(dataset, study="main"):
    """The data set's experiments trained here whose models validate during training: they have a best checkpoint."""
    rows = [row for row in experiments_of(dataset, study) if experiments.validates(MODELS[row.model])]
    return [row for row in rows if not any(is_imported(row, seed) for seed in row.train_seeds)]


def best_metrics(wildcards, study="main"):
    """metrics.json of the best checkpoints of the data set's trainings, where they have one."""
    return [
        path.replace("metrics.json", "best/metrics.json")
        for row in validated(wildcards.dataset, study)
        for path in metrics_of(row)
    ]


def trained_rows(dataset):
    """Experiment and train seed of every training of the data set that is run here."""
    pairs = [(row, seed) for row in experiments_of(dataset) for seed in row.train_seeds]
    return [(row, seed) for row, seed in pairs if not is_imported(row, seed)]


def trained_weights(wildcards):
    """weights.pth of every training of the data set that is run here."""
    return [f"{experiment_folder(row, seed)}/weights.pth" for row, seed in trained_rows(wildcards.dataset)]


def compared_row(wildcards, role):
    """The experiments row that plays a role in the data set's comparison."""
    rows = EXPERIMENTS[EXPERIMENTS.dataset == wildcards.dataset].set_index("experiment", drop=False)
    return rows.loc[config["report"][wildcards.dataset][role]]


def shared_seeds(wildcards):
    """Train seeds that both sides of the comparison have."""
    baseline, improved = (compared_row(wildcards, role).train_seeds for role in ("baseline", "improved"))
    return sorted(set(baseline) & set(improved))


def compared(role):
    """IoU per class of the experiment that plays a role (baseline, improved) in the comparison, shared train seeds."""

    def paths(wildcards):
        row = compared_row(wildcards, role)
        return [f"{experiment_folder(row, seed)}/per_class_iou.tsv" for seed in shared_seeds(wildcards)]

    return paths


def compared_folder(role):
    """The training that a role (baseline, improved) shows pictures of: the first train seed that both have."""
    return lambda wildcards: experiment_folder(compared_row(wildcards, role), shared_seeds(wildcards)[0])


def compared_pictures(role):
    """Predictions of the experiment that plays a role in the comparison."""
    return lambda wildcards: [f"{compared_folder(role)(wildcards)}/predictions/{number}.png" for number in PICTURES]


def plans_of(dataset):
    """Plans of the data set's synthetic sets."""
    return sorted({config["synthetic_sets"][name]["plan"] for name in sets_of(dataset)})


def predicted(dataset):
    """Figures of what the compared experiments predict: none where a log, which holds no predictions, stands in."""
    comparison = config["report"][dataset]
    names = [comparison[role] for role in ("baseline", "improved")]
    compared_rows = [row for row in experiments_of(dataset) if row.experiment in names]
    told = any(is_imported(row, seed, "log") for row in compared_rows for seed in row.train_seeds)
    return [] if told else ["confusion", "predictions"]


def report_files(dataset):
    """What `all` asks of a data set."""
    figures = ["most_improved", "class_loss", "hardness", "filtered_share", "training", *predicted(dataset)]
    return [
        f"results/{dataset}/tables/miou.md",
        *(f"results/{dataset}/tables/{table}.tsv" for table in ("most_improved", "cost")),
        f"results/{dataset}/figures/contact_sheet.png",
        *(f"results/{dataset}/figures/{figure}.png" for figure in figures),
    ]


rule result_tables:
    """mIoU [%] of every experiment (mean and deviation over train seeds) with gains, and IoU per class [%]."""
    input:
        metrics=all_metrics,
        per_class=all_ious,
        best=best_metrics,
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        label_space="results/{dataset}/label_space.json",
        reported=REPORTED,
    output:
        html=report("results/{dataset}/tables/miou.html", category="Tables", caption="../report/miou.rst"),
        markdown="results/{dataset}/tables/miou.md",
        csv="results/{dataset}/tables/miou.csv",
        latex="results/{dataset}/tables/miou.tex",
        per_class=report(
            "results/{dataset}/tables/per_class_iou.tsv", category="Tables", caption="../report/per_class_iou.rst"
        ),
    log:
        "logs/{dataset}/result_tables.log",
    benchmark:
        "logs/{dataset}/result_tables.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("result_tables"),
        study="main",
        training="results/{dataset}/training",
        reported_set=lambda wildcards: option("--reported-set", compared_row(wildcards, "improved").synthetic_set),
        best=lambda wildcards: [row.experiment for row in validated(wildcards.dataset)],
    shell:
        "python {SCRIPTS}/result_tables.py --experiments {input.experiments:q} --dataset {wildcards.dataset} --study {params.study}"
        " --training {params.training:q} --masks {input.masks:q} --label-space {input.label_space:q}"
        " --reported {input.reported:q} {params.reported_set}"
        " --html {output.html:q} --markdown {output.markdown:q} --csv {output.csv:q} --latex {output.latex:q}"
        " --per-class {output.per_class:q} --best {params.best:q} --log {log:q}"


rule training_cost:
    """Wall hours and GPU hours of every experiment's trainings, over all segments of interrupted ones."""
    input:
        weights=trained_weights,
        experiments=config["experiments"],
    output:
        cost="results/{dataset}/tables/cost.tsv",
        html=report("results/{dataset}/tables/cost.html", category="Tables", caption="../report/cost.rst"),
    log:
        "logs/{dataset}/training_cost.log",
    benchmark:
        "logs/{dataset}/training_cost.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("training_cost"),
        training="results/{dataset}/training",
    shell:
        "python {SCRIPTS}/training_cost.py --experiments {input.experiments:q} --dataset {wildcards.dataset}"
        " --training {params.training:q} --cost {output.cost:q} --html {output.html:q} --log {log:q}"


use rule result_tables as ablation_tables with:
    input:
        metrics=partial(all_metrics, study="ablation"),
        per_class=partial(all_ious, study="ablation"),
        best=partial(best_metrics, study="ablation"),
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        label_space="results/{dataset}/label_space.json",
        reported=REPORTED,
    output:
        html=report("results/{dataset}/tables/ablations.html", category="Tables", caption="../report/miou.rst"),
        markdown="results/{dataset}/tables/ablations.md",
        csv="results/{dataset}/tables/ablations.csv",
        latex="results/{dataset}/tables/ablations.tex",
        per_class="results/{dataset}/tables/ablations_per_class_iou.tsv",
    log:
        "logs/{dataset}/ablation_tables.log",
    benchmark:
        "logs/{dataset}/ablation_tables.benchmark.tsv"
    params:
        code=code_of("result_tables"),
        study="ablation",
        training="results/{dataset}/training",
        reported_set=lambda wildcards: option("--reported-set", compared_row(wildcards, "improved").synthetic_set),
        best=lambda wildcards: [row.experiment for row in validated(wildcards.dataset, "ablation")],


rule most_improved:
    """Gain in IoU [points] of every class from the baseline to the improved segmentor, largest first."""
    input:
        real=compared("baseline"),
        joint=compared("improved"),
        reported=REPORTED,
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
        "../envs/cpu.yaml"
    params:
        code=code_of("most_improved"),
        train_seeds=lambda wildcards: " ".join(map(str, shared_seeds(wildcards))),
    shell:
        "python {SCRIPTS}/most_improved.py --real {input.real:q} --joint {input.joint:q} --train-seeds {params.train_seeds}"
        " --reported {input.reported:q} --dataset {wildcards.dataset} --most-improved {output.table:q} --log {log:q}"


rule plot_most_improved:
    """Bar plot of the classes that gain most IoU."""
    input:
        table="results/{dataset}/tables/most_improved.tsv",
    output:
        png=report(
            "results/{dataset}/figures/most_improved.png", category="Figures", caption="../report/most_improved.rst"
        ),
        pdf="results/{dataset}/figures/most_improved.pdf",
    log:
        "logs/{dataset}/plot_most_improved.log",
    benchmark:
        "logs/{dataset}/plot_most_improved.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_most_improved"),
        top=lambda wildcards: config["report"][wildcards.dataset].get("top_classes", 10),
        title=lambda wildcards: f"Most improved classes, {DATASETS[wildcards.dataset]['title']}",
    shell:
        "python {SCRIPTS}/plot_most_improved.py --most-improved {input.table:q} --top {params.top} --title={params.title:q}"
        " --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_class_loss:
    """Class-wise mean loss [nats] of the scorer on real images."""
    input:
        class_loss="results/{dataset}/class_loss.tsv",
    output:
        png=report("results/{dataset}/figures/class_loss.png", category="Figures", caption="../report/class_loss.rst"),
        pdf="results/{dataset}/figures/class_loss.pdf",
    log:
        "logs/{dataset}/plot_class_loss.log",
    benchmark:
        "logs/{dataset}/plot_class_loss.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_class_loss"),
    shell:
        "python {SCRIPTS}/plot_class_loss.py --class-loss {input.class_loss:q} --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_hardness:
    """Histogram of mask hardness, and the images that plans give the masks."""
    input:
        hardness="results/{dataset}/hardness.tsv",
        plans=lambda wildcards: [
            f"results/{wildcards.dataset}/plans/{plan}.tsv" for plan in plans_of(wildcards.dataset)
        ],
    output:
        png=report("results/{dataset}/figures/hardness.png", category="Figures", caption="../report/hardness.rst"),
        pdf="results/{dataset}/figures/hardness.pdf",
    log:
        "logs/{dataset}/plot_hardness.log",
    benchmark:
        "logs/{dataset}/plot_hardness.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_hardness"),
        names=lambda wildcards: plans_of(wildcards.dataset),
    shell:
        "python {SCRIPTS}/plot_hardness.py --hardness {input.hardness:q} --plans {input.plans:q} --names {params.names:q}"
        " --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_filtered_share:
    """Share of each class's synthetic pixels that each tolerance margin filters."""
    input:
        class_shares=lambda wildcards: [
            f"results/{wildcards.dataset}/synthetic/{name}/classes.tsv" for name in sets_of(wildcards.dataset)
        ],
        shard_shares=lambda wildcards: [
            f"results/{wildcards.dataset}/synthetic/{name}/shards.tsv" for name in sets_of(wildcards.dataset)
        ],
    output:
        png=report(
            "results/{dataset}/figures/filtered_share.png", category="Figures", caption="../report/filtered_share.rst"
        ),
        pdf="results/{dataset}/figures/filtered_share.pdf",
    log:
        "logs/{dataset}/plot_filtered_share.log",
    benchmark:
        "logs/{dataset}/plot_filtered_share.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_filtered_share"),
        names=lambda wildcards: [f"{name} (alpha {set_alpha(name)})" for name in sets_of(wildcards.dataset)],
    shell:
        "python {SCRIPTS}/plot_filtered_share.py --class-shares {input.class_shares:q} --shard-shares {input.shard_shares:q}"
        " --names {params.names:q} --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_training:
    """Loss and learning rate of every training."""
    input:
        weights=trained_weights,
    output:
        png=report("results/{dataset}/figures/training.png", category="Figures", caption="../report/training.rst"),
        pdf="results/{dataset}/figures/training.pdf",
    log:
        "logs/{dataset}/plot_training.log",
    benchmark:
        "logs/{dataset}/plot_training.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_training"),
        work=lambda wildcards, input: [str(Path(path).parent / "work") for path in input.weights],
        names=lambda wildcards, input: [" ".join(Path(path).parts[-3:-1]) for path in input.weights],
        models=lambda wildcards: [row.model for row, _ in trained_rows(wildcards.dataset)],
    shell:
        "python {SCRIPTS}/plot_training.py --work {params.work:q} --names {params.names:q} --models {params.models:q} --figures {output.png:q} {output.pdf:q}"
        " --log {log:q}"


rule contact_sheet:
    """Rows of mask, filtered mask (filtered white, ignored black), real image and synthetic images."""
    input:
        train=lambda wildcards: "results/{dataset}/synthetic/{set}/train.tsv".format(
            dataset=wildcards.dataset, set=config["report"][wildcards.dataset]["contact_sheet"]
        ),
        masks="results/{dataset}/masks.tsv",
        index="results/{dataset}/index/train.tsv",
        label_space="results/{dataset}/label_space.json",
    output:
        figure=report(
            "results/{dataset}/figures/contact_sheet.png", category="Figures", caption="../report/contact_sheet.rst"
        ),
    log:
        "logs/{dataset}/contact_sheet.log",
    benchmark:
        "logs/{dataset}/contact_sheet.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("contact_sheet"),
        title=lambda wildcards: f"{DATASETS[wildcards.dataset]['title']}: masks and the images synthesized from them",
    shell:
        "python {SCRIPTS}/contact_sheet.py --train {input.train:q} --masks {input.masks:q} --index {input.index:q}"
        " --label-space {input.label_space:q} --title={params.title:q}"
        " --figure {output.figure:q} --log {log:q}"


rule plot_confusion:
    """Confusion matrix of the improved segmentor, normalised by row [%], all its train seeds together."""
    input:
        confusion=lambda wildcards: [
            path.replace("metrics.json", "confusion.tsv") for path in metrics_of(compared_row(wildcards, "improved"))
        ],
    output:
        png=report("results/{dataset}/figures/confusion.png", category="Figures", caption="../report/confusion.rst"),
        pdf="results/{dataset}/figures/confusion.pdf",
    log:
        "logs/{dataset}/plot_confusion.log",
    benchmark:
        "logs/{dataset}/plot_confusion.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_confusion"),
        title=lambda wildcards: f"Confusion matrix of {compared_row(wildcards, 'improved').experiment}",
    shell:
        "python {SCRIPTS}/plot_confusion.py --confusion {input.confusion:q} --title={params.title:q}"
        " --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_predictions:
    """Rows of a validation image, its mask, the baseline's and the improved segmentor's prediction."""
    input:
        val="results/{dataset}/index/val.tsv",
        baseline=compared_pictures("baseline"),
        improved=compared_pictures("improved"),
        label_space="results/{dataset}/label_space.json",
    output:
        figure=report(
            "results/{dataset}/figures/predictions.png", category="Figures", caption="../report/predictions.rst"
        ),
    log:
        "logs/{dataset}/plot_predictions.log",
    benchmark:
        "logs/{dataset}/plot_predictions.benchmark.tsv"
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("plot_predictions"),
        names=lambda wildcards: [compared_row(wildcards, role).experiment for role in ("baseline", "improved")],
        title=lambda wildcards: (
            f"{DATASETS[wildcards.dataset]['title']}: predictions, train seed {shared_seeds(wildcards)[0]}"
        ),
    shell:
        "python {SCRIPTS}/plot_predictions.py --val {input.val:q} --baseline {input.baseline:q} --improved {input.improved:q}"
        " --names {params.names:q} --label-space {input.label_space:q}"
        " --title={params.title:q} --figure {output.figure:q} --log {log:q}"
