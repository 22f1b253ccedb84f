# What rules of generation take. Functions are named after what they return.


def generator_setting(key):
    """A setting of the generator, e.g. guidance_scale."""
    return lambda wildcards: config["generators"][wildcards.generator][key]


def painted_classes(output):
    """The label space, as images depend on it: FreestyleNet reads words; other methods may read all of it."""

    def files(wildcards):
        all_parts = method_of(wildcards) != ["freestyle"]
        return label_space("labels", "words", *["colors", "names"] * all_parts, output=output)(wildcards)

    return files


def images_folder(wildcards):
    """The folder of a generator's images, which all runs of a data set share."""
    return f"results/{own_id(wildcards.dataset)}/synthesis/{wildcards.generator}/images"


def plans_by_generator(dataset):
    """Plans of all the data set's synthetic sets, ablations included, by generator."""
    found = {}
    for chosen in config["synthetic_sets"].values():
        if chosen["dataset"] == dataset:
            found.setdefault(chosen["generator"], set()).add(chosen["plan"])
    return {generator: sorted(plans) for generator, plans in found.items()}


def generator_options(wildcards):
    """Options of the generator's settings that have a default, where they are given."""
    generator = config["generators"][wildcards.generator]
    parts = generator.get("prompt_parts")
    compile = {True: "always", False: "never"}.get(generator.get("compile"))
    given = [option("--method", generator.get("method")), option("--compile", compile)]
    return [*given, option("--prompt-parts", json.dumps(parts) if parts else "")]


def generator_source(wildcards):
    """Where the generator comes from: trained here, or the path that the configuration gives (if it is there).

    Not fetched by being an input: it has some GB, and refuse_missing_raw_data names the command.
    """
    if trained := sources.training_folder(wildcards.generator, config["generators"]):
        return f"{trained}/pipeline/model_index.json"
    generator = config["generators"][wildcards.generator]
    path = Path(generator["path"])
    path = path / "model_index.json" if generator["source"] == "pipeline" else path
    return str(path) if path.exists() else []


def generator_weights(wildcards):
    """The weights themselves, or their digests if they are trained here: new weights under old names cause a rerun."""
    if trained := sources.training_folder(wildcards.generator, config["generators"]):
        return f"{trained}/weights.json"
    generator = config["generators"][wildcards.generator]
    if generator["source"] == "pipeline":
        return sorted(map(str, Path(generator["path"]).glob("*/*.safetensors")))
    return generator_source(wildcards)
