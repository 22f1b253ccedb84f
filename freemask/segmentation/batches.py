"""Batches that cross from a loading process to the training in one piece."""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS

ALIGNED = 8  # bytes: where a tensor of any type may begin
SMALL = 2**20  # bytes that go through the pipe: copying them is quicker than fetching a file's descriptor


class PackedBatch(dict):
    """A batch (inputs, data_samples) that is pickled as one piece of memory and a description.

    PyTorch opens a file for each tensor that another process sends: with two tensors an image, receiving takes longer
    than making them.
    """

    def __reduce__(self) -> tuple[Callable, tuple]:
        tensors: list[torch.Tensor] = []
        described = io.BytesIO()
        pickler = _WithoutTensors(described, tensors)
        pickler.dump(dict(self))
        flat = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
        padded = [torch.nn.functional.pad(part, (0, -len(part) % ALIGNED)) for part in flat]
        shapes = [(tensor.dtype, tensor.shape) for tensor in tensors]
        packed = torch.cat(padded)
        if len(packed) < SMALL:
            packed = bytearray(packed.numpy())
        return unpack, (described.getvalue(), packed, shapes)


class _WithoutTensors(pickle.Pickler):
    """Leaves tensors out: a number stands for each."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors = tensors

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, torch.Tensor):
            return None
        self.tensors.append(value)
        return len(self.tensors) - 1


class _WithTensors(pickle.Unpickler):
    """Puts them in again."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, number: int) -> torch.Tensor:
        return self.tensors[number]


def unpack(
    described: bytes, packed: torch.Tensor | bytearray, shapes: list[tuple[torch.dtype, torch.Size]]
) -> dict[str, Any]:
    """The batch again; its tensors are views of `packed`."""
    if isinstance(packed, bytearray):
        packed = torch.frombuffer(packed, dtype=torch.uint8)
    tensors, start = [], 0
    for dtype, shape in shapes:
        end = start + shape.numel() * dtype.itemsize
        tensors.append(packed[start:end].view(dtype).view(shape))
        start = end + -end % ALIGNED
    return _WithTensors(io.BytesIO(described), tensors).load()


@FUNCTIONS.register_module()
def collate_packed(samples: Sequence[dict[str, Any]]) -> PackedBatch:
    """Collate as mmengine's pseudo_collate does, lists of what the samples hold."""
    return PackedBatch(pseudo_collate(samples))
