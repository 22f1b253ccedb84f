"""Time that a training waits for data beside steps on a GPU; see `data_loading`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from freemask import cli

ROOT = Path(__file__).parents[1]
WARM_UP = 20  # steps that aren't counted: loading processes start, caches fill


def data_loading(
    *, model: str = "segformer_mit-b2", step: float = 0.1, steps: cli.Positive = 100, workers: list[int] | None = None
) -> None:
    """Measure how long a training waits for each batch while a GPU computes for `step` seconds.

    The step is a pause, in which the processors are free for the loading processes, as beside a GPU. Images are the
    miniature world's, brought to the model's sizes by its own pipeline.

    Args:
        model: Entry of config/models.yaml.
        step: Length of a step [s].
        steps: Number of steps.
        workers: Numbers of loading processes to compare (default: 1 2 4).
    """
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        write_world()
        for count in workers or [1, 2, 4]:
            waits = [1000 * wait for wait in measure(model, count, step, steps)]
            mean, median = statistics.mean(waits), statistics.median(waits)
            cli.tell(
                f"{model}, {count} loading process(es), step {1000 * step:.0f} ms: waits {mean:.1f} ms on average "
                f"(median {median:.1f} ms), {mean / (10 * step):.1f} % of a step"
            )


def write_world() -> None:
    """Write the miniature world, its index and its label space to the working directory."""
    from freemask.data.label_space import LabelSpace

    dataset = yaml.safe_load((ROOT / "config/datasets/miniworld.yaml").read_text())
    world = json.dumps(dataset["miniworld"] | {"validation": 2})
    run("make_miniworld", root="world", world=world, manifest="raw.tsv")
    images, masks = (f"world/{dataset[kind]['train']}" for kind in ("images", "masks"))
    suffixes = {"image_suffix": dataset["image_suffix"], "mask_suffix": dataset["mask_suffix"]}
    run("index_dataset", images=images, masks=masks, index="train.tsv", **suffixes)
    space = LabelSpace.of_class_table(ROOT / dataset["classes"], dataset["ignored_label"])
    space.write("label_space.json")


def run(script: str, **options: object) -> None:
    """Run a script."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
    subprocess.run(command, check=True, capture_output=True)


def measure(model: str, workers: int, step: float, steps: int) -> list[float]:
    """Seconds that each batch is waited for."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from freemask.segmentation import registered  # noqa: F401
    from freemask.segmentation.config import Experiment, read_model, resolve

    entry = read_model(ROOT / "config/models.yaml", model)
    experiment = Experiment(
        name="benchmark",
        dataset="miniworld",
        label_space="label_space.json",
        regime="real",
        schedule=1,
        validation="val.tsv",
        train_seed=0,
        work_dir="work",
        real="train.tsv",
        gpus=entry["gpus"],
    )
    config = resolve(entry | {"workers": workers, "iterations": {"miniworld": steps}}, experiment)
    init_default_scope("mmseg")
    batches = iter(Runner.build_dataloader(config["train_dataloader"]))
    waits = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - start)
        time.sleep(step)
    return waits[WARM_UP:]


if __name__ == "__main__":
    cli.run(data_loading)
