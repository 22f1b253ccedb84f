# Needs: tables, hardness, class losses, synthetic sets, training logs. Makes: figures/.


rule plot_most_improved:
    """Bar plot of the classes that gain most IoU."""
    input:
        table="results/{dataset}/tables/most_improved.tsv",
        script="scripts/plot_most_improved.py",
        code="freemask/figures.py",
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
        "../envs/report.yaml"
    params:
        top=lambda wildcards: config["report"][wildcards.dataset].get("top_classes", 10),
        title=lambda wildcards: f"Most improved classes, {DATASETS[wildcards.dataset]['title']}",
    shell:
        "python {input.script:q} --most-improved {input.table:q} --top {params.top} --title={params.title:q}"
        " --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_class_loss:
    """Class-wise mean loss [nats] of the scorer on real images."""
    input:
        class_loss="results/{dataset}/class_loss.tsv",
        script="scripts/plot_class_loss.py",
        code="freemask/figures.py",
    output:
        png=report("results/{dataset}/figures/class_loss.png", category="Figures", caption="../report/class_loss.rst"),
        pdf="results/{dataset}/figures/class_loss.pdf",
    log:
        "logs/{dataset}/plot_class_loss.log",
    benchmark:
        "logs/{dataset}/plot_class_loss.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    shell:
        "python {input.script:q} --class-loss {input.class_loss:q} --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_hardness:
    """Histogram of mask hardness, and the images that plans give the masks."""
    input:
        hardness="results/{dataset}/hardness.tsv",
        plans=lambda wildcards: [
            f"results/{wildcards.dataset}/plans/{plan}.tsv" for plan in plans_of(wildcards.dataset)
        ],
        script="scripts/plot_hardness.py",
        code="freemask/figures.py",
    output:
        png=report("results/{dataset}/figures/hardness.png", category="Figures", caption="../report/hardness.rst"),
        pdf="results/{dataset}/figures/hardness.pdf",
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
        script="scripts/plot_filtered_share.py",
        code="freemask/figures.py",
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
        "../envs/report.yaml"
    params:
        names=lambda wildcards: [f"{name} (alpha {set_alpha(name)})" for name in sets_of(wildcards.dataset)],
    shell:
        "python {input.script:q} --class-shares {input.class_shares:q} --shard-shares {input.shard_shares:q}"
        " --names {params.names:q} --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_training:
    """Loss and learning rate of every training."""
    input:
        weights=trained_weights,
        script="scripts/plot_training.py",
        code="freemask/figures.py",
    output:
        png=report("results/{dataset}/figures/training.png", category="Figures", caption="../report/training.rst"),
        pdf="results/{dataset}/figures/training.pdf",
    log:
        "logs/{dataset}/plot_training.log",
    benchmark:
        "logs/{dataset}/plot_training.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        work=lambda wildcards, input: [str(Path(path).parent / "work") for path in input.weights],
        names=lambda wildcards, input: [" ".join(Path(path).parts[-3:-1]) for path in input.weights],
        models=lambda wildcards: [row.model for row, _ in trained_rows(wildcards.dataset)],
    shell:
        "python {input.script:q} --work {params.work:q} --names {params.names:q} --models {params.models:q} --figures {output.png:q} {output.pdf:q}"
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
        code="freemask/contact_sheet.py",
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
        " --classes {input.classes:q} --ignored-label {params.ignored_label} --title={params.title:q}"
        " --figure {output.figure:q} --log {log:q}"
