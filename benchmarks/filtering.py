"""Time of measure_margins and of filtering against the plain loop; see `filtering`."""

import os
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from freemask import cli, packs
from freemask.data.label_space import LabelSpace
from freemask.files import write_atomic, write_json
from freemask.filtering.scoring import margin_codes, margin_png, thresholds
from freemask.filtering.sets import MaskFilter, read_filtered
from freemask.images import jpeg_bytes, png_bytes, read_mask
from freemask.parallel import map_ahead, map_files
from freemask.segmentation.config import base_config
from freemask.segmentation.inference import load_segmentor, pair_losses

CLASSES = 150
NORMAL = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # mean and deviation of RGB
BASES = {"b0": "segformer_mit-b0_8xb2-160k_ade20k-512x512", "b4": "segformer_mit-b4_8xb2-160k_ade20k-512x512"}


FLOAT32, TF32 = 1e-5, 1e-2  # how far rounding moves a loss, as a share of its limit
GPU, CPUS = torch.cuda.is_available(), os.cpu_count() or 1


def filtering(
    *,
    model: Literal["b0", "b4"] = "b4" if GPU else "b0",
    images: cli.Positive = 256 if GPU else 8,
    side: cli.Positive = 512,
    alphas: list[float] | None = None,
    batch_size: cli.Positive = 8 if GPU else 1,
    threads: cli.Positive = CPUS,
    no_tf32: bool = False,
    repeats: cli.Positive = 3,
    json: Path | None = None,
) -> None:
    """Time measure_margins and filtering against the plain loop, in one run; both must filter the same pixels.

    A pixel whose loss lies on its limit may differ, since both ways round differently: by 1e-5 of the loss in float32
    (CPU), by 1e-2 where convolutions compute in TF32 (GPUs from compute capability 8.0, torch's default). A pixel that
    differs and whose loss lies further from its limit is a fault.

    Plain, as the released filter.py: one image at a time, model.predict, CrossEntropyLoss, a loop over all classes, one
    forward pass per alpha, PNGs written one after another. Ours: one pass for all alphas, batched, images read ahead
    and maps written meanwhile to a pack, then filtering and writing PNGs once per alpha. Random weights and images;
    loading the model isn't timed.

    Args:
        model: Backbone of SegFormer.
        images: Number of images.
        side: Side of an image [pixels].
        alphas: Tolerance margins (default: 1.25).
        batch_size: Images that ours scores at once.
        threads: CPU threads.
        no_tf32: Keep convolutions on a GPU from computing in TF32, torch's default.
        repeats: Timed passes of each way.
        json: Output: the numbers as JSON.
    """
    torch.backends.cudnn.allow_tf32 = not no_tf32
    alphas = alphas or [1.25]
    device = "cuda" if GPU else "cpu"
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("plain", "ours"):
            (folder / part).mkdir()
        segmentor, label_space = build(folder, model, device)
        pairs = write_pairs(folder / "data", images, side)
        class_loss = np.random.default_rng(1).uniform(3, 5, CLASSES)
        work = {
            "plain": partial(plain, segmentor, class_loss, device, folder / "plain"),
            "ours": partial(ours, segmentor, label_space, class_loss, batch_size, max(2, threads), folder / "ours"),
        }
        seconds = {"plain": [], "ours": []}
        for part in work:
            work[part](pairs[:batch_size], alphas[:1])  # warm-up
        for _ in range(repeats):
            for path in (folder / "ours").iterdir():
                path.unlink()
            for part in work:
                start = time.perf_counter()
                work[part](pairs, alphas)
                seconds[part].append(time.perf_counter() - start)
        work["plain"](pairs, alphas, noted=True)
        differing, total, furthest = compare(folder, alphas, images)
    fast, slow = (float(np.median(seconds[part])) for part in ("ours", "plain"))
    where = torch.cuda.get_device_name() if GPU else f"CPU, {threads} threads"
    allowed = TF32 if GPU and not no_tf32 and torch.cuda.get_device_capability() >= (8, 0) else FLOAT32
    cli.tell(
        f"{where}, SegFormer-{model}, {images} images of {side}x{side}, batches of {batch_size}, TF32"
        f" {'on' if allowed == TF32 else 'off'}, alpha {' '.join(map(str, alphas))}: {fast:.2f} s, plain {slow:.2f} s,"
        f" ratio {slow / fast:.2f}; {differing} of {total:,} pixels differ, their losses at most {furthest:.1e} from"
        f" the limit (relative; allowed: {allowed:.0e})"
    )
    if json:
        numbers = {"images": images, "seconds": fast, "plain_seconds": slow, "differing": differing, "pixels": total}
        write_json(json, numbers | {"furthest": furthest, "allowed": allowed})
    if furthest > allowed:
        raise SystemExit("the masks differ in pixels whose loss is far from the limit")


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
        write_atomic(pairs[-1][0], jpeg_bytes(image, 95))
        write_atomic(pairs[-1][1], png_bytes(mask))
    return pairs


@torch.no_grad()
def plain(
    model, class_loss: np.ndarray, device: str, folder: Path, pairs, alphas: list[float], noted: bool = False
) -> None:
    """The released filter, once per alpha; if noted, how far each pixel's loss is beyond its limit, as a share."""
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255, reduction="none")
    mean, deviation = (torch.tensor(value, device=device) for value in NORMAL)
    for alpha in alphas:
        for position, (image, mask) in enumerate(pairs):
            pixels = torch.from_numpy(np.array(Image.open(image).convert("RGB"))).to(device).float()
            raw = torch.from_numpy(np.array(Image.open(mask))).to(device)
            train = torch.where(raw == 0, 255, raw.long() - 1)
            logits = model.predict(((pixels - mean) / deviation).permute(2, 0, 1)[None])[0].seg_logits.data[None]
            loss = criterion(logits, train[None])[0]
            if noted:
                limits = torch.from_numpy(np.append(class_loss, 1.0)).to(device)[train.clamp(max=CLASSES)] * alpha
                np.save(folder / f"{alpha}-{position}.npy", ((loss - limits) / limits).float().cpu().numpy())
            for label in range(CLASSES):
                raw[(train == label) & (loss > class_loss[label] * alpha)] = 0
            Image.fromarray(raw.cpu().numpy()).save(folder / f"{alpha}-{position}.png")


def ours(
    model,
    label_space: LabelSpace,
    class_loss: np.ndarray,
    batch_size: int,
    threads: int,
    folder: Path,
    pairs,
    alphas: list[float],
) -> None:
    """What measure_margins does, and filtering."""
    limits = thresholds(torch.from_numpy(class_loss)).to(next(model.parameters()).device)
    losses = pair_losses(model, pairs, label_space, batch_size, threads, fill=True)
    codes = (margin_codes(loss, train, limits).cpu().numpy() for loss, train, *_ in losses)
    names = [f"{position}.png" for position in range(len(pairs))]
    with packs.Writer(folder) as writer:
        for name, png in zip(names, map_ahead(margin_png, codes, threads, 2 * threads), strict=True):
            writer.add(name, "", png)
    places = packs.find([f"{folder}/{name}" for name in names], [""] * len(names))
    for alpha in alphas:
        jobs = [
            (mask, MaskFilter(name, place, "margin", alpha), f"{folder}/{alpha}-{name}")
            for name, (_, mask), place in zip(names, pairs, places, strict=True)
        ]
        for _ in map_files(partial(filter_and_write, label_space), jobs, threads, f"filter {alpha}", "mask"):
            pass


def filter_and_write(label_space: LabelSpace, job: tuple[str, MaskFilter, str]) -> None:
    """Filter a mask and write it, as the plain loop does."""
    mask, mask_filter, target = job
    write_atomic(target, png_bytes(read_filtered(mask, mask_filter, label_space)))


def compare(folder: Path, alphas: list[float], number: int) -> tuple[int, int, float]:
    """Pixels that both filtered differently, all pixels, and how far such a pixel's loss is from its limit at most."""
    differing = total = 0
    furthest = 0.0
    for alpha, position in product(alphas, range(number)):
        one, other = (read_mask(folder / part / f"{alpha}-{position}.png") for part in ("plain", "ours"))
        apart = one != other
        differing, total = differing + int(apart.sum()), total + one.size
        if apart.any():
            beyond = np.load(folder / "plain" / f"{alpha}-{position}.npy")
            furthest = max(furthest, float(np.abs(beyond[apart]).max()))
    return differing, total, furthest


if __name__ == "__main__":
    cli.run(filtering)
