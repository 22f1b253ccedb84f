"""Pairs of image (or latents) and mask that a generator is trained on."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from freemask.files import read_mask, read_table
from freemask.masks import resize_nearest


class LatentPairs(Dataset):
    """Pairs encoded before: latents (N, C, h, w) float16 and raw labels (N, H, W) uint8; never flipped."""

    def __init__(self, latents: np.ndarray, labels: np.ndarray):
        self.latents, self.labels = latents, labels

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.latents[index], self.labels[index]


class FilePairs(Dataset):
    """Pairs from a table (image, mask), squashed to size x size: images bicubic, masks as resize_masks has them."""

    def __init__(self, table: Path, size: int, flip: bool):
        self.rows, self.size, self.flip = read_table(table, ["image", "mask"]), size, flip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = self.rows.iloc[index]
        with Image.open(row["image"]) as image:
            pixels = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        labels = resize_nearest(read_mask(row["mask"]), self.size)
        return _maybe_flip(np.asarray(pixels), labels, self.flip)


def _maybe_flip(image: np.ndarray, labels: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    if flip and torch.rand(()) < 0.5:
        return image[:, ::-1].copy(), labels[:, ::-1].copy()
    return image, labels


def stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Collate to images (B, H, W, 3) uint8, or latents (B, C, h, w), and labels (B, H, W) uint8."""
    images, labels = zip(*pairs, strict=True)
    return np.stack(images), np.stack(labels)
