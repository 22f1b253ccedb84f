"""Hooks around an iteration: seeds, a check of the loss, recorded times, progress lines."""

import math
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from freemask import cli, files
from freemask.errors import InputError
from freemask.segmentation.outputs import TIMES
from freemask.segmentation.samplers import seed_all

WRITE_TIMES_EVERY = 20.0  # seconds: what a SIGKILL loses at most, beside the iteration under way


@HOOKS.register_module()
class SeedEachIteration(Hook):
    """Seed the model's random numbers (drop path, dropout) from train seed, iteration and rank.

    A resumed training then draws the numbers that an uninterrupted one would have drawn.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed before the forward pass."""
        seed_all(self.seed, runner.iter, get_rank())


@HOOKS.register_module()
class RefuseNonFiniteLoss(Hook):
    """End a training whose loss isn't finite, naming the images of the batch; checkpoints stay as they were.

    All ranks agree first, so that all end in the same iteration and so that no rank waits for one that has ended.
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
class CountTime(Hook):
    """Write how long a training holds its GPUs: a file per segment, from a start to a kill or to the end.

    The file is <work folder>/time/<start>.json (see outputs.read_segments). Validations during training are counted,
    the start of the processes isn't.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.path: Path | None = None
        self.record: dict[str, Any] = {}
        self.start = self.written = 0.0

    def before_run(self, runner: Any) -> None:
        """Begin a segment."""
        if not is_main_process():
            return
        self.start, now = time.monotonic(), datetime.now(UTC)
        cuda = torch.cuda.is_available()
        self.record = {
            "inputs": runner.cfg.inputs,
            "started": now.isoformat(timespec="seconds"),
            "gpus": get_world_size() if cuda else 0,
            "device": torch.cuda.get_device_name() if cuda else "CPU",
        }
        name = f"{now:%Y%m%d_%H%M%S_%f}_{socket.gethostname()}_{os.getpid()}.json"
        self.path = Path(runner.work_dir, TIMES, name)
        self._write()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write the time so far, at intervals."""
        self._write(WRITE_TIMES_EVERY)

    after_val_iter = after_train_iter

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the time so far: after a SIGTERM, the training ends with a checkpoint."""
        self._write()

    def after_run(self, runner: Any) -> None:
        """End the segment."""
        self.record["finished"] = True
        self._write()

    def _write(self, interval: float = 0.0) -> None:
        """Write the record if the last time was so many seconds ago; only the first rank has one."""
        now = time.monotonic()
        if self.path is not None and now - self.written >= interval:
            self.written = now
            files.write_json(self.path, {**self.record, "seconds": round(now - self.start, 3)})


@HOOKS.register_module()
class ProgressLines(Hook):
    """Print iterations done, their rate and the remaining time, as lines."""

    priority = "LOWEST"

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Any = None

    def before_train(self, runner: Any) -> None:
        """Start at the iteration that the training starts or resumes from."""
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
