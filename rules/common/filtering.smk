# What rules of filtering take. Functions are named after what they return.


def set_alpha(synthetic_set):
    """The tolerance margin of a synthetic set as paths have it: 1.25, 0.9, inf."""
    alpha = config["synthetic_sets"][synthetic_set]["alpha"]
    return "inf" if math.isinf(alpha) else f"{alpha:g}"


def set_filter(synthetic_set):
    """The filter of a synthetic set as paths have it: alpha-1.25, alpha-inf (none), or package.module.object-1.25."""
    name = config["synthetic_sets"][synthetic_set].get("filter", "margin")
    if name == "none":
        return "alpha-inf"
    return f"{'alpha' if name == 'margin' else name.replace(':', '.')}-{set_alpha(synthetic_set)}"


def set_folds(synthetic_set):
    """The setting `folds` of a synthetic set's filter; nothing with 1 fold, or without a filter."""
    count = folds.folds_of_set(config, synthetic_set)
    return {"folds": count} if count > 1 and set_filter(synthetic_set) != "alpha-inf" else {}


def set_scoring(synthetic_set):
    """How a set's filter scores pixels, as paths have it: "" with the run's class losses, else e.g. ~5-folds.

    ~labels: margin maps hold the scorer's predictions as well, for filters that read them.
    """
    if set_filter(synthetic_set) == "alpha-inf":
        return ""
    count = folds.folds_of_set(config, synthetic_set)
    name = config["synthetic_sets"][synthetic_set].get("filter", "margin")
    try:
        labels = "~labels" * reads_predictions(plugins.find(FILTERS, name, "filter"))
    except InputError:  # a plug-in whose packages are in the jobs' environment only
        labels = ""
    return f"~{count}-folds" * (count != folds.folds_of_run(config)) + labels


def scored_class_loss(wildcards):
    """The class losses that pixels are scored with."""
    count = re.match(r"(~\d+-folds)?", wildcards.scoring)[0]
    return f"results/{wildcards.dataset}/class_loss{count}.tsv"


def filter_rule(wildcards):
    """The filter that a path names: margin, or package.module:object."""
    name = wildcards.filter.rpartition("-")[0]
    return "margin" if name == "alpha" else ":".join(name.rsplit(".", 1))


def of_set(pattern):
    """A file, or a file of each shard, of a synthetic set; {generator}, {plan}, {scoring} and {filter} are the set's."""

    def paths(wildcards):
        name, shards = wildcards.synthetic_set, {"scatteritem": "{scatteritem}"}
        own = {"dataset": wildcards.dataset, "filter": set_filter(name), "scoring": set_scoring(name)}
        filled = pattern.format(**config["synthetic_sets"][name] | own | shards)
        return gather.shard(filled) if "{scatteritem}" in filled else filled

    return paths


def set_settings(wildcards):
    """How a synthetic set is made, for the card of its export (JSON); no paths of this machine."""
    chosen = config["synthetic_sets"][wildcards.synthetic_set]
    generator = config["generators"][chosen["generator"]]
    shown = {key: value for key, value in generator.items() if key not in ("path", "address", "sha256", "training")}
    plan, rule = config["plans"][chosen["plan"]], chosen.get("filter", "margin")
    made = {"generator": {"id": chosen["generator"], **shown}, "plan": {"id": chosen["plan"], **plan}}
    alpha = {"alpha": set_alpha(wildcards.synthetic_set)}
    return json.dumps(made | {"filter": {"rule": rule, **alpha, **set_folds(wildcards.synthetic_set)}})


def margins_to_filter(wildcards):
    """The margin maps of a shard; nothing if there is no filter."""
    if wildcards.filter == "alpha-inf":
        return []
    return "results/{dataset}/margins/{generator}/{plan}{scoring}/{scatteritem}.tsv"
