"""Margin maps in packs, as measure_margins leaves them."""

from pathlib import Path

import numpy as np

from freemask import images, packs


def pack(maps: dict[str, np.ndarray], stamps: list[str]) -> None:
    """Write maps, by their paths in one folder, to a new pack, with these stamps."""
    with packs.Writer(Path(next(iter(maps))).parent) as writer:
        for (path, codes), stamp in zip(maps.items(), stamps, strict=True):
            writer.add(Path(path).name, stamp, images.stamped_png(codes, stamp))


def read(path: str, stamp: str) -> np.ndarray:
    """Read a map."""
    (place,) = packs.find([path], [stamp])
    return images.read_mask(path, packs.read(place))
