"""Number of files of the paper's run; see `files`."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from freemask import cli
from freemask.data.masks import mask_path
from freemask.generation.shard import image_path
from freemask.selection.strategies import STRATEGIES, Masks

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"ade20k": "ADE_train_{:08d}", "cocostuff164k": "{:012d}"}  # of masks
ALPHAS = ("1", "1.5", "1.75", "2")  # of the ablations


def files() -> None:
    """Count the files and folders that the paper's run makes for both data sets, at one tolerance margin and at five.

    Paths come from the code that writes the files, and from a dry run. Makes none of them.
    """
    once, folders = count(declared(dry_run("all")))
    tables = [f"results/{dataset}/synthetic/{dataset}-alpha-{alpha}/train.tsv" for dataset in NAMES for alpha in ALPHAS]
    again, _ = count(declared(dry_run("all", *tables)))
    for what, number in once.items():
        cli.tell(f"{what}: {number:,}")
    cli.tell(f"all: {sum(once.values()):,}; with four more tolerance margins: {sum(again.values()):,}")
    folder, largest = folders.most_common(1)[0]
    cli.tell(f"largest folder: {folder} with {largest:,} entries")


def dry_run(*targets: str) -> str:
    """What a dry run of targets prints, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snakemake", "-n", "-s", f"{ROOT}/Snakefile", "--cores", "1", *targets]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def declared(planned: str) -> set[str]:
    """Outputs, logs and benchmark files of a dry run's jobs."""
    lines = re.findall(r"^    (?:output|log|benchmark): (.*)$", planned, flags=re.MULTILINE)
    return {path for line in lines for path in line.split(", ")}


def count(paths: set[str]) -> tuple[dict[str, int], Counter]:
    """Files and folders by kind, of which `paths` are the declared ones; and the number of entries of each folder."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    folders = Counter(os.path.dirname(path) for path in paths)
    number = {"images": 0, "square masks": 0, "packs and indexes of margin maps": 0}
    for dataset, name in NAMES.items():
        masks = yaml.safe_load((ROOT / f"config/datasets/{dataset}.yaml").read_text())["pairs"]["train"]
        chosen = config["synthetic_sets"][f"{dataset}-filtered"]
        plan, results = config["plans"][chosen["plan"]], Path("results", dataset)
        images_dir, packs = results / "synthesis" / chosen["generator"] / "images", 2 * config["shards"]
        ids = [name.format(position) for position in range(masks)]
        images = STRATEGIES[plan["strategy"]](Masks(ids, np.arange(1, masks + 1)), plan["n_max"])
        for mask_id, made in zip(ids, images.tolist(), strict=True):
            folders[os.path.dirname(mask_path(results / "masks", mask_id))] += 1
            folders[os.path.dirname(image_path(images_dir, mask_id, 42))] += made
        folders[f"{results}/margins/{chosen['generator']}/digest"] += packs
        number["images"] += int(images.sum())
        number["square masks"] += masks
        number["packs and indexes of margin maps"] += packs
    number["tables, logs and others"] = len(paths)
    made = {parent for folder in folders for parent in (Path(folder), *Path(folder).parents)} - {Path()}
    for folder in made:
        folders[str(folder.parent)] += 1
    number["folders"] = len(made)
    return number, folders


if __name__ == "__main__":
    cli.run(files)
