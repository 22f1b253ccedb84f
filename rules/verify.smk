# Needs: whatever is there of results/{dataset}. Makes: verify/report.tsv; sets damaged files aside. Never part of `all`.

for dataset in DATASETS:

    # No output and no benchmark: it runs whenever it is asked for. No input: it looks at what is there, and makes nothing.
    rule:
        name:
            f"verify_{dataset}"
        log:
            f"logs/{dataset}/verify.log",
        conda:
            "../envs/workflow.yaml"
        threads: config["threads"]
        params:
            folder=f"results/{dataset}",
            report=f"results/{dataset}/verify/report.tsv",
        shell:
            "python scripts/verify.py --folder {params.folder:q} --report {params.report:q} --threads {threads}"
            " --log {log:q}"
