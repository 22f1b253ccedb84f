"""Batches that cross from a loading process to the training in one piece, while the model trains on the last one."""

import io
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import IterBasedTrainLoop

ALIGNED = 8  # bytes: where a tensor of any type may begin


class PackedBatch(dict):
    """A batch (inputs, data_samples) that is pickled as one tensor and a description.

    PyTorch opens a file for each tensor that another process sends: with two tensors an image, receiving takes longer
    than making them.
    """

    def __reduce__(self) -> tuple[Callable, tuple]:
        """Called by pickle: a function that makes the batch again, and its arguments."""
        tensors: list[torch.Tensor] = []
        described = io.BytesIO()
        pickler = _WithoutTensors(described, tensors)
        pickler.dump(dict(self))
        flat = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
        padded = [torch.nn.functional.pad(part, (0, -len(part) % ALIGNED)) for part in flat]
        shapes = [(tensor.dtype, tensor.shape) for tensor in tensors]
        return unpack, (described.getvalue(), torch.cat(padded), shapes)


class _WithoutTensors(pickle.Pickler):
    """Leaves tensors out: a number stands for each."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors = tensors

    def persistent_id(self, value: Any) -> int | None:
        """Called by pickle: the number of a tensor; None for what is pickled as usual."""
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
        """Called by pickle: the tensor of a number."""
        return self.tensors[number]


def unpack(described: bytes, packed: torch.Tensor, shapes: list[tuple[torch.dtype, torch.Size]]) -> dict[str, Any]:
    """The batch again; its tensors are views of `packed`."""
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


class Ahead:
    """mmengine's endless iterator over batches, with the next one being received by a thread.

    For loading processes only: without them, the thread would draw from the random numbers of the training.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.receiver = ThreadPoolExecutor(1)
        self.following: Future | None = None

    def __next__(self) -> dict[str, Any]:
        """The batch whose turn it is; the first is awaited here, since processes start safely from the main thread."""
        batch = self.following.result() if self.following else next(self.batches)
        self.following = self.receiver.submit(next, self.batches)
        return batch

    def skip_iter(self, number: int) -> None:
        """Leave out the first batches (mmengine calls it before the first when it resumes)."""
        self.batches.skip_iter(number)

    def settle(self) -> None:
        """Wait for the batch that is being received: nothing runs in the thread then, so processes may be started."""
        if self.following:
            wait([self.following])

    def close(self) -> None:
        """Receive no more."""
        self.receiver.shutdown(cancel_futures=True)


@LOOPS.register_module()
class LoadAheadTrainLoop(IterBasedTrainLoop):
    """mmengine's training by iterations, with batches received ahead from loading processes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.dataloader_iterator = Ahead(self.dataloader_iterator)

    def run_iter(self, data_batch: dict[str, Any]) -> None:
        """One iteration; before a validation, whose first one starts loading processes, nothing is being received."""
        super().run_iter(data_batch)
        if self.runner.val_loop is not None and (self._iter % self.val_interval == 0 or self._iter == self.max_iters):
            self.dataloader_iterator.settle()

    def run(self) -> torch.nn.Module:
        """Train to the end."""
        try:
            return super().run()
        finally:
            self.dataloader_iterator.close()
