"""Time that a training waits for data beside steps on a GPU, and takes to load a pair; see `data_loading`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from freemask import cli, files, images, packs, tables

ROOT = Path(__file__).parents[1]
WARM_UP = 20  # steps that aren't counted: loading processes start, caches fill
PAIRS, SIDE = 64, 512  # synthetic pairs, and their side [pixels]
SETS = {"stored": "filtered/synthetic/*.png", "filtered": "margins/*.tar"}  # tables, and where their filter is stored
TABLES = {"train": "real pairs", "stored": "stored filtered masks", "filtered": "masks filtered when read"}


def data_loading(
    *,
    model: str = "segformer_mit-b2",
    step: float = 0.1,
    steps: cli.Positive = 100,
    workers: list[int] | None = None,
    rounds: cli.Positive = 10,
) -> None:
    """Measure how long a training waits for each batch while a GPU computes for `step` seconds.

    The step is a pause, in which the processors are free for the loading processes, as beside a GPU. Images are the
    miniature world's, brought to the model's sizes by its own pipeline, and synthetic pairs of 512x512, whose masks are
    filtered when they are read or stored after the filter.

    Then measure the processor time of loading a synthetic pair in both ways, side by side. Both must give the same
    pairs.

    Args:
        model: Entry of config/models.yaml.
        step: Length of a step [s].
        steps: Number of steps.
        workers: Numbers of loading processes to compare (default: 1 2 4).
        rounds: How often each of the 64 synthetic pairs is loaded.
    """
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        write_world()
        write_synthetic()
        for count, table in product(workers or [1, 2, 4], ("train", *SETS)):
            waits = [1000 * wait for wait in measure(model, f"{table}.tsv", count, step, steps)]
            mean, median = statistics.mean(waits), statistics.median(waits)
            cli.tell(
                f"{model}, {TABLES[table]}, {count} loading process(es), step {1000 * step:.0f} ms: waits"
                f" {mean:.1f} ms on average (median {median:.1f} ms), {mean / (10 * step):.1f} % of a step"
            )
        compare_sets(model, rounds)
        os.chdir(ROOT)


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


def measure(model: str, table: str, workers: int, step: float, steps: int) -> list[float]:
    """Seconds that each batch is waited for."""
    from mmengine.runner import Runner

    batches = iter(Runner.build_dataloader(loader(model, table, workers, steps)))
    waits = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - start)
        time.sleep(step)
    return waits[WARM_UP:]


def loader(model: str, table: str, workers: int = 0, steps: int = 1) -> dict[str, Any]:
    """The configuration of a training's loader of the pairs in a table."""
    from mmengine.registry import init_default_scope

    from freemask.segmentation import registered  # noqa: F401
    from freemask.segmentation.config import Experiment, resolve

    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())[model]
    experiment = Experiment(
        name="benchmark",
        dataset="miniworld",
        label_space="label_space.json",
        regime="real",
        schedule=1,
        validation="val.tsv",
        train_seed=0,
        work_dir="work",
        real=table,
        gpus=entry["gpus"],
    )
    overrides = {**entry.get("overrides", {}), "train_cfg": {"val_interval": 0}}
    changed = {"workers": workers, "iterations": {"miniworld": steps}, "overrides": overrides}
    config = resolve(entry | changed, experiment)
    init_default_scope("mmseg")
    return config["train_dataloader"]


def write_synthetic() -> None:
    """Write synthetic pairs, their margin maps, and two tables: filtered when read, and filtered masks as PNGs."""
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import resize_nearest
    from freemask.filtering.scoring import margin_png
    from freemask.filtering.sets import mask_filters, read_filtered

    space, rows = LabelSpace.read("label_space.json"), []
    index = tables.read_table("train.tsv", ["mask_id", "image", "mask"])
    with packs.Writer(Path("margins")) as writer:
        for number in range(PAIRS):
            source, name = index.iloc[number % len(index)], f"synthetic/{number}"
            mask = resize_nearest(images.read_mask(source["mask"]), SIDE)
            noise = np.random.default_rng(number).integers(-6, 7, (SIDE, SIDE, 3))
            image = np.asarray(Image.open(source["image"]).resize((SIDE, SIDE))) + noise
            files.write_atomic(f"{name}.jpg", images.jpeg_bytes(np.clip(image, 0, 255).astype(np.uint8), 95))
            files.write_atomic(f"{name}.png", images.png_bytes(mask))
            writer.add(f"{number}.png", "-", margin_png(random_margins(space.to_train(mask), number)))
            rows.append((f"{name}.jpg", f"{name}.png", f"margins/{number}.png"))
    table = pd.DataFrame(rows, columns=["image", "mask", "margin"]).assign(stamp="-", filter="margin", alpha=1.25)
    for mask, mask_filter in zip(table["mask"], mask_filters(table), strict=True):
        files.write_atomic(f"filtered/{mask}", images.png_bytes(read_filtered(mask, mask_filter, space)))
    tables.write_table("filtered.tsv", table)
    tables.write_table("stored.tsv", table[["image"]].assign(mask="filtered/" + table["mask"]))


def random_margins(train: np.ndarray, seed: int) -> np.ndarray:
    """Margin codes (H, W) uint8 of noisy logits for a mask of train ids, at a quarter of its size as SegFormer's."""
    import torch
    from torch.nn.functional import cross_entropy, interpolate, one_hot

    from freemask.filtering.scoring import margin_codes, thresholds

    random, (classes, ids) = torch.Generator().manual_seed(seed), np.unique(train, return_inverse=True)
    mask = torch.from_numpy(ids.reshape(train.shape))
    right = interpolate(one_hot(mask, len(classes)).permute(2, 0, 1)[None].float(), scale_factor=1 / 4, mode="area")
    coarse = torch.randn((1, len(classes), SIDE // 16, SIDE // 16), generator=random)
    noise = interpolate(coarse, scale_factor=4, mode="bilinear") + 0.4 * torch.randn(right.shape, generator=random)
    logits = interpolate(4 * right + noise, scale_factor=4, mode="bilinear")
    loss = cross_entropy(logits, mask[None], reduction="none")[0]
    means = torch.stack([loss[mask == number].double().mean() for number in range(len(classes))])
    return margin_codes(loss, mask.to(torch.uint8), thresholds(means)).numpy()


def compare_sets(model: str, rounds: int) -> None:
    """Load the pairs of both tables by turns, in this process; say how much processor time each takes.

    Stored masks are also loaded with mmsegmentation's own RandomCrop, as by earlier versions.
    """
    import torch
    from mmseg.datasets import transforms
    from mmseg.registry import DATASETS

    from freemask.segmentation.samplers import Draw

    torch.set_num_threads(1)
    sets = {TABLES[name]: DATASETS.build(loader(model, f"{name}.tsv")["dataset"]) for name in SETS}
    sets["before: stored, mmsegmentation's crops"] = before = DATASETS.build(loader(model, "stored.tsv")["dataset"])
    for place, step in enumerate(before.pipeline.transforms):
        if isinstance(step, transforms.RandomCrop):
            before.pipeline.transforms[place] = transforms.RandomCrop(step.crop_size, step.cat_max_ratio)
    spent: dict[str, list[float]] = {name: [] for name in sets}
    for position in range(rounds * PAIRS):
        loaded = []
        for name in sets if position % 2 else reversed(sets):
            start = time.process_time()
            loaded.append(sets[name][Draw.make(position % PAIRS, (0, position))])
            spent[name].append(time.process_time() - start)
        if not all(torch.equal(pair["inputs"], loaded[0]["inputs"]) for pair in loaded):
            raise SystemExit("the images differ")
        masks = [pair["data_samples"].gt_sem_seg.data for pair in loaded]
        if not all(torch.equal(mask, masks[0]) for mask in masks):
            raise SystemExit("the masks differ")
    for name, seconds in spent.items():
        median = statistics.median(seconds)
        cli.tell(f"{model}, {name}: {1000 * median:.1f} ms a pair, {1 / median:.1f} pairs/s")
    for name, path in SETS.items():
        size = sum(file.stat().st_size for file in Path().glob(path)) / PAIRS
        cli.tell(f"{TABLES[name]}: {size / 1e3:.0f} kB a pair beside image and mask")


if __name__ == "__main__":
    cli.run(data_loading)
