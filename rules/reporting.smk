# Needs: metrics, IoU per class, plans, sets, training logs. Makes: tables/, figures/.

from freemask.files import sha256
from freemask.workflow import figures

PREDICTIONS = [f"predictions/{number}.png" for number in PICTURES]


for name, table, study, prefix in [
    ("result_tables", "miou", "main", ""),
    ("ablation_tables", "ablations", "ablation", "ablations_"),
]:

    rule:
        """mIoU [%] of every experiment (mean and deviation over train seeds) with gains, and IoU per class [%]."""
        name:
            name
        input:
            metrics=of_trainings("metrics.json", study),
            per_class=of_trainings("per_class_iou.tsv", study),
            best=of_trainings("best/metrics.json", study, validated),
            test=of_trainings("test/metrics.json", study, tested),
            best_test=of_trainings(
                "best/test/metrics.json", study, lambda dataset, study: validated(dataset, study, tested)
            ),
            experiments=config["experiments"],
            masks="results/{dataset}/masks.tsv",
            label_space=label_space("labels", "names"),
            reported=REPORTED,
        output:
            html=report(f"results/{{dataset}}/tables/{table}.html", category="Tables", caption="../report/miou.rst"),
            markdown=f"results/{{dataset}}/tables/{table}.md",
            csv=f"results/{{dataset}}/tables/{table}.csv",
            latex=f"results/{{dataset}}/tables/{table}.tex",
            per_class=report(
                f"results/{{dataset}}/tables/{prefix}per_class_iou.tsv",
                category="Tables",
                caption="../report/per_class_iou.rst",
            ),
        log:
            f"logs/{{dataset}}/{name}.log",
        benchmark:
            f"logs/{{dataset}}/{name}.benchmark.tsv"
        localrule: True
        conda:
            "../envs/cpu.yaml"
        params:
            code=code_of("result_tables", regimes_of),
            study=study,
            training="results/{dataset}/training",
            reported_set=lambda wildcards: option(
                "--reported-set", compared_row(wildcards.dataset, "improved").synthetic_set
            ),
            best=names_of(validated, study),
            test=tested_option(study),
        shell:
            f"python {SCRIPTS}/result_tables.py"
            " --experiments {input.experiments:q} --dataset {wildcards.dataset} --study {params.study}"
            " --training {params.training:q} --masks {input.masks:q} --label-space {input.label_space[0]:q}"
            " --reported {input.reported:q} {params.reported_set}"
            " --html {output.html:q} --markdown {output.markdown:q} --csv {output.csv:q} --latex {output.latex:q}"
            " --per-class {output.per_class:q} --best {params.best:q} {params.test} --log {log:q}"


rule training_cost:
    """Wall hours and GPU hours of every experiment's trainings, over all segments of interrupted ones."""
    input:
        weights=trained_weights,
        experiments=config["experiments"],
        reported=REPORTED,
    output:
        cost="results/{dataset}/tables/cost.tsv",
        html=report("results/{dataset}/tables/cost.html", category="Tables", caption="../report/cost.rst"),
    log:
        "logs/{dataset}/training_cost.log",
    benchmark:
        "logs/{dataset}/training_cost.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("training_cost", regimes_of),
        training="results/{dataset}/training",
    shell:
        f"python {SCRIPTS}/training_cost.py"
        " --experiments {input.experiments:q} --dataset {wildcards.dataset}"
        " --training {params.training:q} --reported {input.reported:q}"
        " --cost {output.cost:q} --html {output.html:q} --log {log:q}"


# Without output, so that it runs whenever it is requested; without input, since it needs none.
rule cost:
    """Print what the run costs before it is paid: jobs, GPU hours, wall time, disk and files of each stage."""
    log:
        "logs/cost.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        run=cost_of_run,
        card=card_of_run,
        cards=measured_cards,
        reported=REPORTED,
        paper=place("resources/costs/v100.yaml"),
    shell:
        f"python {SCRIPTS}/cost.py"
        " --run {params.run:q} {params.card} --cards {params.cards:q} --reported {params.reported:q} --paper {params.paper:q}"
        " --log {log:q}"


rule list_warnings:
    """What makes results doubtful: filters that take most pixels, classes the scorer doesn't know, equal colors, images."""
    input:
        class_loss="results/{dataset}/class_loss.tsv",
        scorer_ious=scorer_file("per_class_iou.tsv"),
        class_shares=of_each(sets_of, "results/{dataset}/synthetic/{name}/classes.tsv"),
        duplicates=of_each(splits_of, "results/{dataset}/check/{name}.duplicates.tsv"),
        label_space=label_space("names", "colors"),
    output:
        table="results/{dataset}/tables/warnings.tsv",
        html=report("results/{dataset}/tables/warnings.html", category="Tables", caption="../report/warnings.rst"),
    log:
        "logs/{dataset}/list_warnings.log",
    benchmark:
        "logs/{dataset}/list_warnings.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("list_warnings"),
        class_shares=lambda wildcards, input: options("--class-shares", input.class_shares),
        set_names=lambda wildcards: options("--set-names", sets_of(wildcards.dataset)),
    shell:
        f"python {SCRIPTS}/list_warnings.py"
        " --class-loss {input.class_loss:q} --scorer-ious {input.scorer_ious:q} {params.class_shares} {params.set_names}"
        " --duplicates {input.duplicates:q} --label-space {input.label_space[0]:q} --dataset {wildcards.dataset}"
        " --table {output.table:q} --html {output.html:q} --log {log:q}"


rule most_improved:
    """Gain in IoU [points] of every class from the baseline to the improved segmentor, largest first."""
    input:
        real=compared("baseline", "per_class_iou.tsv"),
        joint=compared("improved", "per_class_iou.tsv"),
        control=control_files("per_class_iou.tsv"),
        label_space=label_space("names"),
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
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("most_improved"),
        train_seeds=lambda wildcards: " ".join(map(str, shared_seeds(wildcards.dataset))),
        control_seeds=control_seeds,
    shell:
        f"python {SCRIPTS}/most_improved.py"
        " --real {input.real:q} --joint {input.joint:q} --train-seeds {params.train_seeds}"
        " {params.control_seeds} --control {input.control:q} --label-space {input.label_space[0]:q}"
        " --reported {input.reported:q} --dataset {wildcards.dataset} --most-improved {output.table:q} --log {log:q}"


# Without output, so that it runs whenever it is requested; without input, since it tabulates what is evaluated so far.
rule paper:
    """Write the paper's tables into results/paper, as files that a manuscript includes; nothing is trained for them."""
    log:
        "logs/paper.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        experiments=config["experiments"],
        comparisons=literal(json.dumps({dataset: comparison_of(dataset) for dataset in DATASETS})),
        sets=json.dumps({name: varied_settings(name) for name in config["synthetic_sets"]}),
        reported=REPORTED,
    shell:
        f"python {SCRIPTS}/paper.py"
        " --experiments {params.experiments:q} --results results --comparisons {params.comparisons:q}"
        f" --sets {{params.sets:q}} --reported {{params.reported:q}} --tables results/paper{OF_RUN} --log {{log:q}}"


# ---- Figures: each is a script plot_<name>.py, here or listed in the configuration under `figures` --------------------

# Arguments of figures' functions, by the names of their parameters. Files of results/{dataset} are inputs of the rule:
FILES = {
    "baseline_predictions": compared("baseline", *PREDICTIONS, seeds=1),
    "class_loss": "results/{dataset}/class_loss.tsv",
    "class_shares": of_each(sets_of, "results/{dataset}/synthetic/{name}/classes.tsv"),
    "confusion": confusion_of_improved,
    "cost": "results/{dataset}/tables/cost.tsv",
    "hardness": "results/{dataset}/hardness.tsv",
    "improved_predictions": compared("improved", *PREDICTIONS, seeds=1),
    "index": "results/{dataset}/index/train.tsv",
    "label_space": "results/{dataset}/label_space.json",
    "masks": "results/{dataset}/masks.tsv",
    "metrics": of_trainings("metrics.json"),
    "miou": "results/{dataset}/tables/miou.csv",
    "most_improved": "results/{dataset}/tables/most_improved.tsv",
    "per_class_iou": "results/{dataset}/tables/per_class_iou.tsv",
    "plans": of_each(plans_of, "results/{dataset}/plans/{name}.tsv"),
    "shard_shares": of_each(sets_of, "results/{dataset}/synthetic/{name}/shards.tsv"),
    "synthetic": shown_set("train.tsv"),
    "val": "results/{dataset}/index/val.tsv",
    "weights": trained_weights,
    "work": trained_weights,  # its value, below, are the folders beside the weights
}
# Values from the configuration:
VALUES = {
    "baseline": lambda dataset: compared_row(dataset, "baseline").experiment,
    "improved": lambda dataset: compared_row(dataset, "improved").experiment,
    "models": lambda dataset: [row.model for row, _ in trained_rows(dataset)],
    "plan_names": plans_of,
    "regimes": lambda dataset: [f"{row.regime} {row.schedule:g}" for row, _ in trained_rows(dataset)],
    "set_names": lambda dataset: [f"{name} ({set_filter(name).replace('-', ' ')})" for name in sets_of(dataset)],
    "title": lambda dataset: DATASETS[dataset]["title"],
    "top": lambda dataset: config["report"][dataset].get("top_classes", 10),
    "train_seed": lambda dataset: shared_seeds(dataset)[0],
    "training_names": lambda dataset: [f"{row.experiment} seed-{seed}" for row, seed in trained_rows(dataset)],
    "work": lambda dataset: [f"{experiment_folder(row, seed)}/work" for row, seed in trained_rows(dataset)],
}
OF_PREDICTIONS = {"baseline_predictions", "confusion", "improved_predictions"}

try:
    FIGURES = figures.read_figures(map(place, config.get("figures", [])), FILES.keys() | VALUES.keys())
except InputError as error:
    raise WorkflowError(f"configuration: {error}") from None


for figure in FIGURES:

    rule:
        """Draw one figure; its caption is the docstring of its script's function."""
        name:
            figure.script.stem
        input:
            **figure.choose(FILES),
        output:
            **figure_outputs(figure),
        log:
            f"logs/{{dataset}}/{figure.script.stem}.log",
        benchmark:
            f"logs/{{dataset}}/{figure.script.stem}.benchmark.tsv"
        localrule: True
        conda:
            "../envs/cpu.yaml"
        params:
            code=code_of(figure.script),
            caption=partial(figure_caption, figure),
            command=partial(figure_command, figure),
            values=partial(figure_values, figure),
        shell:
            "python {params.command} {params.values} --log {log:q}"


# ---- The page: results of all data sets in one file ------------------------------------------------------------------

TEMPLATES = sorted((ROOT / "freemask/reporting/templates").glob("page.*"))


rule write_report:
    """One HTML page with the results of all data sets that needs no other file; see docs/reporting.md."""
    input:
        tables=of_datasets(
            "results/{dataset}/tables/miou.csv",
            "results/{dataset}/tables/cost.tsv",
            "results/{dataset}/tables/most_improved.tsv",
            "results/{dataset}/tables/warnings.tsv",
        ),
        data=of_datasets(
            "results/{dataset}/class_loss.tsv",
            "results/{dataset}/index/train.tsv",
            "results/{dataset}/index/val.tsv",
            "results/{dataset}/label_space.json",
            "results/{dataset}/masks.tsv",
        ),
        sets=of_datasets(
            of_each(sets_of, "results/{dataset}/synthetic/{name}/train.tsv"),
            shown_set("train.tsv"),
            shown_set("classes.tsv"),
        ),
        trainings=of_datasets(page_trainings),
        weights=of_datasets(trained_weights),
        confusion=of_datasets(confusion_of_improved),
        predictions=of_datasets(lambda wildcards: page_pictures(wildcards.dataset)),
        experiments=config["experiments"],
        reported=REPORTED,
    output:
        report=f"results/{PAGE}/report.html",
    log:
        f"logs/{PAGE}/write_report.log",
    benchmark:
        f"logs/{PAGE}/write_report.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("write_report"),
        templates=list(map(sha256, TEMPLATES)),  # no inputs: their paths differ between checkouts
        facts=literal(json.dumps(page_facts())),
    shell:
        f"python {SCRIPTS}/write_report.py"
        " --facts {params.facts:q} --experiments {input.experiments:q} --results results --logs logs"
        " --reported {input.reported:q} --report {output.report:q} --log {log:q}"
