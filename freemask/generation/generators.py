"""Generators of synthetic images, by method. A new one is an entry of GENERATORS, or a class of another package."""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freemask import plugins
from freemask.cli import tell
from freemask.data.label_space import LabelSpace
from freemask.generation.prompt import Part
from freemask.generation.schedulers import other_scheduler

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

GENERATORS = {
    "freestyle": "freemask.generation.freestyle.generator:FreestyleGenerator",
    "controlnet": "freemask.generation.controlnet:ControlNetGenerator",
}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Sampling:
    """How images are sampled. parts_of: from an image's seed to the extra parts of its prompt."""

    scheduler: str
    steps: int
    guidance_scale: float
    parts_of: Callable[[int], tuple[Part, ...]] = lambda seed: ()


class Generator(ABC):
    """Makes images of masks. The configuration names a subclass as `method`.

    An image must be a function of mask, mask id, seed and settings alone: the same whatever the rest of its batch is.
    """

    def __init__(self, pipeline: "DiffusionPipeline", label_space: LabelSpace, sampling: Sampling):
        """pipeline: made by `load`, on its device, with the scheduler of `sampling`."""
        self.pipeline, self.label_space, self.sampling = pipeline, label_space, sampling
        self.words = label_space.words_by_label()

    @staticmethod
    @abstractmethod
    def load(folder: Path, dtype: "torch.dtype") -> "DiffusionPipeline":
        """Load a diffusers pipeline folder (model_index.json, a folder per component, safetensors).

        Raises: InputError where it isn't one, or its weights don't fit.
        """

    @abstractmethod
    def prepare(self, masks: np.ndarray, mask_ids: Sequence[str], seeds: Sequence[int]) -> Any:
        """Check a batch and make what precedes sampling: noise, text, conditions.

        It runs in a thread, while another batch is generated.

        Args: masks: (B, H, W) uint8 raw labels; mask_ids: B names; seeds: B seeds.
        Raises: InputError for masks that the generator can't take.
        """

    @abstractmethod
    def generate(self, prepared: Any) -> np.ndarray:
        """Sample the images of a prepared batch, (B, H, W, 3) uint8; black where a NaN came up."""

    def __call__(self, masks: np.ndarray, mask_ids: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Prepare and generate."""
        return self.generate(self.prepare(masks, mask_ids, seeds))

    @classmethod
    def class_settings(cls, label_space: LabelSpace) -> dict[int, str]:
        """The settings of each class that an image depends on, by raw label. An image is made again when it changes."""
        return label_space.words_by_label()


def load_generator(
    method: str,
    folder: Path,
    label_space: LabelSpace,
    sampling: Sampling,
    dtype: "torch.dtype | None" = None,
    compiled: bool = False,
) -> Generator:
    """Load a generator onto the GPU, if there is one.

    Args: method: a name of GENERATORS, or "package.module:Class"; folder: diffusers pipeline folder; dtype: arithmetic
        of the networks (None: float32); compiled: compile them, which takes a minute at the first batch.
    Raises: InputError for a damaged folder, or an unknown method or scheduler.
    """
    import torch

    kind = plugins.find(GENERATORS, method, "generator method")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = kind.load(folder, dtype or torch.float32).to(device)
    if getattr(pipeline, "scheduler", None) is not None:
        pipeline.scheduler = other_scheduler(sampling.scheduler, pipeline.scheduler.config)
    arrange(pipeline, device, compiled)
    return kind(pipeline, label_space, sampling)


def networks(pipeline: "DiffusionPipeline") -> "dict[str, torch.nn.Module]":
    """The parts of a pipeline that have weights, by name."""
    import torch

    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def arrange(pipeline: "DiffusionPipeline", device: str, compiled: bool) -> None:
    """Make networks fast, in place; names of weights and configs stay. The shape of batches never changes.

    If requested, the UNet, a ControlNet and the decoder are compiled. On a CPU memory is cached. On a GPU calls of the
    UNet and a ControlNet are captured as CUDA graphs, and compiled networks are channels-last. Eager ones stay
    contiguous: their group norm isn't channels-last, and copies between layouts would cost more than they gain.
    """
    import torch

    from freemask.generation.compilation import Captured, compile_network, obstacle

    if device == "cpu":
        cache_memory(True)
    if compiled and device == "cuda" and (reason := obstacle()):
        tell(f"not compiled, eager runs: {reason}")
        compiled = False
    for name, network in networks(pipeline).items():
        if compiled and name != "text_encoder":
            if device == "cuda":
                network.to(memory_format=torch.channels_last)
            compile_network(network.decoder if name == "vae" else network)
        if device == "cuda" and name in ("unet", "controlnet"):
            network.forward = Captured(network.forward)


def cache_memory(cached: bool) -> None:
    """Let this process cache the large blocks of memory that it frees; or not, which is glibc's default.

    Otherwise the system clears new pages for every activation of a network: a twelfth of a UNet call's time at Stable
    Diffusion's size. Does nothing with another C library. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0 if cached else 65536)  # blocks that are taken from the system one by one
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1 if cached else 128 * 1024)  # bytes at the heap's end that may stay free
