"""A trained segmentor's loss on image and mask pairs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample

from freemask.errors import InputError
from freemask.files import read_mask
from freemask.labels import LabelSpace
from freemask.scoring import pixel_loss
from freemask.segmentation.checkpoints import build_model, load_strictly, read_checkpoint

Pair = tuple[np.ndarray, np.ndarray]  # (H, W, 3) uint8 BGR, (H, W) uint8 train ids


def load_segmentor(config: Config, weights: str | Path, device: str) -> torch.nn.Module:
    """Build the config's model with trained weights (a state_dict, or a checkpoint that holds one), ready to predict.

    Loading executes nothing that the file holds.
    Raises: InputError where keys or shapes differ from the model's.
    """
    model = build_model(config)
    state, _ = read_checkpoint(weights)
    load_strictly(model, state, weights)
    return model.eval().to(device)


def read_pair(image: str, mask: str, labels: LabelSpace) -> Pair:
    """Read an image as training does, and its mask as train ids.

    Raises: InputError where one is missing or damaged, or their sizes differ.
    """
    try:
        pixels = mmcv.imread(image)
    except FileNotFoundError:
        pixels = None
    if pixels is None:
        raise InputError(f"{image}: missing or no image; run the rule that makes it, or fetch it again")
    train = labels.to_train(read_mask(mask), mask)
    if pixels.shape[:2] != train.shape:
        raise InputError(f"{image}: {pixels.shape[:2]} pixels, but {mask} has {train.shape}; they must be one size")
    return pixels, train


@torch.no_grad()
def predict_logits(model: torch.nn.Module, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Full-resolution logits (N, K, H, W) of N images (H, W, 3) uint8 BGR, all one size, on the model's device."""
    height, width = images[0].shape[:2]
    samples = [SegDataSample(metainfo={"ori_shape": (height, width), "img_shape": (height, width)}) for _ in images]
    inputs = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images]
    batch = model.data_preprocessor({"inputs": inputs, "data_samples": samples}, False)
    metas = [{"pad_shape": batch["inputs"].shape[2:], **sample.metainfo} for sample in batch["data_samples"]]
    return model.inference(batch["inputs"], metas)[:, :, :height, :width]  # padding is below and to the right


def pair_losses(
    model: torch.nn.Module, pairs: Sequence[tuple[str, str]], labels: LabelSpace, batch_size: int = 1
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield every pair's loss (H, W) float32 nats and train ids (H, W) uint8, in order, on the model's device.

    Neighbours of one size share a batch. Batches of one give numbers that don't depend on what else is scored.
    Args: pairs: paths of image and mask (raw labels).
    """
    device = next(model.parameters()).device
    for batch in _batches(_read_ahead(pairs, labels), batch_size):
        train = torch.from_numpy(np.stack([mask for _, mask in batch])).to(device)
        loss = pixel_loss(predict_logits(model, [image for image, _ in batch]), train)
        if not torch.isfinite(loss).all():
            raise InputError("the segmentor gives a loss that isn't finite; check its weights")
        yield from zip(loss, train, strict=True)


def _batches(pairs: Iterator[Pair], batch_size: int) -> Iterator[list[Pair]]:
    """Group neighbours of one size, at most `batch_size` of them."""
    batch: list[Pair] = []
    for pair in pairs:
        if batch and (len(batch) == batch_size or batch[0][1].shape != pair[1].shape):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _read_ahead(pairs: Sequence[tuple[str, str]], labels: LabelSpace, ahead: int = 8) -> Iterator[Pair]:
    """Read pairs in order while the model works on earlier ones."""
    waiting = iter(pairs)
    with ThreadPoolExecutor(2) as pool:
        queue: list[Future] = [pool.submit(read_pair, *pair, labels) for pair in islice(waiting, ahead)]
        while queue:
            pair = queue.pop(0).result()
            queue.extend(pool.submit(read_pair, *later, labels) for later in islice(waiting, 1))
            yield pair
