"""A toy data set taken through every planning script, with noise where the generator and the segmentor would be."""

from pathlib import Path

import numpy as np
import packed
import pandas as pd
from command_line import run_script
from PIL import Image

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path

CLASSES = {1: ("sky", "#6ab4f0"), 2: ("building", "#b4785a"), 4: ("road", "#787878"), 5: ("tree", "#2e7d32"),
           6: ("sea", "#1565c0"), 9: ("ship", "#ff3d00")}  # fmt: skip
HARD = {1: 0.05, 2: 0.4, 4: 0.2, 5: 0.3, 6: 0.25, 9: 1.6}


def draw_mask(random: np.random.Generator, height: int, width: int, ship: bool) -> np.ndarray:
    """Sky over sea or road, a building, a tree, perhaps a ship; a frame of ignored pixels."""
    mask = np.full((height, width), 1, np.uint8)
    horizon = int(height * random.uniform(0.45, 0.65))
    mask[horizon:] = 6 if ship else 4
    left = int(width * random.uniform(0, 0.6))
    mask[horizon - height // 3 : horizon, left : left + width // 4] = 2
    rows, columns = np.mgrid[:height, :width]
    mask[(rows - horizon) ** 2 + (columns - width * 0.8) ** 2 < (0.13 * width) ** 2] = 5
    if ship:
        mask[horizon + height // 12 : horizon + height // 5, width // 3 : width // 2] = 9
    mask[:2], mask[:, -2:] = 0, 0
    return mask


def paint(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A noisy picture of a mask."""
    lut = np.zeros((256, 3))
    for label, (_, color) in CLASSES.items():
        lut[label] = [int(color[i : i + 2], 16) + random.normal(0, 18) for i in (1, 3, 5)]
    return np.clip(lut[mask] + random.normal(0, 12, (*mask.shape, 3)), 0, 255).astype(np.uint8)


def make(folder: Path, number: int = 12, side: int = 64, n_max: int = 4) -> Path:
    """Write images and masks and run index_dataset ... synthetic_set on them; every output lies in `folder`."""
    random = np.random.default_rng(0)
    lines = [f"{label}\t{name}\t{name}\t{color}" for label, (name, color) in CLASSES.items()]
    (folder / "classes.tsv").write_text("\n".join(["label\tname\tword\tcolor", *lines]) + "\n")
    for position in range(number):
        mask = draw_mask(random, side, side * 4 // 3, ship=position % 5 == 3)
        files.write_atomic(folder / "masks" / f"m{position:02d}.png", images.png_bytes(mask))
        files.write_atomic(folder / "images" / f"m{position:02d}.jpg", images.jpeg_bytes(paint(mask, random), 95))
    losses = [[label, name, HARD[label] * 1000, 1000, HARD[label]] for label, (name, _) in CLASSES.items()]
    columns = ["label", "name", "loss_sum", "pixels", "class_loss"]
    tables.write_table(folder / "class_loss.tsv", pd.DataFrame(losses, columns=columns))
    own = {"label_space": folder / "label_space.json"}
    LabelSpace.of_class_table(folder / "classes.tsv", 0).write(own["label_space"])
    run_script("index_dataset", images=folder / "images", masks=folder / "masks", image_suffix=".jpg",
               mask_suffix=".png", index=folder / "index.tsv")  # fmt: skip
    run_script("resize_masks", index=folder / "index.tsv", mask_size=side, masks_dir=folder / "square",
               masks=folder / "masks.tsv", **own)  # fmt: skip
    sums = [f"m{position:02d}\t1:10:2.5 9:4:0.125" for position in range(number)]
    (folder / "sums.tsv").write_text("\n".join(["mask_id\tsums", *sums]) + "\n")
    run_script("mask_hardness", masks=folder / "masks.tsv", class_loss=folder / "class_loss.tsv",
               hardness=folder / "hardness.tsv")  # fmt: skip
    run_script("plan_synthesis", hardness=folder / "hardness.tsv", strategy="hardness", n_max=n_max,
               mask_size=side, plan=folder / "plan.tsv")  # fmt: skip
    synthesize(folder, random)
    run_script("filter_masks", alpha=1.25, margins=folder / "margins.tsv", manifest=folder / "filtered.tsv",
               class_shares=folder / "filtered.classes.tsv", **own)  # fmt: skip
    run_script("synthetic_set", plan=folder / "plan.tsv", shards=[folder / "filtered.tsv"],
               class_shards=[folder / "filtered.classes.tsv"], train=folder / "train.tsv",
               class_shares=folder / "shares.tsv", shard_shares=folder / "shards.tsv", **own)  # fmt: skip
    return folder


def synthesize(folder: Path, random: np.random.Generator) -> None:
    """Images of the plan (shard.tsv), and margin maps that are high at class boundaries and on ships (margins.tsv)."""
    plan = tables.read_table(folder / "plan.tsv", ["mask_id", "seed"])
    rows, maps = [], {}
    for row in plan.itertuples():
        path = mask_path(folder / "square", row.mask_id)
        mask = images.read_mask(path)
        image = folder / "synthetic" / f"{row.mask_id}-{row.seed}.png"
        margin = f"{folder / 'margins'}/{row.mask_id}-{row.seed}.png"
        edge = np.abs(np.diff(mask.astype(int), axis=0, append=1)) + np.abs(np.diff(mask.astype(int), append=1)) > 0
        codes = random.gamma(2, 4, mask.shape) + 30 * edge + 14 * (mask == 9)
        files.write_atomic(image, images.png_bytes(paint(mask, random)))
        maps[margin] = np.clip(codes, 0, 255).astype(np.uint8)
        digest = files.sha256(image)
        rows.append([row.mask_id, row.seed, image, path, margin, images.stamp(digest, files.sha256(path)), digest])
    table = pd.DataFrame(rows, columns=["mask_id", "seed", "image", "mask", "margin", "stamp", "sha256"])
    packed.pack(maps, table.stamp.tolist())
    tables.write_table(folder / "margins.tsv", table.drop(columns="sha256"))
    tables.write_table(folder / "shard.tsv", table[["mask_id", "seed", "image", "sha256"]])


def is_image(path: Path) -> bool:
    """Whether a file can be opened as an image."""
    with Image.open(path) as image:
        image.verify()
    return True
