"""Estimated cost of a plan: GPU time, disk space, number of files."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.files import subfolder
from freemask.selection.hardness import images_at_rank

SECONDS_PER_IMAGE = 5.8  # one V100, 512x512, 50 steps; source: FreeMask, implementation details
BYTES_PER_PIXEL = 0.9  # JPEG at quality 95 without chroma subsampling, and its margin map; an estimate
FILES_PER_SHARD = 8  # of synthesis: table, log, benchmark; of margin maps: these, and archive and index of the pack


def cost(images: int, side: int, seconds_per_image: float) -> str:
    """Describe what a plan costs: number of images, GPU time, disk space.

    Args: side: of an image [pixels]; seconds_per_image: on one GPU.
    """
    size = images * side**2 * BYTES_PER_PIXEL
    disk = f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    return (
        f"{images:,} images of {side}x{side}: about {gpu_time(images * seconds_per_image)} at {seconds_per_image:g} s"
        f" an image (less where images are there already) and {disk} on disk"
    )


def images_of(plan: dict, masks: int) -> int:
    """Images of a plan before it is made: the rank formula's sum, which other strategies share out as well.

    n_max for each mask where the strategy is `all`, or comes from elsewhere.
    """
    if plan["strategy"] == "all" or ":" in plan["strategy"]:
        return masks * plan["n_max"]
    return int(images_at_rank(np.arange(1, masks + 1), plan["n_max"]).sum())


def files(images: int, mask_ids: Iterable[str], shards: int) -> int:
    """Files and folders that a plan makes, without tables of synthetic sets; mask_ids: those that have images."""
    return images + len({subfolder(mask_id) for mask_id in mask_ids}) + FILES_PER_SHARD * shards


def gpu_time(seconds: float) -> str:
    """Seconds as text: GPU hours, or minutes below an hour."""
    return f"{seconds / 3600:,.1f} GPU hours" if seconds >= 3600 else f"{seconds / 60:.1f} GPU minutes"


def job_seconds(benchmark: Path) -> float | None:
    """Wall time of a finished job, from Snakemake's benchmark file; None for a job that is running or was killed."""
    try:
        return float(benchmark.read_text().splitlines()[1].split("\t")[0])
    except (OSError, IndexError, ValueError):
        return None


def measured_seconds(logs: Path) -> pd.DataFrame:
    """Seconds per image that finished synthesis jobs took.

    From the log of each shard ("... 30 images made, ...") and Snakemake's benchmark file beside it: wall time of the
    whole job, loading included. Shards that made no image don't count.

    Args: logs: logs/<dataset>/synthesize, which holds <generator>/<plan>/<shard>.log.
    Returns: images, seconds_per_image by generator.
    """
    jobs = []
    for path in sorted(logs.glob("*/*/*.benchmark.tsv")):
        log, seconds = path.with_name(path.name.replace(".benchmark.tsv", ".log")), job_seconds(path)
        if seconds is None or not log.exists():
            continue
        text = log.read_text(errors="replace")
        made = re.findall(r"^(?:> )?synthesize \S+: (\d+) images made", text, re.MULTILINE)
        if made and int(made[-1]):
            jobs.append((path.parts[-3], int(made[-1]), seconds))
    totals = pd.DataFrame(jobs, columns=["generator", "images", "seconds"]).groupby("generator").sum()
    return totals.assign(seconds_per_image=totals.seconds / totals.images)[["images", "seconds_per_image"]]
