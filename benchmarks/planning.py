"""Time hardness and planning at the paper's sizes against a plain implementation, in one run.

Hardness of 20,210 masks of 512x512 with 150 classes: from the label counts that resize_masks leaves (reading the table
included) against a mean over every mask's pixels (decoding its PNG not included). A plan over 118,287 masks, from
hardness.tsv read to the plan written, in both: what plan_synthesis does against csv's reader and writer around loops
over sorted masks, as released. Prints seconds (median of five for plans) and ratios; both must give the same bytes.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from freemask import cli, tables
from freemask.data.masks import count_labels, read_masks
from freemask.selection import hardness, plans


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=20210, help="masks to rate (default: 20210, ADE20K)")
    parser.add_argument("--planned", type=int, default=118287, help="masks to plan for (default: 118287, COCO-Stuff)")
    parser.add_argument("--side", type=int, default=512, help="side of a mask [pixels] (default: 512)")
    return parser


def draw_masks(number: int, side: int) -> list[np.ndarray]:
    """Masks (side, side) uint8 of blocks of labels 0..150, few labels each, as in scenes."""
    random = np.random.default_rng(0)
    masks = []
    for _ in range(number):
        palette = random.choice(151, size=random.integers(2, 16), replace=False).astype(np.uint8)
        blocks = palette[random.integers(0, len(palette), (16, 16))]
        masks.append(np.kron(blocks, np.ones((side // 16, side // 16), np.uint8)))
    return masks


def rate_plainly(masks: list[np.ndarray], number: int, class_loss: np.ndarray) -> np.ndarray:
    """Hardness pixel by pixel: look up every pixel's class loss, average over the labelled ones."""
    rated = np.empty(number)
    for position in range(number):
        mask = masks[position % len(masks)]
        rated[position] = class_loss[mask[mask != 0]].mean()
    return rated


def plan_plainly(hardness_path: Path, plan_path: Path, n_max: int) -> None:
    """The plan by sorting and looping."""
    with open(hardness_path, newline="") as file:
        table = csv.reader(file, delimiter="\t")
        next(table)
        rated = [(mask_id, float(value)) for mask_id, value, _ in table]
    images = {}
    for p, (mask_id, _) in enumerate(sorted(rated, key=lambda pair: pair[1]), start=1):
        images[mask_id] = min(1 + round(n_max * p / len(rated)), n_max)
    with open(plan_path, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["mask_id", "seed"])
        for mask_id, _ in rated:
            for seed in range(42, 42 + images[mask_id]):
                writer.writerow([mask_id, seed])


def plan_quickly(hardness_path: Path, plan_path: Path, n_max: int) -> None:
    """What the script plan_synthesis does."""
    ids, rank = plans.read_ranked(hardness_path)
    plans.write_plan(plan_path, ids, hardness.images_at_rank(rank, n_max), 42)


def time_plans(number: int, folder: Path) -> tuple[float, float]:
    """Median seconds of both, and that they leave the same bytes."""
    rated = np.random.default_rng(2).gamma(3.0, 0.2, number).round(6)
    ids = [f"{position:012d}" for position in range(number)]  # as COCO's
    table = pd.DataFrame({"mask_id": ids, "hardness": rated, "rank": hardness.ranks(rated)})
    tables.write_table(folder / "hardness.tsv", table)
    seconds = {}
    for work in (plan_quickly, plan_plainly):
        target = folder / f"{work.__name__}.tsv"
        seconds[work] = np.median([timed(work, folder / "hardness.tsv", target, 6)[1] for _ in range(5)])
    assert (folder / "plan_quickly.tsv").read_bytes() == (folder / "plan_plainly.tsv").read_bytes()
    return tuple(seconds.values())


def timed(work, *arguments):
    """The result of a call, and its wall seconds."""
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


def main(arguments: argparse.Namespace) -> None:
    """Time both, compare, print."""
    random = np.random.default_rng(1)
    class_loss = random.gamma(2.0, 0.4, 256)
    masks = draw_masks(64, arguments.side)  # used again and again: all 20,210 would take 5 GB
    ids = [f"mask-{position:06d}" for position in range(arguments.masks)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.tsv"
        counts = [count_labels(mask, ignored=0) for mask in masks]
        table = pd.DataFrame({"mask_id": ids, "mask": "mask.png"})
        tables.write_table(path, table.assign(counts=[counts[i % len(counts)] for i in range(arguments.masks)]))

        def rate() -> np.ndarray:
            return hardness.mask_hardness(read_masks(path)[1], class_loss)

        fast, fast_s = timed(rate)
    plain, plain_s = timed(rate_plainly, masks, arguments.masks, class_loss)
    np.testing.assert_allclose(fast, plain, rtol=1e-9)
    total = np.array([fast_s, plain_s])
    report(f"hardness of {arguments.masks:,} masks of {arguments.side}x{arguments.side}", fast_s, plain_s)

    with tempfile.TemporaryDirectory() as folder:
        fast_s, plain_s = time_plans(arguments.planned, Path(folder))
    report(f"plan over {arguments.planned:,} masks", fast_s, plain_s)
    report("both", *(total + [fast_s, plain_s]))


def report(what: str, fast: float, plain: float) -> None:
    """Print one comparison."""
    cli.tell(f"{what}: {fast:.3f} s, plain {plain:.3f} s, ratio {plain / fast:.1f}, same result")


if __name__ == "__main__":
    main(options().parse_args())
