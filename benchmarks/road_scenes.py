"""A data set of CamVid's shape, as a user holds it, to go through docs/own-dataset.md with; see `road_scenes`."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from freemask import cli
from freemask.data.miniworld.scenes import (
    BUILDING,
    CAR,
    GRASS,
    PERSON,
    POOL,
    ROAD,
    SAND,
    SEA,
    SHIP,
    SKY,
    SKYSCRAPER,
    TREE,
    render,
)  # fmt: skip
from freemask.files import write_atomic
from freemask.images import jpeg_bytes, png_bytes

SPLITS = {"train": 367, "val": 101, "test": 233}  # CamVid's
WIDTH, HEIGHT, TILE = 480, 360, 5000  # pixels
DRAWN = 128  # side of a drawn scene, which is enlarged [pixels]
# label: name, color, labels of the miniature world. 11 is void.
CLASSES = {
    0: ("sky", "#808080", (SKY,)),
    1: ("building", "#800000", (BUILDING, SKYSCRAPER)),
    2: ("road", "#804080", (ROAD,)),
    3: ("tree", "#808000", (TREE,)),
    4: ("grass", "#c0c080", (GRASS,)),
    5: ("sea", "#000080", (SEA,)),
    6: ("sand", "#c0a000", (SAND,)),
    7: ("car", "#400080", (CAR,)),
    8: ("person", "#404000", (PERSON,)),
    9: ("ship", "#0080c0", (SHIP,)),
    10: ("swimming pool", "#00ffff", (POOL,)),
}
VOID = 11


def road_scenes(
    *, root: Path, form: Literal["labels", "colors", "tiles"] = "labels", number: cli.NotNegative = 0, seed: int = 1
) -> None:
    """Write images/{split}/*.png and masks/{split}/*.png: procedural scenes with 11 classes and void.

    labels: 480x360 pixels, masks hold 0..10 and 11 (void). colors: the same, masks as RGB; void is black. tiles: images
    of 5000x5000 pixels, many scenes each, as JPEG.

    Args:
        root: Output: folder of the data set.
        form: labels, colors or tiles.
        number: Images of each split; 0: CamVid's 367, 101 and 233.
        seed: Seed of all scenes.
    """
    for part, (split, count) in enumerate(SPLITS.items()):
        for index in cli.progress(range(number or count), f"road scenes, {split}", "image"):
            random = np.random.default_rng([seed, part, index])
            image, labels = tile(random) if form == "tiles" else scene(random)
            jpeg = form == "tiles"
            write_atomic(
                root / f"images/{split}/{index:04d}.{'jpg' if jpeg else 'png'}",
                jpeg_bytes(image, 90) if jpeg else png_bytes(image),
            )
            write_atomic(root / f"masks/{split}/{index:04d}.png", png_bytes(colored(labels, form == "colors")))


def scene(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (HEIGHT, WIDTH, 3) and its labels (HEIGHT, WIDTH), both uint8."""
    image, drawn = render(random, DRAWN)
    labels = np.full(256, VOID, np.uint8)
    for label, (*_, kinds) in CLASSES.items():
        labels[list(kinds)] = label
    mask = Image.fromarray(labels[drawn]).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)), np.asarray(mask)


def tile(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scenes side by side: an image (TILE, TILE, 3) and its labels (TILE, TILE)."""
    pairs = [[scene(random) for _ in range(0, TILE, WIDTH)] for _ in range(0, TILE, HEIGHT)]
    image, labels = (np.vstack([np.hstack([pair[part] for pair in row]) for row in pairs]) for part in (0, 1))
    return np.ascontiguousarray(image[:TILE, :TILE]), np.ascontiguousarray(labels[:TILE, :TILE])


def colored(labels: np.ndarray, colors: bool) -> np.ndarray:
    """Labels as they are, or in the colors of the classes; void is black."""
    table = np.zeros((VOID + 1, 3), np.uint8)
    for label, (_, color, _) in CLASSES.items():
        table[label] = list(bytes.fromhex(color[1:]))
    return table[labels] if colors else labels


if __name__ == "__main__":
    cli.run(road_scenes)
