"""Whether networks are compiled with torch.compile, and what happens where they can't be."""

import importlib.util
import math
import shutil
from collections.abc import Mapping
from os import environ
from typing import Any, Literal

import torch
from torch import nn

from freemask.cli import tell
from freemask.parallel import shard_number

Choice = Literal["auto", "always", "never"]
# Measured on an H200 at Stable Diffusion 1.4's size in float16, batches of 8 (docs/benchmarks.md).
COMPILATION = 64.0  # seconds
EAGER, COMPILED = 0.0548, 0.0360  # seconds of a UNet call for eight images with guidance
CALLS = 51  # of the UNet for an image, 50 steps of PLMS
PAYS_FROM = math.ceil(COMPILATION / ((EAGER - COMPILED) * CALLS / 8))  # images; fewer on slower cards


def decide(choice: Choice, plan: int, shard: str, dtype: str, recorded: Mapping[str, Any] | None) -> bool:
    """Whether a shard's images are made by compiled networks.

    All shards of a plan decide the same, and a folder's images are all made the same way: they differ in rounding.

    Args:
        choice: auto: as the images that are there; otherwise in half precision where the shard has enough images.
        plan: Number of images in the plan.
        shard: The scatter item, i-of-n.
        dtype: Arithmetic of the networks.
        recorded: Settings of the images that are there; None where there are none.
    """
    if choice != "auto":
        return choice == "always"
    if recorded is not None:
        return recorded.get("compile", False)
    images = math.ceil(plan / shard_number(shard)[1])
    if not torch.cuda.is_available() or dtype == "float32" or obstacle():
        return False
    pays = images >= PAYS_FROM
    tell(
        f"{'compiled' if pays else 'not compiled'}: {images} images a shard; compilation takes {COMPILATION:.0f} s and"
        f" pays from {PAYS_FROM} images (measured on an H200)"
    )
    return pays


def obstacle() -> str | None:
    """Why torch.compile can't make GPU code here; None where it can."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton isn't installed"
    major, minor = torch.cuda.get_device_capability()
    if major < 7:
        return f"Triton needs compute capability 7.0, {torch.cuda.get_device_name()} has {major}.{minor}"
    if not any(shutil.which(name) for name in (environ.get("CC", "cc"), "gcc", "clang")):
        return "there is no C compiler; install gcc, or set CC"
    return None


def compile_network(network: nn.Module) -> None:
    """Compile a network's forward pass at its first call, in place; where that fails, say so and run eager."""
    eager = network.forward
    compiled = torch.compile(eager, dynamic=False)

    def forward(*given: Any, **named: Any) -> Any:
        try:
            return compiled(*given, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            tell(f"{type(network).__name__} isn't compiled, eager runs: {reason}")
            network.forward = eager
            return eager(*given, **named)

    network.forward = forward
