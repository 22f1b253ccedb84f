"""The order of training pairs and the seeds of their augmentation, as functions of train seed and position alone.

A step of training draws one global batch: positions step * size .. (step + 1) * size - 1, `size` = batch per rank
times ranks; rank r takes the r-th contiguous block. So any number of ranks (or of accumulated steps) sees the same
sequence, and a resumed run continues at a position without replaying what came before.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from freemask.errors import InputError
from freemask.streams import Stream


def seed_all(*entropy: int) -> None:
    """Seed Python's, numpy's and torch's generators from whole numbers (train seed, position, ...)."""
    seed = np.random.SeedSequence(entropy).generate_state(1).item()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - mmcv's transforms draw from numpy's global generator
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond: it notes the stack for CUDA
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class Draw(int):
    """The index of a pair, with `entropy`: the seed of its augmentation."""

    entropy: tuple[int, ...] = ()

    @classmethod
    def make(cls, index: int, entropy: tuple[int, ...]) -> "Draw":
        """An index drawn with this entropy (train seed, position)."""
        draw = cls(index)
        draw.entropy = entropy
        return draw


class PositionSampler(Sampler):
    """An endless sampler over a PairListDataset; subclasses define the pair at each position.

    Args:
        dataset: Has `sizes`, the number of pairs in each of its tables.
        batch_size: Pairs per rank and step.
        seed: Train seed.
        accumulate: Steps per update.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int, accumulate: int = 1) -> None:
        self.rank, self.ranks = get_dist_info()
        self.sizes: list[int] = list(dataset.sizes)
        self.batch_size, self.seed, self.accumulate = batch_size, seed, accumulate
        self.start = 0

    def pair(self, position: int) -> int:
        """Index of the pair at a position of the stream."""
        raise NotImplementedError

    def position(self, drawn: int) -> int:
        """Global position of this rank's draw number `drawn`."""
        step, place = divmod(drawn, self.batch_size)
        return (step * self.ranks + self.rank) * self.batch_size + place

    def __iter__(self) -> Iterator[Draw]:
        """Draw without end, from where `skip` left the stream."""
        drawn = self.start
        while True:
            position = self.position(drawn)
            yield Draw.make(self.pair(position), (self.seed, position))
            drawn += 1

    def skip(self, num_samples: int) -> None:
        """Start after this many draws of this rank (mmengine calls it when it resumes)."""
        self.start = num_samples

    def __len__(self) -> int:
        return sum(self.sizes)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the stream has no epochs, but mmengine calls this method."""


@DATA_SAMPLERS.register_module()
class ShuffledSampler(PositionSampler):
    """All pairs, shuffled anew in every pass.

    repeat_real: the released joint training: the first table's (real) pairs round(n_synthetic / n_real) times, all
    shuffled together, so that halves hold on average only.
    """

    def __init__(self, *arguments: Any, repeat_real: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        real = np.arange(self.sizes[0])
        times = max(1, round(self.sizes[1] / self.sizes[0])) if repeat_real else 1
        self.pairs = np.concatenate([np.tile(real, times), np.arange(self.sizes[0], sum(self.sizes))])
        self.stream = Stream(len(self.pairs), self.seed, 0)

    def pair(self, position: int) -> int:
        """Index of the pair at a position of the stream."""
        return int(self.pairs[self.stream[position]])


@DATA_SAMPLERS.register_module()
class BalancedSampler(PositionSampler):
    """Every mini-batch exactly half from the first table (real), half from the second (synthetic).

    Positions alternate real, synthetic, real, ...: an even batch is balanced within a rank, a batch of one across
    the ranks of a step, and with `accumulate` steps to one update across these. Either half is shuffled anew in
    each of its passes and uses each of its pairs once in a pass.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if len(self.sizes) != 2:
            raise InputError(f"BalancedSampler: {len(self.sizes)} tables, want two: real, synthetic")
        update = self.batch_size * self.ranks * self.accumulate
        if update % 2:
            raise InputError(
                f"BalancedSampler: {update} image(s) an update cannot be half real, half synthetic; use an even number"
                " of GPUs or accumulate an even number of steps"
            )
        self.streams = [Stream(size, self.seed, number) for number, size in enumerate(self.sizes)]

    def pair(self, position: int) -> int:
        """Index of the pair at a position of the stream."""
        half = position % 2
        return half * self.sizes[0] + self.streams[half][position // 2]
