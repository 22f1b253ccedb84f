"""Peak memory of every script between a data set and its synthetic set, at two numbers of images.

Each script runs as a command of its own on N masks of 32x32 pixels with 12 classes and an image each, the two that
score with the miniature segmentor; prints its peak resident memory [MB] at both N and their ratio, which should stay
below 1.2. Tables and files of the size are made first.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from freemask import cli, files, images, tables

ROOT = Path(__file__).resolve().parent.parent
SIDE, IMAGES, CLASSES = 32, 1, 12  # pixels; images per mask; labels 1 to CLASSES, all of them in the mask
OWN = "--classes classes.tsv --ignored-label 0"
COMMANDS = {
    "index_dataset": "--images images --masks masks --image-suffix .jpg --mask-suffix .png --index index.tsv",
    "check_dataset": f"--index index.tsv {OWN} --frequencies check.tsv --offenders offenders.tsv --cache cache.sqlite",
    "resize_masks": f"--index index.tsv {OWN} --mask-size {SIDE} --masks-dir r/masks --masks r/masks.tsv",
    "class_loss": f"--index index.tsv {OWN} --config config.py --weights weights.pth --sums sums.tsv --device cpu"
    " --threads 1",
    "gather_class_loss": f"--index index.tsv --shards sums.tsv {OWN} --class-loss class_loss.tsv",
    "mask_hardness": "--masks r/masks.tsv --class-loss class_loss.tsv --hardness hardness.tsv",
    "plan_synthesis": f"--hardness hardness.tsv --strategy hardness --n-max {IMAGES} --plan plan.tsv",
    "measure_margins": f"--shard r/synthesis/g/p/1.tsv --masks r/masks.tsv --class-loss class_loss.tsv {OWN} --config"
    " config.py --weights weights.pth --margins-dir r/margins/g --manifest r/margins/g/p/1.tsv --device cpu"
    " --threads 1",
    "filter_masks": f"--alpha 1.25 --margins r/margins/g/p/1.tsv {OWN} --filtered-dir r/filtered/g/alpha-1.25"
    " --manifest r/filtered/g/p/alpha-1.25/1.tsv --class-shares r/filtered/g/p/alpha-1.25/1.classes.tsv",
    "filter_masks --alpha inf": f"--images r/synthesis/g/p/1.tsv --masks r/masks.tsv {OWN} --filtered-dir r/unfiltered"
    " --manifest r/filtered/g/p/alpha-inf/1.tsv --class-shares r/filtered/g/p/alpha-inf/1.classes.tsv",
    "synthetic_set": "--plan plan.tsv --shards r/filtered/g/p/alpha-1.25/1.tsv --class-shards"
    f" r/filtered/g/p/alpha-1.25/1.classes.tsv {OWN} --train r/synthetic/s/train.tsv --class-shares shares.tsv",
    "verify": "--folder r --report report.tsv",
}
# Runs a script, then notes its own peak [kB] as Linux counts it; what wait4 tells has the parent's in it.
WATCHED = """
import atexit, re, runpy, sys
def note():
    with open("/proc/self/status") as status, open("peak", "w") as peak:
        peak.write(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
atexit.register(note)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000, help="masks (default: 1000)")
    parser.add_argument("--many", type=int, default=20000, help="masks (default: 20000)")
    return parser


def write_raw(number: int) -> None:
    """Raw images and masks, as hard links to a few: what scripts hold in memory is the same."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        Path(folder).mkdir()
    classes = [f"{label}\tclass {label}\tword\t#8080{label:02x}\n" for label in range(1, CLASSES + 1)]
    Path("classes.tsv").write_text("label\tname\tword\tcolor\n" + "".join(classes))
    files.write_atomic("one.jpg", images.jpeg_bytes(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8), 95))
    files.write_atomic("one.png", images.png_bytes(random.integers(0, CLASSES + 1, (SIDE, SIDE), np.uint8)))
    for position in range(number):
        for folder, suffix in (("images", "jpg"), ("masks", "png")):
            copy(f"one.{suffix}", f"{folder}/training_{position:08d}.{suffix}")
    write_segmentor()


def write_segmentor() -> None:
    """The miniature segmentor with random weights."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    settings = json.dumps(yaml.safe_load((ROOT / "config/models.yaml").read_text())["segformer_mini"]).replace(
        '"miniworld"', '"memory"'
    )
    given = {"settings": settings, "dataset": "memory", "regime": "real", "schedule": 1, "train-seed": 0, "gpus": 0}
    given |= {"train": "index.tsv", "val": "index.tsv", "classes": "classes.tsv", "ignored-label": 0}
    arguments = [word for key, value in (given | {"config": "config.py"}).items() for word in (f"--{key}", str(value))]
    pairs = pd.DataFrame({"mask_id": ["one"], "image": ["one.jpg"], "mask": ["one.png"]})
    tables.write_table("index.tsv", pairs)
    run("training_config", arguments)
    init_default_scope("mmseg")
    torch.save(MODELS.build(Config.fromfile("config.py").model).state_dict(), "weights.pth")


def copy(source: str, target: str) -> None:
    """Link, or copy where links end (a file system allows some 65,000 to one file)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_synthetic() -> None:
    """Images of the plan, and their manifest."""
    plan = tables.read_table("plan.tsv", ["mask_id", "seed"])
    plan["image"] = [f"r/synthesis/g/images/{row.mask_id}/{row.seed}.jpg" for row in plan.itertuples()]
    for path in plan["image"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        copy("one.jpg", path)
    tables.write_table("r/synthesis/g/p/1.tsv", plan.assign(sha256=files.sha256("one.jpg")))


def peak(command: str) -> float:
    """Run a script; its peak resident memory [MB]."""
    script, *options = command.split()
    run(script, [*options, *COMMANDS[command].split()])
    return int(Path("peak").read_text()) / 1024


def run(script: str, words: list[str]) -> None:
    """Run a script to a good end."""
    arguments = [str(ROOT / "scripts" / f"{script}.py"), *words, "--log", "log"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", WATCHED, *arguments], env=environment, stderr=subprocess.DEVNULL)
    if ran.returncode:
        raise SystemExit(f"{script} failed: {Path('log').read_text()}")


def measure(number: int) -> dict[str, float]:
    """Peak memory of each script [MB] at a number of masks."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_raw(number)
            peaks = {}
            for script in COMMANDS:
                if script == "measure_margins":
                    write_synthetic()
                peaks[script] = peak(script)
                cli.tell(f"{script}: {peaks[script]:.0f} MB at {number:,} masks")
        finally:
            os.chdir(before)
    return peaks


def main(arguments: argparse.Namespace) -> None:
    """Measure at both numbers, print."""
    few, many = measure(arguments.few), measure(arguments.many)
    for script in COMMANDS:
        cli.tell(f"{script}: {many[script]:.0f} MB / {few[script]:.0f} MB = {many[script] / few[script]:.2f}")


if __name__ == "__main__":
    main(options().parse_args())
