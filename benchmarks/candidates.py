"""Ways to make a UNet's calls faster on a GPU that nobody has measured yet; benchmarks/gpu.sh does."""

from collections.abc import Callable

import torch
from torch import nn


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
