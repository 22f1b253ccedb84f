"""A trained segmentor's loss on image and mask pairs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmseg.models.utils import resize
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from torch.nn import functional

from freemask.data.label_space import IGNORE_INDEX, LabelSpace
from freemask.errors import InputError
from freemask.images import read_mask
from freemask.parallel import map_ahead
from freemask.segmentation.checkpoints import build_model, load_strictly, read_checkpoint
from freemask.segmentation.scales import resize_of
from freemask.selection.class_loss import BLOCK


class Scored(NamedTuple):
    """A pair's pixels on the model's device.

    loss: (H, W) float32 [nats].
    train: (H, W) uint8 train ids.
    prediction, confidence: (H, W) uint8 predicted train ids, and their probability * 255 rounded down.
    """

    loss: torch.Tensor
    train: torch.Tensor
    prediction: torch.Tensor | None = None
    confidence: torch.Tensor | None = None


Pair = tuple[np.ndarray, np.ndarray]  # (H, W, 3) uint8 BGR, (H, W) uint8 train ids
PIXELS = 512 * 512  # of an image, up to which a batch is full


def load_segmentor(config: Config, weights: str | Path, device: str) -> torch.nn.Module:
    """Build the config's model with trained weights (a state_dict, or a checkpoint that holds one), ready to predict.

    Its `resize` brings images to the scale of the config's evaluation; None where that leaves their size.
    Loading executes nothing that the file holds.
    Raises: InputError where keys or shapes differ from the model's.
    """
    model = build_model(config)
    state, _ = read_checkpoint(weights)
    load_strictly(model, state, weights)
    step = resize_of(config.test_dataloader.dataset.pipeline)
    model.resize = TRANSFORMS.build(dict(step)) if step else None
    return model.eval().to(device)


def read_pair(image: str, mask: str, label_space: LabelSpace) -> Pair:
    """Read an image as training does, and its mask as train ids.

    Raises: InputError where one is missing or damaged, or their sizes differ.
    """
    try:
        pixels = mmcv.imread(image)
    except (FileNotFoundError, cv2.error):  # the latter: an empty file
        pixels = None
    if pixels is None:
        raise InputError(f"{image}: missing or no image; run the rule that makes it, or fetch it again")
    train = label_space.to_train(read_mask(mask), mask)
    if pixels.shape[:2] != train.shape:
        raise InputError(f"{image}: {pixels.shape[:2]} pixels, but {mask} has {train.shape}; they must be one size")
    return pixels, train


@torch.no_grad()
def predict_logits(model: torch.nn.Module, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Full-resolution logits (N, K, H, W) of N images (H, W, 3) uint8 BGR, all one size, on the model's device.

    As the evaluation predicts: the network sees resized images, and its logits are resized to the images' own size.
    """
    own = images[0].shape[:2]
    if model.resize:
        images = [model.resize({"img": image})["img"] for image in images]
    height, width = images[0].shape[:2]
    samples = [SegDataSample(metainfo={"ori_shape": (height, width), "img_shape": (height, width)}) for _ in images]
    inputs = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images]
    batch = model.data_preprocessor({"inputs": inputs, "data_samples": samples}, False)
    metas = [{"pad_shape": batch["inputs"].shape[2:], **sample.metainfo} for sample in batch["data_samples"]]
    logits = model.inference(batch["inputs"], metas)[:, :, :height, :width]  # padding is below and to the right
    return logits if (height, width) == own else resize(logits, own, None, "bilinear", model.align_corners)


def pair_losses(
    model: torch.nn.Module,
    pairs: Iterable[tuple[str, str]],
    label_space: LabelSpace,
    batch_size: int = 1,
    readers: int = 2,
    fill: bool = False,
    predict: bool = False,
) -> Iterator[Scored]:
    """Yield every pair's loss and train ids, in order.

    Images of one size share a batch if they stand in one block (32 pairs, counted from the first). A batch of images
    larger than 512x512 holds fewer, so that it takes no more memory.

    Args:
        model: See `load_segmentor`.
        pairs: Paths of image and mask (raw labels).
        label_space: The data set's.
        batch_size: Images per batch, 1 or more.
        readers: Threads that read the next block meanwhile.
        fill: Bring every batch to the same size by repetition, so that an image's numbers don't depend on how many
            share its batch.
        predict: Yield predictions as well.
    """
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: want 1 or more")
    read = map_ahead(lambda pair: read_pair(*pair, label_space), pairs, readers, BLOCK)
    while block := list(islice(read, BLOCK)):
        scored: dict[int, Scored] = {}
        for places in _batches([train.shape for _, train in block], batch_size):
            size = _room(block[places[0]][1].shape, batch_size) if fill else len(places)
            chosen = [block[place] for place in (*places, *[places[-1]] * (size - len(places)))]
            scored.update(zip(places, _score(model, chosen, predict), strict=False))
        yield from (scored[place] for place in range(len(block)))


def _score(model: torch.nn.Module, batch: Sequence[Pair], predict: bool) -> Iterator[Scored]:
    """Score pairs of one size."""
    train = torch.from_numpy(np.stack([mask for _, mask in batch])).to(next(model.parameters()).device)
    logits = predict_logits(model, [image for image, _ in batch])
    loss = pixel_loss(logits, train)
    if not torch.isfinite(loss).all():
        raise InputError("the segmentor gives a loss that isn't finite; check its weights")
    if not predict:
        return map(Scored, loss, train)
    probability, prediction = logits.float().softmax(1).max(1)
    return map(Scored, loss, train, prediction.to(torch.uint8), (255 * probability).to(torch.uint8))


def _room(shape: tuple[int, int], batch_size: int) -> int:
    """How many images (height, width) share a batch."""
    return max(1, min(batch_size, batch_size * PIXELS // (shape[0] * shape[1])))


def _batches(shapes: Sequence[tuple[int, int]], batch_size: int) -> Iterator[list[int]]:
    """Group the places of images of one shape into batches."""
    for shape in dict.fromkeys(shapes):
        same = [place for place, other in enumerate(shapes) if other == shape]
        room = _room(shape, batch_size)
        yield from (same[start : start + room] for start in range(0, len(same), room))


def pixel_loss(logits: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Cross entropy of every pixel.

    Args: logits: (N, K, H, W) float; train: (N, H, W) uint8 train ids.
    Returns: (N, H, W) float32 nats, 0 where the train id is 255.
    """
    return functional.cross_entropy(logits.float(), train.long(), ignore_index=IGNORE_INDEX, reduction="none")
