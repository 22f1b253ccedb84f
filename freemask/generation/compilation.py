"""How networks get ahead of the host that launches them: CUDA graphs, torch.compile, and what happens without them."""

import importlib.util
import math
import shutil
from collections.abc import Callable, Mapping
from os import environ
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from freemask.cli import tell
from freemask.parallel import shard_number

# Measured on an H200 at Stable Diffusion 1.4's size in float16, batches of 8 (docs/benchmarks.md).
COMPILATION = 59.2  # seconds
EAGER, COMPILED = 0.3314, 0.2354  # seconds of an image
PAYS_FROM = math.ceil(COMPILATION / (EAGER - COMPILED))  # images; fewer on slower cards


def decide(choice: str, plan: int, shard: str, dtype: str, recorded: Mapping[str, Any] | None) -> bool:
    """Whether a shard's images are made by compiled networks.

    All shards of a plan decide the same, and a folder's images are all made the same way: they differ in rounding.

    Args: choice: always, never or auto: as the images that are there, otherwise in half precision where the shard has
        enough images; plan: number of its images; shard: i-of-n; dtype: arithmetic of the networks; recorded: settings
        of the images that are there, or None.
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
    used = torch.compile(eager, dynamic=False)

    def forward(*given: Any, **named: Any) -> Any:
        nonlocal used
        try:
            return used(*given, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            tell(f"{type(network).__name__} isn't compiled, eager runs: {reason}")
            used = eager
            return eager(*given, **named)

    network.forward = forward


class Captured:
    """A function whose launches on a GPU are captured as a CUDA graph at the first call with tensors of such shapes.

    The host then launches one graph instead of a thousand kernels: the same kernels, so the same bytes. Each set of
    shapes keeps the memory of its own graph. Tensors may be nested in lists, dictionaries and the like.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Any], Any]] = {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call the function; results are copies."""
        leaves, structure = tree_flatten((given, named))
        kind = (str(structure), *((leaf.shape, leaf.dtype) if torch.is_tensor(leaf) else leaf for leaf in leaves))
        if kind not in self.graphs:
            self.graphs[kind] = self._capture(leaves, structure)
        graph, inputs, result = self.graphs[kind]
        for own, leaf in zip(inputs, leaves, strict=True):
            if torch.is_tensor(leaf):
                own.copy_(leaf)
        graph.replay()
        return tree_map(torch.clone, result)

    def _capture(self, leaves: list[Any], structure: Any) -> tuple[torch.cuda.CUDAGraph, list[Any], Any]:
        """The graph, with the inputs that it reads and the result that it writes."""
        inputs = [leaf.clone() if torch.is_tensor(leaf) else leaf for leaf in leaves]
        given, named = tree_unflatten(inputs, structure)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their algorithms before, not during, the capture
            for _ in range(2):
                self.function(*given, **named)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread prepares the next batch meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self.function(*given, **named)
        return graph, inputs, result
