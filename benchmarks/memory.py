"""Measure peak memory and time of the CPU scripts at a data set's size; see `memory`."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from freemask import cli, files, images, packs, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path
from freemask.generation.shard import image_path

ROOT = Path(__file__).resolve().parent.parent
SIDE, CLASSES = 32, 12  # side of the masks [pixels]; labels 1 to CLASSES, all of them in every mask
SPACE = "--label-space label_space.json"
COMMANDS = {
    "index_dataset": "--images images --masks masks --image-suffix .jpg --mask-suffix .png --index index.tsv",
    "check_dataset": f"--index index.tsv {SPACE} --frequencies check.tsv --offenders offenders.tsv --cache cache",
    "resize_masks": f"--index index.tsv {SPACE} --mask-size {SIDE} --masks-dir r/masks --masks r/masks.tsv",
    "gather_class_loss": f"--index index.tsv --shards sums.tsv {SPACE} --class-loss class_loss.tsv",
    "mask_hardness": "--masks r/masks.tsv --class-loss class_loss.tsv --hardness hardness.tsv",
    "plan_synthesis": "--hardness hardness.tsv --strategy hardness --n-max 1 --plan plan.tsv",
    "filter_masks": f"--alpha 1.25 --margins r/margins/g/p/1.tsv {SPACE}"
    " --manifest r/filtered/g/p/alpha-1.25/1.tsv --class-shares r/filtered/g/p/alpha-1.25/1.classes.tsv",
    "synthetic_set": "--plan plan.tsv --shards r/filtered/g/p/alpha-1.25/1.tsv --class-shards"
    f" r/filtered/g/p/alpha-1.25/1.classes.tsv {SPACE} --train r/synthetic/s/train.tsv --class-shares shares.tsv",
    "verify": "--folder r --report report.tsv",
}
# Runs a script, then writes the peak of its own memory [kB]; what wait4 reports contains the parent's.
WATCHED = """
import atexit, runpy, sys
atexit.register(lambda: open("peak", "w").write(open("/proc/self/status").read()))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def memory(*, masks: cli.Positive = 118_287) -> None:
    """Print peak resident memory [MB] and time [s] of every script between a data set and its synthetic set.

    Images and masks are links to one small file each: tables and numbers of files have the real size. Linux only.

    Args:
        masks: Number of masks, each with an image and a synthetic image; by default COCO-Stuff's.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_data(masks)
        for script, options in COMMANDS.items():
            if script == "filter_masks":
                write_synthesis()
            start = time.monotonic()
            run(script, options.split())
            peak = int(re.search(r"VmHWM:\s+(\d+)", Path("peak").read_text())[1]) / 1024
            cli.tell(f"{script}: {peak:.0f} MB, {time.monotonic() - start:.0f} s at {masks:,} masks")
        os.chdir(ROOT)


def run(script: str, words: list[str]) -> None:
    """Run a script; a failure ends the benchmark."""
    command = [sys.executable, "-c", WATCHED, str(ROOT / "scripts" / f"{script}.py"), *words, "--log", "log"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{script} failed: {Path('log').read_text()}")


def write_data(masks: int) -> None:
    """Write the class table, images, masks, and the sums of class losses that the GPU script class_loss makes."""
    random = np.random.default_rng(0)
    lines = [f"{label}\tclass {label}\tword\t#8080{label:02x}" for label in range(1, CLASSES + 1)]
    Path("classes.tsv").write_text("\n".join(["label\tname\tword\tcolor", *lines]) + "\n")
    LabelSpace.of_class_table("classes.tsv", 0).write("label_space.json")
    files.write_atomic("one.jpg", images.jpeg_bytes(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8), 95))
    files.write_atomic("one.png", images.png_bytes(random.integers(0, CLASSES + 1, (SIDE, SIDE), np.uint8)))
    sums = " ".join(f"{label}:80:{label / 7}" for label in range(1, CLASSES + 1))
    names = [f"training_{number:08d}" for number in range(masks)]
    for name in names:
        link("one.jpg", f"images/{name}.jpg")
        link("one.png", f"masks/{name}.png")
    Path("sums.tsv").write_text("\n".join(["mask_id\tsums", *(f"{name}\t{sums}" for name in names)]) + "\n")


def write_synthesis() -> None:
    """Write images and margin maps of the plan, and their manifests."""
    plan = tables.read_table("plan.tsv", ["mask_id", "seed"])[["mask_id", "seed"]]
    rows = list(zip(plan.mask_id, plan.seed, strict=True))
    plan["image"] = [str(image_path(Path("r/synthesis/g/images"), *row)) for row in rows]
    for image in plan["image"]:
        link("one.jpg", image)
    digests = [files.sha256(name) for name in ("one.jpg", "one.png")]
    tables.write_table("r/synthesis/g/p/1.tsv", plan.assign(sha256=digests[0]))
    stamp, png = images.stamp(*digests), Path("one.png").read_bytes()
    plan["mask"] = [str(mask_path(Path("r/masks"), mask_id)) for mask_id in plan["mask_id"]]
    plan["margin"] = [f"r/margins/g/digest/{mask_id}-{seed}.png" for mask_id, seed in rows]
    with packs.Writer(Path("r/margins/g/digest")) as writer:
        for margin in plan["margin"]:
            writer.add(Path(margin).name, stamp, png)
    tables.write_table("r/margins/g/p/1.tsv", plan.assign(stamp=stamp))


def link(source: str, target: str) -> None:
    """Link, or copy: a file system allows some 65,000 links to one file."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    cli.run(memory)
