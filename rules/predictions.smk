# Needs: confusion.tsv and predictions/ of the compared experiments. Makes: figures/{confusion,predictions}.*.


rule plot_confusion:
    """Confusion matrix of the improved segmentor, normalised by row [%], all its train seeds together."""
    input:
        confusion=lambda wildcards: [
            path.replace("metrics.json", "confusion.tsv") for path in metrics_of(compared_row(wildcards, "improved"))
        ],
        script="scripts/plot_confusion.py",
        code=["freemask/confusion.py", "freemask/figures.py"],
    output:
        png=report("results/{dataset}/figures/confusion.png", category="Figures", caption="../report/confusion.rst"),
        pdf="results/{dataset}/figures/confusion.pdf",
    log:
        "logs/{dataset}/plot_confusion.log",
    benchmark:
        "logs/{dataset}/plot_confusion.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        title=lambda wildcards: f"Confusion matrix of {compared_row(wildcards, 'improved').experiment}",
    shell:
        "python {input.script:q} --confusion {input.confusion:q} --title={params.title:q}"
        " --figures {output.png:q} {output.pdf:q} --log {log:q}"


rule plot_predictions:
    """Rows of a validation image, its mask, the baseline's and the improved segmentor's prediction."""
    input:
        val="results/{dataset}/index/val.tsv",
        baseline=compared_pictures("baseline"),
        improved=compared_pictures("improved"),
        classes=fact("classes"),
        script="scripts/plot_predictions.py",
        code=["freemask/predictions.py", "freemask/contact_sheet.py"],
    output:
        figure=report(
            "results/{dataset}/figures/predictions.png", category="Figures", caption="../report/predictions.rst"
        ),
    log:
        "logs/{dataset}/plot_predictions.log",
    benchmark:
        "logs/{dataset}/plot_predictions.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        names=lambda wildcards: [compared_row(wildcards, role).experiment for role in ("baseline", "improved")],
        ignored_label=fact("ignored_label"),
        title=lambda wildcards: (
            f"{DATASETS[wildcards.dataset]['title']}: predictions, train seed {shared_seeds(wildcards)[0]}"
        ),
    shell:
        "python {input.script:q} --val {input.val:q} --baseline {input.baseline:q} --improved {input.improved:q}"
        " --names {params.names:q} --classes {input.classes:q} --ignored-label {params.ignored_label}"
        " --title={params.title:q} --figure {output.figure:q} --log {log:q}"
