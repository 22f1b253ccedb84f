"""Rows of the experiments table that are imported from a public checkpoint or a finished run's log.

The configuration's `imported` maps data set, experiment and train seed to the source of that one training.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from freemask.errors import InputError
from freemask.files import file_name
from freemask.segmentation.experiments import pretraining_of
from freemask.segmentation.regimes import find_regime
from freemask.workflow.sources import WEIGHTS

Row = tuple[str, str, int]  # data set, experiment, train seed


def sources(config: dict) -> dict[Row, dict[str, Any]]:
    """Source of every imported training of the run's data sets: kind (checkpoint or log), file, and its other keys."""
    found = {}
    for dataset in config["datasets"]:
        for experiment, seeds in config.get("imported", {}).get(dataset, {}).items():
            for seed, source in seeds.items():
                where = f"imported.{dataset}.{experiment}.{seed}"
                if not str(seed).isdigit():
                    raise InputError(f"{where}: {seed!r} is no train seed; want a whole number of train_seeds")
                if (dataset, experiment, int(seed)) in found:
                    raise InputError(f"{where}: train seed {int(seed)} stands there twice; remove one")
                found[dataset, experiment, int(seed)] = _completed(where, source)
    return found


def _completed(where: str, source: dict[str, str]) -> dict[str, Any]:
    """A source with its kind and file; its keys are checked against each other."""
    given = [key for key in ("checkpoint", "url", "log") if key in source]
    if len(given) != 1:
        raise InputError(
            f"{where}: {' and '.join(given) or 'no source'} given; want exactly one of checkpoint, url and log"
        )
    kind = "log" if given == ["log"] else "checkpoint"
    for key, belongs in (("take", "log"), ("sha256", "checkpoint")):
        if key in source and kind != belongs:
            raise InputError(f"{where}.{key}: is for a {belongs}, this is a {kind}; remove it")
    if "url" in source and "sha256" not in source:
        raise InputError(
            f"{where}: url {source['url']} without sha256; give the file's digest, or its first 8 or more digits "
            "(OpenMMLab's file names end in them)"
        )
    file = source.get("log") or source.get("checkpoint") or str(WEIGHTS / file_name(source["url"]))
    return {"take": "last", **source, "kind": kind, "file": file}


def fetchable(config: dict, others: dict[str, dict[str, str]] | None = None) -> dict[str, dict[str, str]]:
    """Imported checkpoints that have an address: file below weights/ -> its url and sha256; `others` among them.

    Raises: InputError where one file name would have to hold two files.
    """
    found = dict(others or {})
    for row, source in sources(config).items():
        if "url" in source:
            name = PurePosixPath(source["file"]).name
            entry = {key: source[key] for key in ("url", "sha256")}
            if found.setdefault(name, entry) != entry:
                where = ".".join(map(str, row))
                raise InputError(f"imported.{where}: another file is fetched as weights/{name}, too; rename one")
    return found


def check(config: dict, experiments: pd.DataFrame, base: Path = Path()) -> None:
    """Check that imports belong to rows of the table and exist, and that no weights are needed of a log.

    Args: base: folder that the user's paths are relative to.
    Raises: InputError for the first fault.
    """
    found = sources(config)
    fetchable(config)
    trainings = {(row.dataset, row.experiment, seed) for row in experiments.itertuples() for seed in row.train_seeds}
    for row, source in found.items():
        where = "imported." + ".".join(map(str, row))
        if row not in trainings:
            known = sorted(f"{name}.{seed}" for dataset, name, seed in trainings if dataset == row[0])
            raise InputError(
                f"{where}: no such experiment and train seed in {config['experiments']}; use one of: {', '.join(known)}"
            )
        if "url" not in source and not (base / source["file"]).is_file():
            raise InputError(f"{where}: {source['kind']} {source['file']} isn't there; check the path")
    logs = {row for row, source in found.items() if source["kind"] == "log"}
    for dataset in config["datasets"]:
        scorer = config["scorers"][dataset]
        if (dataset, scorer["experiment"], scorer["train_seed"]) in logs:
            raise InputError(
                f"scorers.{dataset}: {scorer['experiment']} is imported from a log, which has no weights to score with;"
                " import a checkpoint, or choose another scorer"
            )
    for _, row in experiments[[bool(find_regime(name).pretrained) for name in experiments.regime]].iterrows():
        for seed in row.train_seeds:
            needed = (row.dataset, pretraining_of(row, experiments), seed)
            if needed in logs and (row.dataset, row.experiment, seed) not in found:
                raise InputError(
                    f"imported.{'.'.join(map(str, needed))}: a log has no weights, but {row.experiment} starts from "
                    "them; import a checkpoint, or import that row as well"
                )
