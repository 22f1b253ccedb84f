"""What happens around an iteration: seeds, a check of the loss, progress for people."""

import math
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from freemask import cli
from freemask.errors import InputError
from freemask.segmentation.seeds import seed_all


@HOOKS.register_module()
class SeedEachIteration(Hook):
    """Seed the model's random numbers (drop path, dropout) from train seed, iteration and rank.

    An interrupted run then continues with the numbers that an uninterrupted one would have drawn.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed before the forward pass."""
        seed_all(self.seed, runner.iter, get_rank())


@HOOKS.register_module()
class RefuseNonFiniteLoss(Hook):
    """End a run whose loss isn't finite, naming the images of the batch; checkpoints stay as they were.

    All ranks agree first, so that all end in the same iteration and none waits for one that is gone.
    """

    priority = "HIGH"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Raises: InputError on every rank, with iteration, loss and file names of the ranks that have such a loss."""
        finite = torch.isfinite(outputs["loss"].detach()).float()
        all_reduce(finite, "min")
        if finite.item():
            return
        names = [sample.img_path for sample in data_batch["data_samples"]]
        ranks = all_gather_object((outputs["loss"].item(), names))
        bad = [(loss, ", ".join(paths)) for loss, paths in ranks if not math.isfinite(loss)]
        raise InputError(
            f"iteration {runner.iter + 1}: loss is {bad[0][0]}; look at the batch's images and masks, or lower the"
            f" learning rate. Batch: {'; '.join(paths for _, paths in bad)}"
        )


@HOOKS.register_module()
class ProgressLines(Hook):
    """Print iterations done, their rate and the remaining time, as lines."""

    priority = "LOWEST"

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Any = None

    def before_train(self, runner: Any) -> None:
        """Start at the iteration that the run (re)starts from."""
        if is_main_process():
            self.bar = cli.bar(self.description, runner.max_iters, "iteration")
            self.bar.update(runner.iter)
            self.bar.initial = runner.iter

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count one iteration."""
        if self.bar is not None:
            self.bar.update()

    def after_train(self, runner: Any) -> None:
        """Close the bar with its last line."""
        if self.bar is not None:
            self.bar.close()
