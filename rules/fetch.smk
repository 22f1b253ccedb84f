# Needs: a network. Makes: raw data below their roots, weights/. Never a cluster job: compute nodes often have no network.

WEIGHTS = imports.fetchable(config, sources.fetchable_weights(config, MODELS, EXPERIMENTS))


# Without outputs, on purpose: these rules run only where somebody asks for them, and nothing makes Snakemake delete
# a data set's folder.
for dataset, facts in DATASETS.items():
    if "archives" not in facts:
        continue

    rule:
        name:
            f"fetch_{dataset}"
        log:
            f"logs/{dataset}/fetch_dataset.log",
        localrule: True
        conda:
            "../envs/workflow.yaml"
        params:
            dataset=dataset,
            root=facts["root"],
            archives=json.dumps(facts["archives"]),
            folders=[*facts["images"].values(), *facts["masks"].values()],
        shell:
            "python scripts/fetch_dataset.py --dataset {params.dataset} --root {params.root:q}"
            " --archives {params.archives:q} --folders {params.folders:q} --log {log:q}"


rule fetch_weights:
    """Every generator checkpoint, initial weights file and imported checkpoint of the configuration."""
    input:
        expand("weights/{file}", file=WEIGHTS),
    localrule: True


rule fetch_weights_file:
    """Fetch one file of weights, or a folder of the hub; what is there already is checked and kept."""
    output:
        weights=update("weights/{file}"),
    log:
        "logs/fetch_weights/{file}.log",
    benchmark:
        "logs/fetch_weights/{file}.benchmark.tsv"
    wildcard_constraints:
        file=any_of(WEIGHTS),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    params:
        url=lambda wildcards: WEIGHTS[wildcards.file]["url"],
        sha256=lambda wildcards: option("--sha256", WEIGHTS[wildcards.file].get("sha256")),
    shell:
        "python scripts/fetch_weights.py --url {params.url:q} {params.sha256} --weights {output.weights:q} --log {log:q}"
