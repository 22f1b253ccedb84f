"""Pairs of image (or latents) and mask that a generator is trained on, and the order in which they come."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from freemask.data.masks import resize_nearest
from freemask.errors import InputError
from freemask.generation.freestyle.pipeline import seeded
from freemask.images import read_image, read_mask
from freemask.streams import Stream
from freemask.tables import read_table


class LatentPairs(Dataset):
    """Encoded pairs: latents (N, C, h, w) float16 and raw labels (N, H, W) uint8, each with a name."""

    def __init__(self, latents: np.ndarray, labels: np.ndarray):
        self.latents, self.labels = latents, labels

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        return self.latents[index], self.labels[index], f"scene {index}"


class FilePairs(Dataset):
    """Pairs from a table (image, mask), squashed to size x size: images bicubic, masks as in resize_masks."""

    def __init__(self, table: Path, size: int):
        self.rows, self.size = read_table(table, ["image", "mask"]), size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        row = self.rows.iloc[index]
        image = Image.fromarray(read_image(row["image"]))
        pixels = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(pixels), resize_nearest(read_mask(row["mask"]), self.size), row["mask"]


class PairStream(Dataset):
    """An endless stream of pairs: pass after pass over all pairs, each pass in its own order.

    Pair and mirroring follow from the seed and the position alone. So a resumed training sees the remaining pairs, and
    processes and parts of a batch share one stream.
    """

    def __init__(self, pairs: Dataset, seed: int, flip: bool):
        """flip: Mirror half of the images; latents are never mirrored.

        Raises: InputError where there are no pairs.
        """
        if not len(pairs):
            raise InputError("generator training: no pairs; check the data set's folders of training images and masks")
        self.pairs, self.seed, self.flip = pairs, seed, flip
        self.stream = Stream(len(pairs), seed)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray, str, int]:
        """Image (H, W, 3) uint8 or latents (C, h, w), labels (H, W), name, position."""
        image, labels, name = self.pairs[self.stream[position]]
        if self.flip and image.dtype == np.uint8 and draw("flip", self.seed, position) < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return image, labels, name, position


def numbers(what: str, seed: int, position: int) -> torch.Generator:
    """The random number generator of a position of the stream."""
    return seeded(f"training:{what}:{seed}:{position}")


def draw(what: str, seed: int, position: int) -> float:
    """A random number in 0..1 for a position of the stream."""
    return torch.rand((), generator=numbers(what, seed, position)).item()


def positions(steps: range, parts: int, size: int, rank: int, ranks: int) -> Iterator[range]:
    """Positions that one of `ranks` processes takes from the stream: `parts` ranges of `size` for each step.

    Together the processes take each step's positions once, like one process with batches `ranks` times as large.
    """
    for step in steps:
        for part in range(parts):
            first = ((step * parts + part) * ranks + rank) * size
            yield range(first, first + size)


class Batch(NamedTuple):
    """Images (B, H, W, 3) uint8 or latents (B, C, h, w), labels (B, H, W) uint8, names, positions in the stream."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    positions: tuple[int, ...]


def stack(pairs: list[tuple[np.ndarray, np.ndarray, str, int]]) -> Batch:
    """Collate pairs of the stream into a batch."""
    images, labels, names, where = zip(*pairs, strict=True)
    return Batch(np.stack(images), np.stack(labels), names, where)
