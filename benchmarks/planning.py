"""Time and memory of the scripts that handle tables, at the size of COCO-Stuff; see `planning`."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.tables import read_table, write_table

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 171
SPACE = "--label-space label_space.json"
COMMANDS = {
    "gather_class_loss": f"--index index.tsv --shards sums.tsv {SPACE} --class-loss class_loss.tsv",
    "mask_hardness": "--masks masks.tsv --class-loss class_loss.tsv --hardness hardness.tsv",
    "plan_synthesis": "--hardness hardness.tsv --masks masks.tsv --class-loss class_loss.tsv --strategy class_balanced"
    " --n-max 6 --plan plan.tsv",
    "filter_masks": f"--filter none --alpha inf --images images.tsv --masks masks.tsv {SPACE} --filtered-dir filtered"
    " --manifest manifest.tsv --class-shares shares.tsv",
    "synthetic_set": f"--plan plan.tsv --shards manifest.tsv --class-shards shares.tsv {SPACE} --train train.tsv"
    " --class-shares classes.tsv",
}
# Runs a script and prints its own peak memory [kB] at the end.
WATCHED = "import atexit, runpy, sys; del sys.argv[0]; atexit.register(lambda: print(open('/proc/self/status').read()))"
WATCHED += "; runpy.run_path(sys.argv[0], run_name='__main__')"


def planning(*, masks: cli.Positive = 118287) -> None:
    """Time the scripts that handle tables of masks and images, and measure their peak memory, on made-up tables.

    Args:
        masks: Number of masks (default: COCO-Stuff's; about four images each).
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_tables(masks)
        for script, options in COMMANDS.items():
            if script == "filter_masks":
                write_images()
            seconds, megabytes = run(script, options.split())
            cli.tell(f"{script}: {seconds:.1f} s, {megabytes:.0f} MB")
        os.chdir(ROOT)


def write_tables(number: int) -> None:
    """Label space, index, sums of loss and masks table of N masks with 12 classes each."""
    random = np.random.default_rng(0)
    names = tuple(f"class {label}" for label in range(CLASSES))
    LabelSpace(tuple(range(CLASSES)), names, names, ((0, 0, 0),) * CLASSES, 255).write("label_space.json")
    labels = np.sort(np.argsort(random.random((number, CLASSES)), axis=1)[:, :12], axis=1).tolist()
    ids = [f"{position:012d}" for position in range(number)]
    write_table("index.tsv", pd.DataFrame({"mask_id": ids, "image": "image.jpg", "mask": "mask.png"}))
    sums = [" ".join(f"{label}:20000:{random.gamma(2) * 1000}" for label in held) for held in labels]
    write_table("sums.tsv", pd.DataFrame({"mask_id": ids, "sums": sums}))
    counts = [" ".join(f"{label}:20000" for label in held) for held in labels]
    paths = [f"results/cocostuff164k/masks/{mask_id}.png" for mask_id in ids]
    table = {"mask_id": ids, "mask": paths, "counts": counts, "mask_sha256": [f"{mask_id:0>64}" for mask_id in ids]}
    write_table("masks.tsv", pd.DataFrame(table))


def write_images() -> None:
    """A shard with all images of the plan."""
    plan = read_table("plan.tsv", ["mask_id", "seed"])
    folder = "results/cocostuff164k/synthesis/freestyle-cocostuff164k/images"
    plan["image"] = [f"{folder}/{row.mask_id}/{row.seed}.jpg" for row in plan.itertuples()]
    plan["sha256"] = [f"{row.mask_id}{row.seed:0>52}" for row in plan.itertuples()]
    write_table("images.tsv", plan)


def run(script: str, options: list[str]) -> tuple[float, float]:
    """Wall time [s] and peak resident memory [MB] of a script."""
    command = [sys.executable, "-c", WATCHED, str(ROOT / "scripts" / f"{script}.py"), *options]
    start = time.perf_counter()
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"{script} failed")
    return time.perf_counter() - start, int(re.search(r"VmHWM:\s+(\d+)", ran.stdout)[1]) / 1024


if __name__ == "__main__":
    cli.run(planning)
