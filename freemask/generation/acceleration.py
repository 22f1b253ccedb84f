"""What makes a network's calls faster on a GPU: compilation, CUDA graphs, normalisation in the layout of its input."""

import shutil
from collections.abc import Callable
from os import environ
from typing import Any

import torch
from torch import nn


def obstacle_to_compiling() -> str | None:
    """Why torch.compile can't make GPU code here, as the end of a sentence; None where it can."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    try:
        import triton  # noqa: F401
    except ImportError:
        return "Triton isn't installed"
    major, minor = torch.cuda.get_device_capability()
    if major < 7:
        return f"Triton needs compute capability 7.0, {torch.cuda.get_device_name()} has {major}.{minor}"
    if not any(shutil.which(name) for name in (environ.get("CC", "cc"), "gcc", "clang")):
        return "there is no C compiler (cc, gcc or clang; or CC names one)"
    return None


class Captured:
    """A function of tensors of fixed shapes whose launches are captured as a CUDA graph at the first call.

    A replay costs the host one launch. The result is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None
        self.given: list[torch.Tensor] = []
        self.result: torch.Tensor | None = None

    def __call__(self, *given: torch.Tensor) -> torch.Tensor:
        """Call with tensors on the GPU."""
        if self.graph is None:
            self._capture(given)
        for own, other in zip(self.given, given, strict=True):
            own.copy_(other)
        self.graph.replay()
        return self.result

    def _capture(self, given: tuple[torch.Tensor, ...]) -> None:
        self.given = [tensor.clone() for tensor in given]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their algorithms before, not during, the capture
            for _ in range(2):
                self.function(*self.given)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may prepare the next batch meanwhile
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.result = self.function(*self.given)


class LayoutGroupNorm(nn.GroupNorm):
    """Group norm that returns the layout of its input: torch's on CUDA turns channels-last into contiguous.

    The next convolution would turn it back. Statistics are float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) of any layout to the same."""
        if x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).view(batch, height * width, self.num_groups, channels // self.num_groups)
        count = height * width * channels // self.num_groups
        mean = pixels.sum((1, 3), dtype=torch.float32) / count  # (B, G)
        square = torch.linalg.vector_norm(pixels, 2, (1, 3), dtype=torch.float32).square() / count
        scale = torch.rsqrt((square - mean.square()).clamp(min=0) + self.eps)
        each = channels // self.num_groups
        scale, mean = (value.repeat_interleave(each, 1) for value in (scale, mean))  # (B, C)
        scale = scale * self.weight
        shift = self.bias - mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, :, None, None], x, scale.to(x.dtype)[:, :, None, None])


def keep_layout(network: nn.Module) -> None:
    """Give a network's group norms LayoutGroupNorm's forward pass, in place; names of weights stay."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = LayoutGroupNorm


def compiled_or_eager(network: nn.Module, tell: Callable[[str], None]) -> None:
    """Compile a network's forward pass, in place; where compilation fails, one line says so and eager runs."""
    eager = network.forward
    compiled = torch.compile(eager, dynamic=False)
    chosen = [compiled]

    def forward(*given: Any, **named: Any) -> Any:
        try:
            return chosen[0](*given, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            if chosen[0] is eager:
                raise
            tell(f"{type(network).__name__} isn't compiled: {str(error).strip().splitlines()[0]}")
            chosen[0] = eager
            return eager(*given, **named)

    network.forward = forward
