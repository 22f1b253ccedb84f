# Needs: metrics and IoU per class of the experiments. Makes: tables/.


rule result_tables:
    """mIoU [%] of every experiment (mean and deviation over train seeds) with gains, and IoU per class [%]."""
    input:
        metrics=all_metrics,
        per_class=all_ious,
        best=best_metrics,
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        classes=fact("classes"),
        reported="config/reported.yaml",
        script="scripts/result_tables.py",
        code=["freemask/results.py", "freemask/layout.py", "freemask/tables.py", "freemask/studies.py"],
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
        "../envs/report.yaml"
    params:
        study="main",
        training="results/{dataset}/training",
        ignored_label=fact("ignored_label"),
        reported_set=lambda wildcards: option("--reported-set", compared_row(wildcards, "improved").synthetic_set),
        best=lambda wildcards: [row.experiment for row in validated(wildcards.dataset)],
    shell:
        "python {input.script:q} --experiments {input.experiments:q} --dataset {wildcards.dataset} --study {params.study}"
        " --training {params.training:q} --masks {input.masks:q} --classes {input.classes:q}"
        " --ignored-label {params.ignored_label} --reported {input.reported:q} {params.reported_set}"
        " --html {output.html:q} --markdown {output.markdown:q} --csv {output.csv:q} --latex {output.latex:q}"
        " --per-class {output.per_class:q} --best {params.best:q} --log {log:q}"


rule training_cost:
    """Wall hours and GPU hours of every experiment's trainings, over all segments of interrupted ones."""
    input:
        weights=trained_weights,
        experiments=config["experiments"],
        script="scripts/training_cost.py",
        code=["freemask/cost.py", "freemask/layout.py"],
    output:
        cost="results/{dataset}/tables/cost.tsv",
        html=report("results/{dataset}/tables/cost.html", category="Tables", caption="../report/cost.rst"),
    log:
        "logs/{dataset}/training_cost.log",
    benchmark:
        "logs/{dataset}/training_cost.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        training="results/{dataset}/training",
    shell:
        "python {input.script:q} --experiments {input.experiments:q} --dataset {wildcards.dataset}"
        " --training {params.training:q} --cost {output.cost:q} --html {output.html:q} --log {log:q}"


use rule result_tables as ablation_tables with:
    input:
        metrics=partial(all_metrics, study="ablation"),
        per_class=partial(all_ious, study="ablation"),
        best=partial(best_metrics, study="ablation"),
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        classes=fact("classes"),
        reported="config/reported.yaml",
        script="scripts/result_tables.py",
        code=["freemask/results.py", "freemask/layout.py", "freemask/tables.py", "freemask/studies.py"],
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
        study="ablation",
        training="results/{dataset}/training",
        ignored_label=fact("ignored_label"),
        reported_set=lambda wildcards: option("--reported-set", compared_row(wildcards, "improved").synthetic_set),
        best=lambda wildcards: [row.experiment for row in validated(wildcards.dataset, "ablation")],


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
