# Needs: nothing that another rule makes. Makes: preflight/{submitting,synthesis,segmentation}.json, which expensive jobs wait for.


rule preflight_submitting:
    """Check files, disk, inodes, clocks and Slurm on the submitting machine."""
    output:
        result="results/{dataset}/preflight/submitting.json",
    log:
        "logs/{dataset}/preflight/submitting.log",
    benchmark:
        "logs/{dataset}/preflight/submitting.benchmark.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        code=code_of("preflight"),
        options=preflight_options,
    shell:
        f"python {SCRIPTS}/preflight.py"
        " --folder results/{wildcards.dataset} {params.options}"
        " --result {output.result:q} --log {log:q}"


for kind in PREFLIGHTS:

    rule:
        """Check GPU, driver, torch, compiled ops, files and clocks of a node; the first of all GPU jobs."""
        name:
            f"preflight_{kind}"
        input:
            submitting=ancient("results/{dataset}/preflight/submitting.json"),
        output:
            result=f"results/{{dataset}}/preflight/{kind}.json",
        log:
            f"logs/{{dataset}}/preflight/{kind}.log",
        benchmark:
            f"logs/{{dataset}}/preflight/{kind}.benchmark.tsv"
        priority: 10
        retries: 0
        conda:
            f"../envs/{kind}.yaml"
        resources:
            gpu=1,
            mem_mb=8000,
            runtime=10,
        params:
            kind=kind,
            options=partial(gpu_options, kind),
        shell:
            f"python {SCRIPTS}/preflight_gpu.py"
            " --kind {params.kind} --submitting {input.submitting:q} {params.options} --result {output.result:q} --log {log:q}"


rule preflight:
    """Checks before a run, minutes instead of GPU hours; --forceall repeats them."""
    input:
        expand("results/{dataset}/preflight/{kind}.json", dataset=DATASETS, kind=PREFLIGHTS),
    localrule: True
