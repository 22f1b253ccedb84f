"""Margin maps on disk: 8-bit PNGs, each stamped with what it was made from."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin

from freemask import files

STAMP = "freemask:source"  # PNG text chunk: digest of the image's and the mask's bytes


def mask_digests(shard: pd.DataFrame) -> list[str]:
    """SHA-256 of each row's mask; a mask that several rows name is read once. InputError where one is missing."""
    masks = {path: files.sha256_of_input(path) for path in shard["mask"].unique()}
    return [masks[path] for path in shard["mask"]]


def stamps(shard: pd.DataFrame) -> list[str]:
    """What each row's map must be stamped with: see stamp; from its columns image_sha256 and mask_sha256."""
    return [stamp(row.image_sha256, row.mask_sha256) for row in shard.itertuples()]


def stamp(image_sha256: str, mask_sha256: str) -> str:
    """What the map of an image and a mask must be stamped with."""
    return files.digest([image_sha256, mask_sha256])


def is_current(path: str | Path, stamp: str) -> bool:
    """Whether a map is there and carries the stamp."""
    try:
        with Image.open(path) as image:
            return image.info.get(STAMP) == stamp
    except OSError:  # not there, or no image
        return False


def write_map(path: str | Path, codes: np.ndarray, stamp: str) -> None:
    """Write margin codes (H, W) uint8 as a stamped PNG, atomically."""
    text = PngImagePlugin.PngInfo()
    text.add_text(STAMP, stamp)
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, format="PNG", pnginfo=text, compress_level=6)
    files.write_atomic(path, buffer.getvalue())
