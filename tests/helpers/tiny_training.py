"""A working directory with a few small pairs and a model that trains in seconds, for tests that train."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from command_line import run_script

from freemask import files, images
from freemask.data.label_space import LabelSpace

ROOT = Path(__file__).parents[2]
COLORS = np.array([[0, 0, 0], [120, 170, 230], [30, 80, 140], [200, 60, 50]], np.uint8)
SPACE = LabelSpace(
    ids=(1, 2, 3),
    names=("sky", "sea", "ship"),
    words=("sky", "sea", "ship"),
    colors=tuple(tuple(color) for color in COLORS[1:].tolist()),
    ignored=0,
)


def call(name: str, **options: Any) -> None:
    """Run a script in this process, as if it were one of its own.

    mmengine stores a run's state, logs and curves under a name with a time in whole seconds: two runs that start in one
    second of one process would share them. So each waits for the next.
    """
    if name in ("train", "evaluate"):
        time.sleep(1.01 - time.time() % 1)
    run_script(name, **options)


def write_pairs(folder: Path, count: int, seed: int) -> None:
    """Write pairs of a horizon between two classes, and a box of the third; a few ignored pixels."""
    rng = np.random.default_rng(seed)
    rows = ["mask_id\timage\tmask"]
    for number in range(count):
        mask = np.ones((32, 32), np.uint8)
        mask[rng.integers(8, 24) :] = 2
        y, x = rng.integers(4, 22, 2)
        mask[y : y + 6, x : x + 6] = 3
        image = np.clip(COLORS[mask] + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        mask[:2, :3] = 0
        for suffix, content in ((".jpg", images.jpeg_bytes(image, 95)), (".png", images.png_bytes(mask))):
            files.write_atomic(folder / f"{number}{suffix}", content)
        rows.append(f"{number}\t{folder}/{number}.jpg\t{folder}/{number}.png")
    files.write_atomic(f"{folder}.tsv", ("\n".join(rows) + "\n").encode())


def write_world(iterations: int) -> dict:
    """Write real, synthetic and validation pairs and the model `tiny` here; returns its entry of models.yaml."""
    SPACE.write("label_space.json")
    for seed, (name, count) in enumerate({"real": 6, "synthetic": 8, "val": 5}.items()):
        write_pairs(Path(name), count, seed)
    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())["segformer_mini"]
    entry |= {"iterations": {"tiny": iterations}, "batch_size": 2, "workers": 0}
    entry["overrides"]["model"]["data_preprocessor"]["size"] = [32, 32]
    for step in entry["overrides"]["train_dataloader"]["dataset"]["pipeline"]:
        step |= {key: [32, 32] for key in ("scale", "crop_size") if key in step}
    entry["overrides"]["default_hooks"] = {"checkpoint": {"interval": 2}, "logger": {"interval": 2}}
    Path("models.yaml").write_text(yaml.safe_dump({"tiny": entry}))
    return entry


def configure(folder: str | Path, regime: str = "real", model: str = "tiny", **options: Any) -> Path:
    """Write <folder>/seed-0/config.py; returns its path."""
    config = Path(folder, "seed-0/config.py")
    tables = {"train": "real.tsv", "val": "val.tsv", "synthetic": "synthetic.tsv"}
    if regime == "finetune":
        options.setdefault("initial", "synthetic/seed-0/weights.pth")
    given = tables | options
    call(
        "training_config",
        settings=json.dumps(yaml.safe_load(Path("models.yaml").read_text())[model]),
        dataset="tiny",
        label_space="label_space.json",
        regime=regime,
        train_seed=0,
        config=config,
        **given,
    )
    return config
