"""A shard of images by the library's own loop, with noise for a generator that takes some seconds an image."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from freemask import cli
from freemask.files import write_atomic
from freemask.generation.shard import Shard, manifest, requests
from freemask.images import png_bytes
from freemask.stopping import Stop
from freemask.tables import write_table


def settings() -> dict:
    """Of this moment: a test may change them while shards are made."""
    return json.loads(Path("settings.json").read_text())


def note(line: str) -> None:
    """Append a line to events.txt, whole also where several jobs write."""
    events = os.open("events.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(events, f"{line}\n".encode())
    os.close(events)


class Noise:
    """An image is a function of mask id and seed. settings.json: seconds of an image; `hold` waits."""

    def prepare(self, masks, mask_ids, seeds):
        return mask_ids, seeds

    def generate(self, prepared):
        self.memory = np.ones(settings().get("megabytes", 0) << 17)
        end = time.monotonic() + settings()["seconds"]
        while time.monotonic() < end or settings().get("hold"):  # a signal's handler doesn't cut it short
            time.sleep(0.05)
        for name, seed in zip(*prepared, strict=True):
            note(f"image {name} {seed}")
        pixels = [
            np.random.default_rng([int(name[1:]), seed]).integers(0, 255, (16, 16, 3))
            for name, seed in zip(*prepared, strict=True)
        ]
        return np.array(pixels, np.uint8)


def make_shard(*, shard: str, table: Path) -> None:
    """Make the images of a shard and its manifest.

    Args:
        shard: Name of the shard: a number.
        table: Output, the manifest: mask_id, seed, image, sha256.
    """
    note(f"start {shard} {os.environ.get('SLURM_JOB_ID', '')}")
    mask = Path(f"masks/m{shard}.png")
    write_atomic(mask, png_bytes(np.full((16, 16), 3, np.uint8)))
    rows = pd.DataFrame([(f"m{shard}", seed) for seed in range(settings()["images"])], columns=["mask_id", "seed"])
    requested = requests(rows, {f"m{shard}": str(mask)}, {3: "sky"}, Path("images"))
    with Stop() as stop:
        made = Shard(Noise, None, batch_size=1, quality=95).make(requested, f"synthesize {shard}", stop)
        cli.tell(f"synthesize {shard}: {made} images made, {len(requested) - made} were there")
        write_table(table, manifest(requested))
    note(f"end {shard}")


if __name__ == "__main__":
    cli.run(make_shard)
