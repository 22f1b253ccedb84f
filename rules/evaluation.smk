# Needs: config.py and weights.pth of a training. Makes: metrics.json, per_class_iou.tsv, confusion.tsv, predictions/ beside
# them; best/ where the model validates during training.


rule evaluate:
    """mIoU, accuracy and IoU per class [%] on the validation set, whole images; confusion matrix [pixels], a few predictions."""
    input:
        config="results/{dataset}/training/{experiment}/seed-{train_seed}/config.py",
        weights="results/{dataset}/training/{experiment}/seed-{train_seed}/weights.pth",
        index="results/{dataset}/index/val.tsv",
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/per_class_iou.tsv",
        confusion="results/{dataset}/training/{experiment}/seed-{train_seed}/confusion.tsv",
        predictions=expand(
            "results/{{dataset}}/training/{{experiment}}/seed-{{train_seed}}/predictions/{number}.png", number=PICTURES
        ),
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
    params:
        weights=lambda wildcards, input: [
            option("--weights", input.weights),
            "--checkpoint imported" if imported(wildcards) else "--checkpoint last",
        ],
        scales=EVALUATION["scales"],
        flip="--flip" if EVALUATION["flip"] else "",
        more=lambda wildcards, output: [
            option("--confusion", output.confusion),
            f"--predictions {shlex.join(output.predictions)}",
        ],
    shell:
        "python scripts/evaluate.py --config {input.config:q} {params.weights}"
        " --scales {params.scales} {params.flip} --metrics {output.metrics:q} --per-class-iou {output.per_class_iou:q}"
        " {params.more} --threads {threads} --log {log:q}"


use rule evaluate as evaluate_best with:
    # best.pth, which a training that validates leaves beside weights.pth
    output:
        metrics="results/{dataset}/training/{experiment}/seed-{train_seed}/best/metrics.json",
        per_class_iou="results/{dataset}/training/{experiment}/seed-{train_seed}/best/per_class_iou.tsv",
    log:
        "logs/{dataset}/evaluate_best/{experiment}/seed-{train_seed}.log",
    benchmark:
        "logs/{dataset}/evaluate_best/{experiment}/seed-{train_seed}.benchmark.tsv"
    wildcard_constraints:
        dataset=except_imported("checkpoint", "log"),
    params:
        weights=lambda wildcards, input: [
            option("--weights", Path(input.weights).with_name("best.pth")),
            "--checkpoint best",
        ],
        scales=EVALUATION["scales"],
        flip="--flip" if EVALUATION["flip"] else "",
        more="",
