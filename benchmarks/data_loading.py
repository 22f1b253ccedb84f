"""Share of a training's step that waits for data: the demo's segmentor on the miniature world, by mmengine's clocks.

A step's data time is what the training process waits for its batch, its step time the whole iteration. Trains with no
loading process and with one, alone, and two trainings at a time as `make demo` runs them. Prints medians over
means of 50 steps, after a warm-up of as many.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from freemask import cli, files

ROOT = Path(__file__).parents[1]
TARGET = 0.05
LOGGED = 50  # steps to a line of the log, which holds their mean: mmengine counts its logging as waiting for data


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="segformer_mini", help="entry of config/models.yaml (default: the demo's)")
    parser.add_argument("--iterations", type=int, default=400, help="of each training, 100 or more (default: 400)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training (default: 1)")
    parser.add_argument("--json", type=Path, help="output: the numbers as JSON")
    return parser


def script(name: str, *arguments: object) -> list[str]:
    """The command line of a script."""
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]


def write_world(folder: Path, arguments: argparse.Namespace) -> None:
    """The demo's data set and one config per number of loading processes."""
    facts = yaml.safe_load((ROOT / "config/datasets/miniworld.yaml").read_text())
    world = json.dumps(facts["miniworld"] | {"validation": 2})
    run(script("make_miniworld", "--root", "world", "--world", world, "--manifest", "raw.tsv"), folder)
    for split in ("train", "val"):
        places = ["--images", f"world/{facts['images'][split]}", "--masks", f"world/{facts['masks'][split]}"]
        suffixes = ["--image-suffix", facts["image_suffix"], "--mask-suffix", facts["mask_suffix"]]
        run(script("index_dataset", *places, *suffixes, "--index", f"{split}.tsv"), folder)
    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())[arguments.model]
    entry["iterations"] = {"miniworld": arguments.iterations}
    entry["overrides"]["default_hooks"] = {
        "checkpoint": {"interval": arguments.iterations},
        "logger": {"interval": LOGGED},
    }
    for workers in (0, 1):
        settings = json.dumps(entry | {"workers": workers})
        for copy in (0, 1):
            config = f"workers-{workers}-{copy}/seed-0/config.py"
            given = ["--settings", settings, "--dataset", "miniworld", "--regime", "real", "--train-seed", 0]
            given += ["--gpus", 0, "--train", "train.tsv", "--val", "val.tsv", "--config", config]
            classes = ["--classes", os.path.relpath(ROOT / facts["classes"], folder), "--ignored-label", 0]
            run(script("training_config", *given, *classes), folder)


def run(command: list[str], folder: Path) -> None:
    """Run a command to a good end, in silence."""
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)


def environment() -> dict[str, str]:
    """As the Makefile sets it: one thread a process."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, "1"), "PYTHONPATH": str(ROOT)}


def train(folder: Path, workers: int, copies: int, threads: int) -> list[tuple[float, float]]:
    """Train `copies` times at once; median data time and step time [s] of each."""
    names = [f"workers-{workers}-{copy}/seed-0" for copy in range(copies)]
    commands = [
        script("train", "--config", f"{name}/config.py", "--weights", f"{name}/weights.pth", "--threads", threads)
        for name in names
    ]
    running = [
        subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    codes = [process.wait() for process in running]
    assert not any(codes), f"a training ended with {codes}"
    return [times(folder / name / "work") for name in names]


def times(work: Path) -> tuple[float, float]:
    """Median data time and step time [s] of the newest training in a work folder."""
    log = max(work.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [row for row in rows if "data_time" in row][1:]  # in the first, caches fill and loading processes start
    return statistics.median(row["data_time"] for row in steps), statistics.median(row["time"] for row in steps)


def main(arguments: argparse.Namespace) -> None:
    """Train, read the clocks, report."""
    numbers = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, arguments)
        for copies in (1, 2):
            for workers in (0, 1):
                data, step = map(max, zip(*train(folder, workers, copies, arguments.threads), strict=True))
                share = data / step
                numbers[f"{copies} at a time, {workers} loading"] = {"data": data, "step": step, "share": share}
                verdict = "met" if share <= TARGET else "missed"
                cli.tell(
                    f"{copies} training(s) at a time, {workers} loading process(es) each: step {1000 * step:.1f} ms, of"
                    f" it waiting for data {1000 * data:.2f} ms = {100 * share:.1f} % (at most {100 * TARGET:.0f} %:"
                    f" {verdict})"
                )
    if arguments.json:
        files.write_json(arguments.json, numbers)


if __name__ == "__main__":
    main(options().parse_args())
