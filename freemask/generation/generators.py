"""Generators behind one interface: masks, mask ids and seeds in, images out; the same everywhere for the same three.

A new one needs two functions in KINDS: one that loads a diffusers folder, and one that makes a `Generator` of it.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.generation.controlnet import ControlNetPainter, load_controlnet
from freemask.generation.freestyle.loading import load_pipeline, networks
from freemask.generation.freestyle.pipeline import FreestylePipeline, Prepared, other_scheduler
from freemask.generation.freestyle.prompt import Part

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Generator:
    """What every generator does, in two steps, so that a batch can be prepared while another is painted.

    prepare: masks (B, H, W) uint8 raw labels, mask ids and seeds -> whatever paint wants (checked, noise, text, masks);
    paint: that -> images (B, H, W, 3) uint8, black where a NaN came up.
    """

    prepare: Callable[[np.ndarray, list[str], list[int]], Any]
    paint: Callable[[Any], np.ndarray]

    def __call__(self, masks: np.ndarray, mask_ids: list[str], seeds: list[int]) -> np.ndarray:
        """Both steps, one after the other."""
        return self.paint(self.prepare(masks, mask_ids, seeds))


@dataclass(frozen=True)
class Sampling:
    """How images are sampled. parts_of: from an image's seed to its extra prompt parts."""

    scheduler: str
    steps: int
    guidance_scale: float
    parts_of: Callable[[int], tuple[Part, ...]] = lambda seed: ()


def freestyle(pipeline: FreestylePipeline, labels: LabelSpace, sampling: Sampling) -> Generator:
    """FreestyleNet: each word of the caption is seen by its class's pixels only."""
    words = dict(zip(labels.ids, labels.words, strict=True))

    def prepare(masks: np.ndarray, mask_ids: list[str], seeds: list[int]) -> Prepared:
        parts = [sampling.parts_of(seed) for seed in seeds]
        return pipeline.prepare(masks, words, mask_ids, seeds, labels.ignored, parts)

    return Generator(prepare, lambda prepared: pipeline.paint(prepared, sampling.steps, sampling.guidance_scale))


def controlnet(pipeline: DiffusionPipeline, labels: LabelSpace, sampling: Sampling) -> Generator:
    """ControlNet-seg: the mask in the data set's palette steers the image."""
    painter = ControlNetPainter(pipeline, labels)

    def prepare(masks: np.ndarray, mask_ids: list[str], seeds: list[int]) -> dict[str, torch.Tensor]:
        return painter.prepare(masks, mask_ids, seeds, [sampling.parts_of(seed) for seed in seeds])

    return Generator(prepare, lambda prepared: painter.paint(prepared, sampling.steps, sampling.guidance_scale))


KINDS = {"freestyle": (load_pipeline, freestyle), "controlnet": (load_controlnet, controlnet)}


def loader(kind: str) -> Callable[[Path, torch.dtype], DiffusionPipeline]:
    """How folders of that kind are loaded.

    Raises: InputError for a kind that there isn't.
    """
    if kind not in KINDS:
        raise InputError(f"generator kind {kind!r} is not known; use one of {', '.join(KINDS)}")
    return KINDS[kind][0]


def load_generator(
    kind: str,
    folder: Path,
    labels: LabelSpace,
    sampling: Sampling,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Generator:
    """Load a generator onto the GPU, if there is one.

    Args: folder: a diffusers pipeline (prepare_generator); compiled: through torch.compile, which takes minutes at the
    first batch.
    Raises: InputError for a damaged folder, or an arithmetic that the GPU doesn't have.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check_arithmetic(dtype, device)
    pipeline = loader(kind)(folder, dtype).to(device)
    pipeline.scheduler = other_scheduler(sampling.scheduler, pipeline.scheduler)
    arrange(pipeline, device, compiled)
    return KINDS[kind][1](pipeline, labels, sampling)


def check_arithmetic(dtype: torch.dtype, device: str) -> None:
    """Refuse bfloat16 on GPUs that would emulate it (is_bf16_supported() says yes there)."""
    if dtype is torch.bfloat16 and device == "cuda" and torch.cuda.get_device_capability()[0] < 8:
        name = torch.cuda.get_device_name()
        raise InputError(f"bfloat16 needs compute capability 8.0, {name} has less; use float16 or float32")


def arrange(pipeline: DiffusionPipeline, device: str, compiled: bool) -> None:
    """Channels-last convolutions on a GPU (what its matrix units want), and compiled networks where wanted.

    On a CPU, memory is kept (see keep_memory). In place: names of weights and configs stay. The shape of batches never
    changes, so nothing is compiled twice.
    """
    if device == "cpu":
        keep_memory(True)
    for name, network in networks(pipeline).items():
        if device == "cuda" and name != "text_encoder":
            network.to(memory_format=torch.channels_last)
        if compiled and name in ("unet", "controlnet"):
            network.compile(dynamic=False)


def keep_memory(kept: bool) -> None:
    """Have this process keep the large blocks of memory that it frees, for the next ones; or not, glibc's default.

    Else the system hands out every activation of a network anew, page by page and cleared: at Stable Diffusion's size
    that is a twelfth of a UNet call's time. Nothing happens with another C library. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0 if kept else 65536)  # blocks that are taken from the system one by one
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1 if kept else 128 * 1024)  # bytes at the heap's end that may stay free
