# What rules of data take; states of raw data and parts of classes are noticed here. Functions are named after what they return.


def label_space(*parts, output=None):
    """The label space, and files that change only if these parts of it do: labels, words, colors, names.

    No rule makes them (see freemask.workflow.classes). The label space itself is ancient, since any part changes it. An
    `output` that was made before there were such files depends on all of it, until it is made again: other inputs would
    make it again now.
    """

    def files(wildcards):
        space, used = f"results/{wildcards.dataset}/label_space.json", parts_of_classes(*parts)(wildcards)
        if output and made_without(used[0], output.format(**wildcards)):
            return [space]
        return [ancient(space), *used]

    return files


def parts_of_classes(*parts, output=None):
    """Files that change only if these parts of the classes do; nothing where `output` was made without them."""

    def files(wildcards):
        used = [f"results/{wildcards.dataset}/classes/{part}.json" for part in parts]
        return [] if output and made_without(used[0], output.format(**wildcards)) else used

    return files


def ignored_suffixes(dataset):
    """Ends of file names that are neither images nor masks, as options."""
    return " ".join(f"--ignored-suffixes={shlex.quote(end)}" for end in DATASETS[dataset].get("ignored_suffixes", []))


def index_options(wildcards):
    """How a split's files become pairs, as options: which are left out, which windows images are cut into."""
    facts, split = DATASETS[wildcards.dataset], wildcards.split
    given = [ignored_suffixes(wildcards.dataset)]
    if "validation_share" in facts and split != "test":
        given.append(f"--validation-share {facts['validation_share']}")
    if "windows" in facts:
        given.append(f"--windows {shlex.quote(json.dumps(facts['windows']))}")
        given.append(f"--windows-dir {shlex.quote(f'results/{wildcards.dataset}/windows/{split}')}")
    return " ".join([*given, f"--split {split}"] if len(given) > 1 else given)


def mask_format(wildcards):
    """What a data set's masks may hold; labels and colors of classes, not their names and words."""
    return json.dumps(DATASETS[wildcards.dataset]["mask_format"].to_json())


def checked_format(wildcards):
    """What the masks of an index may hold: labels where images were cut, since ignored pixels surround what counts."""
    facts = DATASETS[wildcards.dataset]
    if "windows" in facts:
        return json.dumps(MaskFormat.of_labels(facts["label_space"]).to_json())
    return mask_format(wildcards)


def raw_data(wildcards):
    """What the miniature world's index depends on besides the state of its files: their manifest."""
    return f"results/{wildcards.dataset}/raw.tsv" if "miniworld" in DATASETS[wildcards.dataset] else []


def splits_of(dataset):
    """The splits of a data set: train, val and maybe test."""
    return list(DATASETS[dataset]["images"])


def index_before(split):
    """A split's index, with which the images of later splits are compared."""
    order = ("train", "val", "test")

    def path(wildcards):
        later = order.index(wildcards.split) > order.index(split)
        return f"results/{wildcards.dataset}/index/{split}.tsv" if later else []

    return path


def notice_data():
    """Bring states of raw data and parts of classes up to date: once a run, before Snakemake looks for files."""
    for dataset, facts in DATASETS.items():
        classes.notice(facts["label_space"], Path(f"results/{dataset}"))
        for split in facts["images"]:
            state = Path(f"results/{dataset}/index/{split}.state")
            if changes := raw.notice(facts, split, state, config.get("watch_raw_data", True)):
                sys.stderr.write(f"raw data of {dataset}, {split}, differ from their index: {changes}\n")


if workflow.is_main_process:
    try:
        notice_data()
    except InputError as error:
        raise WorkflowError(str(error)) from None
