"""External files of a run: raw data, generators, initial weights; the missing ones, and how to get them."""

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from freemask.files import file_name

WEIGHTS = PurePosixPath("weights")  # files below it that have an address are fetched; others are the user's


def initial_weights(entry: dict) -> str:
    """Path of a model's initial weights: the path that its entry gives, or weights/<file name of the url>; or ''."""
    source = entry.get("initial_weights", {})
    return source.get("path") or (str(WEIGHTS / file_name(source["url"])) if source else "")


def fetchable_weights(config: dict, models: dict, experiments: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The run's generator checkpoints and initial weights: file below weights/ -> its url and, where known, sha256."""
    found = {}
    for generator in config["generators"].values():
        _, path, address = _made_from(generator)
        if generator["dataset"] in config["datasets"] and address and _below_weights(path):
            target = PurePosixPath(_target(path, address)).relative_to(WEIGHTS)
            found[str(target)] = {**generator, "url": address}
    for model in experiments.model.unique():
        source = models[model].get("initial_weights", {})
        if "url" in source and "path" not in source:
            found[file_name(source["url"])] = source
    return {name: {key: source[key] for key in ("url", "sha256") if key in source} for name, source in found.items()}


def training_folder(name: str, generators: dict[str, dict]) -> str | None:
    """Folder of the training of a generator that this run trains; None for others.

    A generator whose path is the `<folder>/pipeline` of another one samples the same weights with its own settings.
    """
    trained = {
        key: f"results/{one['dataset']}/generator_training/{key}"
        for key, one in generators.items()
        if one["source"] == "train"
    }
    folder = trained.get(name) or str(PurePosixPath(generators[name]["path"]).parent)
    return folder if folder in trained.values() else None


def _made_from(generator: dict) -> tuple[str, str | None, str | None]:
    """Whether a generator is read ("generator") or trained, the path that this starts from, and its address."""
    if generator["source"] == "train":
        return "training", generator["training"].get("init"), generator["training"].get("init_address")
    return "generator", generator.get("path"), generator.get("address")


def _below_weights(path: str | None) -> bool:
    return path is not None and PurePosixPath(path).is_relative_to(WEIGHTS)


def _target(path: str, address: str) -> str:
    """The file that exists once path is fetched: path itself, or the index of a folder of the hub."""
    return str(PurePosixPath(path) / "model_index.json") if address.startswith("hf://") else path


def missing_raw_data(
    config: dict, datasets: dict[str, dict], configfiles: Sequence[str | Path] = ()
) -> dict[tuple[str, str], str]:
    """What isn't on disk: ("data set", "generator" or "training", id) -> where it should lie, how to get it.

    Args: configfiles: those of the command line, which commands repeat.
    """
    options = f"--configfile {shlex.join(map(str, configfiles))} -- " if configfiles else ""
    fetch, lines = f"snakemake --cores 1 {options}", {}
    for name, facts in datasets.items():
        root = Path(facts["root"])
        wanted = [root, *(root / facts[kind][split] for kind in ("images", "masks") for split in facts["images"])]
        absent = [str(folder) for folder in wanted if not folder.is_dir()]
        if absent and "miniworld" not in facts:
            source = f"from {facts.get('source', 'where its makers publish it').strip()}"
            if "archives" in facts:
                urls = ", ".join(archive["url"] for archive in facts["archives"])
                source = f"from {urls}; `{fetch}fetch_{name}` fetches it"
            where = f"folder {absent[0]} (data_roots.{name} if it lies elsewhere)"
            lines["data set", name] = f"data set {name}: {where}; {source}"
    for name, generator in config["generators"].items():
        kind, path, address = _made_from(generator)
        if kind == "generator" and training_folder(name, config["generators"]):
            continue
        if generator["dataset"] in datasets and path and not Path(_target(path, address or "")).exists():
            where = address or "whoever made it (the configuration has no address)"
            fetchable = address and _below_weights(path)
            how = f"; `{fetch}{_target(path, address)}` fetches it" if fetchable else ""
            lines[kind, name] = f"generator {name}: {path}; from {where}{how}"
    return lines
