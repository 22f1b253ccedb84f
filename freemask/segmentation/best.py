"""Checkpoints of which the best by mIoU survives kills and resumes."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from freemask import files
from freemask.errors import InputError

RECORD = "best.json"  # in the work folder of a finished run: checkpoint (file name), steps


@HOOKS.register_module()
class DurableCheckpoints(CheckpointHook):
    """mmengine's CheckpointHook that removes a best checkpoint only once nothing resumes to it.

    The hook as shipped removes the previous best first, and after a resume doesn't record the new one before the next
    checkpoint: a kill in between leaves a run whose best is gone. Here each new best is followed by a checkpoint that
    names it. The best before it stays, for the checkpoint before.
    """

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        before = self.best_ckpt_path
        self.best_ckpt_path = None  # nothing to remove for mmengine
        self.last_ckpt = self.last_ckpt or ""  # not None: a checkpoint that names the new best follows
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = before
        elif is_main_process():
            kept = {Path(path).name for path in (before, self.best_ckpt_path) if path}
            for path in Path(self.out_dir).glob("best_*.pth"):
                if path.name not in kept:
                    path.unlink()

    def after_train(self, runner: Any) -> None:
        """Write down which checkpoint was the best."""
        super().after_train(runner)
        if self.save_best and self.best_ckpt_path and is_main_process():
            name = Path(self.best_ckpt_path).name  # the folder may have moved since
            record = {"checkpoint": name, "steps": int(name.rpartition("_")[2].removesuffix(".pth"))}
            files.write_json(Path(self.out_dir, RECORD), record)


def hand_out(work_dir: str | Path, weights: str | Path, steps_per_iteration: int = 1) -> None:
    """Write the best checkpoint's weights (a state_dict, on the CPU) and beside them its iterations, as JSON.

    A run without validation has none: what an earlier one left under these names is removed.
    Raises: InputError where the checkpoint of a run with validation is gone.
    """
    record, beside = Path(work_dir, RECORD), Path(weights).with_suffix(".json")
    if not record.exists():
        for path in (Path(weights), beside):
            path.unlink(missing_ok=True)
        return
    found = files.read_json(record)
    path = Path(work_dir, found["checkpoint"])
    if not path.exists():
        raise InputError(f"{path}: the best checkpoint is gone; delete {work_dir} and train again")
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    state = {name: value.detach().clone() for name, value in state.items()}
    files.write_atomic(weights, lambda file: torch.save(state, file))
    files.write_json(beside, {"iterations": found["steps"] // steps_per_iteration})
