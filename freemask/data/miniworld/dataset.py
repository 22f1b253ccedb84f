"""The miniature world on disk (ADE20K's folder layout) and as a stream for its generator."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from freemask.cli import progress
from freemask.data.miniworld.scenes import render
from freemask.files import write_atomic
from freemask.images import jpeg_bytes, png_bytes

# A seed sequence per split: splits share no scene.
SPLITS = {"training": 0, "validation": 1, "generator": 2}
JPEG_QUALITY = 95


def scene(split: str, index: int, seed: int, side: int, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scene `index` of a split: image (side, side, 3) uint8, raw ADE20K labels (side, side) uint8, 0 = ignored."""
    return render(np.random.default_rng([seed, SPLITS[split], index]), side, missing)


def write_split(root: Path, split: str, count: int, seed: int, side: int) -> list[str]:
    """Write images/{split}/*.jpg and annotations/{split}/*.png, and remove scenes of an earlier, larger world.

    Returns: The file names without suffix.
    """
    names = []
    for index in progress(range(count), f"miniature world, {split}", "image"):
        image, labels = scene(split, index, seed, side)
        name = f"world_{split[:5]}_{index:05d}"
        write_atomic(root / "images" / split / f"{name}.jpg", jpeg_bytes(image, JPEG_QUALITY))
        write_atomic(root / "annotations" / split / f"{name}.png", png_bytes(labels))
        names.append(name)
    for kind in ("images", "annotations"):
        for path in (root / kind / split).glob("world_*"):
            if path.stem not in names:
                path.unlink()
    return names


def _chunk(arguments: tuple[range, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    indices, seed, side, missing = arguments
    images, labels = zip(*(scene("generator", i, seed, side, missing) for i in indices), strict=True)
    return np.stack(images), np.stack(labels)


def render_stream(count: int, seed: int, side: int, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """The generator's training pairs, rendered on all cores.

    Returns: images (count, side, side, 3) uint8, raw labels (count, side, side) uint8.
    """
    chunks = [(range(start, min(start + 100, count)), seed, side, missing) for start in range(0, count, 100)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        rendered = list(progress(pool.map(_chunk, chunks), "rendering the stream", "x100 scenes", len(chunks)))
    images, labels = (list(part) for part in zip(*rendered, strict=True))
    return np.concatenate(images), np.concatenate(labels)
