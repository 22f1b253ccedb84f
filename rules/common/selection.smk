# What rules of selection take. Functions are named after what they return.


def loss_indexes(count):
    """The index of the pairs that the scorer is run on, or those held out of each fold's training."""
    if count == 1:
        return ["results/{dataset}/index/train.tsv"]
    return [f"results/{{dataset}}/folds/{number}-of-{count}/held.tsv" for number in range(1, count + 1)]


def loss_shards(count):
    """The shards of class losses, of the scorer or of each fold's segmentor in turn."""
    if count == 1:
        return gather.part("results/{{dataset}}/class_loss/{scatteritem}.tsv")
    return [
        path
        for number in range(1, count + 1)
        for path in gather.part(f"results/{{{{dataset}}}}/folds/{number}-of-{count}/class_loss/{{scatteritem}}.tsv")
    ]


def of_folds(choose):
    """loss_indexes or loss_shards for the number of folds in the wildcards."""
    return lambda wildcards: [path.format(dataset=wildcards.dataset) for path in choose(int(wildcards.folds))]


def plan_setting(key):
    """A setting of the plan, e.g. n_max."""
    return lambda wildcards: config["plans"][wildcards.plan][key]
