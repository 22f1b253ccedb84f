"""How long a training held its GPUs: a file per segment (from a start to a kill, or to the end) in the work folder."""

import os
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from freemask import files
from freemask.segmentation.outputs import FOLDER

EVERY = 20.0  # seconds between writes: what a SIGKILL loses at most, beside the iteration under way


@HOOKS.register_module()
class CountTime(Hook):
    """Keep time/<start>.json in the work folder up to date: see freemask.cost for what it holds.

    Validations during training are counted, the start of the processes isn't.
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
        self.path = Path(runner.work_dir, FOLDER, name)
        self._write()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write the time so far, at intervals."""
        self._write_at_intervals()

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write the time so far, at intervals."""
        self._write_at_intervals()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the time so far: a run that was asked to end saves a checkpoint and ends."""
        if self.path is not None:
            self._write()

    def after_run(self, runner: Any) -> None:
        """End the segment."""
        if self.path is not None:
            self.record["finished"] = True
            self._write()

    def _write_at_intervals(self) -> None:
        if self.path is not None and time.monotonic() - self.written >= EVERY:
            self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        files.write_json(self.path, {**self.record, "seconds": round(self.written - self.start, 3)})


def start_over(work_dir: str | Path, inputs: str) -> None:
    """Empty the work folder of a run without a checkpoint to resume from.

    Times stay of segments killed before their first checkpoint: of the same inputs, in a run that never ended.
    """
    segments = {path: files.read_json(path) for path in Path(work_dir, FOLDER).glob("*.json")}
    ended = any(segment.get("finished") for segment in segments.values())
    for path in Path(work_dir).glob("*"):
        if path.name == FOLDER:
            for file, segment in segments.items():
                if ended or segment.get("inputs") != inputs:
                    file.unlink()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
