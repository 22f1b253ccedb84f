# Needs: config.py and weights.pth of a training. Makes: metrics.json, per_class_iou.tsv beside them.


rule evaluate:
    """Single-scale whole-image mIoU, accuracy and IoU per class [%] on the validation set."""
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
        index="results/{dataset}/index/val.tsv",
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/per_class_iou.tsv",
    log:
        "logs/{dataset}/evaluate/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("log"),
    conda:
        "../envs/segmentation.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=32000,
        runtime="4h",
    shell:
        "python scripts/evaluate.py --config {input.config:q} --weights {input.weights:q}"
        " --metrics {output.metrics:q} --per-class-iou {output.per_class_iou:q} --threads {threads} --log {log:q}"
