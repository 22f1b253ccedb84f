# Needs: evaluated arms, synthetic sets. Makes: evidence/. Questions are the configuration's key `evidence`.


rule filter_kinds:
    """Share of failures, small regions and boundaries in what a set's filter takes."""
    input:
        synthetic="results/{dataset}/synthetic/{synthetic_set}/train.tsv",
        label_space=label_space("labels"),
    output:
        table="results/{dataset}/evidence/kinds/{synthetic_set}.tsv",
        sheet="results/{dataset}/evidence/kinds/{synthetic_set}.png",
    log:
        "logs/{dataset}/filter_kinds/{synthetic_set}.log",
    benchmark:
        "logs/{dataset}/filter_kinds/{synthetic_set}.benchmark.tsv"
    conda:
        "../envs/segmentation.yaml"
    params:
        code=code_of("filter_kinds"),
        faulty=faulty,
    shell:
        f"python {SCRIPTS}/filter_kinds.py"
        " --synthetic {input.synthetic:q} --label-space {input.label_space[0]:q} {params.faulty}"
        " --table {output.table:q} --sheet {output.sheet:q} --log {log:q}"


rule generator_quality:
    """mIoU and kernel distance of each generator's images, by a segmentor trained on real images alone."""
    input:
        real="results/{dataset}/index/val.tsv",
        synthetic=of_each(
            lambda dataset: unfiltered_sets(dataset).values(), "results/{dataset}/synthetic/{name}/train.tsv"
        ),
        label_space=label_space("labels"),
        config=judge_file("config.py"),
        weights=judge_file("weights.pth"),
    output:
        table="results/{dataset}/evidence/quality.tsv",
    log:
        "logs/{dataset}/generator_quality.log",
    benchmark:
        "logs/{dataset}/generator_quality.benchmark.tsv"
    conda:
        "../envs/segmentation.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="2h",
    params:
        names=lambda wildcards: list(unfiltered_sets(wildcards.dataset)),
    shell:
        f"python {SCRIPTS}/generator_quality.py"
        " --real {input.real:q} --synthetic {input.synthetic:q} --names {params.names:q}"
        " --label-space {input.label_space[0]:q} --config {input.config:q} --weights {input.weights:q}"
        " --table {output.table:q} --threads {threads} --log {log:q}"


rule write_evidence:
    """Answers to the configuration's questions: differences between arms with intervals, a figure each, a page."""
    input:
        metrics=of_trainings("metrics.json"),
        experiments=config["experiments"],
        masks="results/{dataset}/masks.tsv",
        label_space=label_space("labels", "names"),
        kinds=of_each(filtered_sets, "results/{dataset}/evidence/kinds/{name}.tsv"),
        sheets=of_each(shown_sets, "results/{dataset}/evidence/kinds/{name}.png"),
        quality="results/{dataset}/evidence/quality.tsv",
        another_world=ANOTHER_WORLD,
    output:
        differences="results/{dataset}/evidence/differences.tsv",
        page="results/{dataset}/evidence/evidence.md",
    log:
        "logs/{dataset}/write_evidence.log",
    benchmark:
        "logs/{dataset}/write_evidence.benchmark.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("write_evidence"),
        template=sha256(ROOT / "freemask/reporting/templates/evidence.md"),
        facts=evidence_facts,
        another_world=lambda wildcards, input: option("--another-world", input.another_world),
    shell:
        f"python {SCRIPTS}/write_evidence.py"
        " --facts {params.facts:q} --experiments {input.experiments:q} --dataset {wildcards.dataset}"
        " --training results/{wildcards.dataset}/training --masks {input.masks:q}"
        " --label-space {input.label_space[0]:q} --kinds {input.kinds:q} --sheets {input.sheets:q}"
        " --quality {input.quality:q} {params.another_world} --benchmarks logs/{wildcards.dataset}"
        " --differences {output.differences:q} --page {output.page:q} --log {log:q}"


rule evidence:
    """Everything that docs/evidence.md shows."""
    input:
        asked_evidence,
    localrule: True
