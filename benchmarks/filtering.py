"""Time measure_margins and filter_masks against the plain batch-1 loop, in one run; the same pixels must be filtered.

Plain, as the released filter.py: one image at a time, model.predict, CrossEntropyLoss, a loop over all classes, one
forward pass per alpha, PNGs written one after another. Ours: one pass for all alphas, batched, reading ahead, maps
written meanwhile, then filter_masks once per alpha. Random weights and images; models are loaded before the clock
starts, in both. On a GPU the model is SegFormer-B4 unless --model says otherwise.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from freemask import cli, files, images
from freemask.data.label_space import LabelSpace
from freemask.filtering import filters
from freemask.filtering.margins import write_map
from freemask.filtering.scoring import margin_codes, thresholds
from freemask.parallel import map_ahead, map_files
from freemask.segmentation.config import base_config
from freemask.segmentation.inference import load_segmentor, pair_losses

CLASSES = 150
NORMAL = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # mean and deviation of RGB
BASES = {"b0": "segformer_mit-b0_8xb2-160k_ade20k-512x512", "b4": "segformer_mit-b4_8xb2-160k_ade20k-512x512"}


def options() -> argparse.ArgumentParser:
    """The command line."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=BASES, default="b4" if gpu else "b0", help="SegFormer's backbone")
    parser.add_argument("--images", type=int, default=256 if gpu else 8, help="images (default: 256, on a CPU 8)")
    parser.add_argument("--side", type=int, default=512, help="side of an image [pixels] (default: 512)")
    parser.add_argument("--alphas", nargs="+", default=["1.25"], help="tolerance margins (default: 1.25)")
    parser.add_argument("--batch-size", type=int, default=8 if gpu else 1, help="ours (default: 8, on a CPU 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all)")
    return parser


def build(folder: Path, model: str, device: str) -> tuple[torch.nn.Module, LabelSpace]:
    """A segmentor with random weights, and its label space."""
    config = base_config(f"mmseg::segformer/{BASES[model]}.py")
    config.model.backbone.init_cfg = None
    init_default_scope("mmseg")
    torch.manual_seed(0)
    torch.save(MODELS.build(config.model).state_dict(), folder / "weights.pth")
    ids = tuple(range(1, CLASSES + 1))
    names = tuple(f"class {label}" for label in ids)
    return load_segmentor(config, folder / "weights.pth", device), LabelSpace(ids, names, names, ((0, 0, 0),) * 150, 0)


def write_pairs(folder: Path, number: int, side: int) -> list[tuple[str, str]]:
    """Noise images, and masks of blocks with a dozen classes each."""
    random, pairs = np.random.default_rng(0), []
    for position in range(number):
        palette = random.choice(CLASSES + 1, 12, replace=False).astype(np.uint8)
        mask = np.kron(palette[random.integers(0, 12, (8, 8))], np.ones((side // 8, side // 8), np.uint8))
        image = np.repeat(mask[..., None], 3, axis=2) + random.integers(0, 60, (*mask.shape, 3), dtype=np.uint8)
        pairs.append((f"{folder}/{position}.jpg", f"{folder}/{position}.png"))
        files.write_atomic(pairs[-1][0], images.jpeg_bytes(image, 95))
        files.write_atomic(pairs[-1][1], images.png_bytes(mask))
    return pairs


@torch.no_grad()
def plain(model, pairs, class_loss: np.ndarray, alphas: list[str], device: str, folder: Path) -> None:
    """The released filter, once per alpha."""
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255, reduction="none")
    mean, deviation = (torch.tensor(value, device=device) for value in NORMAL)
    for alpha in alphas:
        for position, (image, mask) in enumerate(pairs):
            pixels = torch.from_numpy(np.array(Image.open(image).convert("RGB"))).to(device).float()
            raw = torch.from_numpy(np.array(Image.open(mask))).to(device)
            train = torch.where(raw == 0, 255, raw.long() - 1)
            logits = model.predict(((pixels - mean) / deviation).permute(2, 0, 1)[None])[0].seg_logits.data[None]
            loss = criterion(logits, train[None])[0]
            for label in range(CLASSES):
                raw[(train == label) & (loss > class_loss[label] * float(alpha))] = 0
            Image.fromarray(raw.cpu().numpy()).save(folder / f"{alpha}-{position}.png")


def ours(model, pairs, labels, class_loss: np.ndarray, chosen: argparse.Namespace, folder: Path) -> None:
    """What measure_margins and filter_masks do."""
    device = next(model.parameters()).device
    limits = thresholds(torch.from_numpy(class_loss)).to(device)
    losses = pair_losses(model, pairs, labels, chosen.batch_size, max(2, chosen.threads), fill=True)
    codes = (margin_codes(loss, train, limits).cpu().numpy() for loss, train in losses)
    threads = max(2, chosen.threads)
    maps = map_ahead(
        lambda made: write_map(folder / f"{made[0]}.png", made[1], "0" * 12), enumerate(codes), threads, 2 * threads
    )
    for _ in maps:
        pass
    for alpha in chosen.alphas:
        jobs = [
            filters.FilterJob(mask, f"{folder}/{position}.png", f"{folder}/{alpha}-{position}.png")
            for position, (_, mask) in enumerate(pairs)
        ]
        work = partial(filters.filter_file, alpha=float(alpha), ignored=0)
        for _ in map_files(work, jobs, chosen.threads, f"filter {alpha}", "mask"):
            pass


def main(arguments: argparse.Namespace) -> None:
    """Time both, compare every filtered mask, print."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("plain", "ours"):
            (folder / part).mkdir()
        model, labels = build(folder, arguments.model, device)
        pairs = write_pairs(folder / "data", arguments.images, arguments.side)
        class_loss = np.random.default_rng(1).uniform(3, 5, CLASSES)
        seconds = {"plain": [], "ours": []}
        warm = pairs[: arguments.batch_size]
        plain(model, warm, class_loss, arguments.alphas[:1], device, folder / "plain")
        ours(model, warm, labels, class_loss, arguments, folder / "ours")
        for _ in range(3):
            for path in (folder / "ours").glob("*.png"):
                path.unlink()
            for part in seconds:
                start = time.perf_counter()
                if part == "plain":
                    plain(model, pairs, class_loss, arguments.alphas, device, folder / part)
                else:
                    ours(model, pairs, labels, class_loss, arguments, folder / part)
                seconds[part].append(time.perf_counter() - start)
        differing, total = compare(folder, arguments)
    fast, slow = (float(np.median(seconds[part])) for part in ("ours", "plain"))
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {arguments.threads} threads"
    cli.tell(
        f"{where}, SegFormer-{arguments.model}, {arguments.images} images of {arguments.side}x{arguments.side}, alpha"
        f" {' '.join(arguments.alphas)}: {fast:.2f} s, plain {slow:.2f} s, ratio {slow / fast:.2f};"
        f" {differing} of {total:,} pixels differ"
    )
    if differing > 1e-5 * total:  # the plain pass normalises in another order: a loss on a limit may flip
        raise SystemExit("the masks differ")


def compare(folder: Path, arguments: argparse.Namespace) -> tuple[int, int]:
    """Pixels that both filtered differently, and all pixels."""
    differing = total = 0
    for alpha, position in product(arguments.alphas, range(arguments.images)):
        one, other = (images.read_mask(folder / part / f"{alpha}-{position}.png") for part in ("plain", "ours"))
        differing, total = differing + int((one != other).sum()), total + one.size
    return differing, total


if __name__ == "__main__":
    main(options().parse_args())
