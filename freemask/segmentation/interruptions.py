"""Trainings that end early without losing iterations (see freemask.stopping), and resume with the same result."""

import atexit
import errno
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS, HOOKS

from freemask import files
from freemask.segmentation.outputs import TIMES
from freemask.stopping import Stop, ignore_sigterm, kill_loaders

# Of data loading processes. Requires SaveOnTerminate, which kills them at the end.
FUNCTIONS.register_module("leave_sigterm_to_parent", module=ignore_sigterm)


@HOOKS.register_module()
class SaveOnTerminate(Hook):
    """On SIGTERM to any process: finish the update, save a checkpoint, end all processes with code 143.

    Args: accumulate: steps to one update; a checkpoint between them would lose gradients.
    """

    priority = "LOWEST"

    def __init__(self, accumulate: int = 1) -> None:
        self.accumulate = accumulate
        self.stop = Stop()
        self.begun = 0  # iterations that the training resumed from

    def before_train(self, runner: Any) -> None:
        """Handle SIGTERM, and the end of data loading processes, however the training ends."""
        self.begun = runner.iter
        self.stop.__enter__()  # ends in after_train
        atexit.register(kill_loaders)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End after an update."""
        done = runner.iter + 1  # mmengine counts up after this
        if done % self.accumulate == 0:
            self._end_if_terminated(runner, done)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End during a validation, which can take longer than KillWait."""
        self._end_if_terminated(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Restore the handler of SIGTERM."""
        self.stop.__exit__()

    def _end_if_terminated(self, runner: Any, done: int) -> None:
        terminated = torch.tensor(int(self.stop.requested))
        all_reduce(terminated, "max")  # the signal reaches the processes at different moments
        if not terminated.item():
            return
        name = f"iter_{done}.pth"
        if not Path(runner.work_dir, name).exists():
            runner.save_checkpoint(runner.work_dir, name, meta={"iter": done}, by_epoch=False)
            if is_main_process():
                for _, path in _numbered(runner.work_dir)[:-2]:  # mmengine's limit doesn't count those saved here
                    path.unlink()
        barrier()  # no process may end, and torchrun then kill the others, before the file is there
        self.stop.saved = done - self.begun
        self.stop.end(f"saved {runner.cfg.work_dir}/{name}", is_main_process())


@HOOKS.register_module()
class RepeatValidation(Hook):
    """Validate at the start of a resumed training whose checkpoint was saved just before a validation.

    The result of that validation, maybe a new best checkpoint, isn't in the checkpoint.
    """

    def before_train_epoch(self, runner: Any) -> None:
        """Called once, when mmengine has set all hooks up."""
        loop = runner.train_loop
        due = runner.iter >= loop.val_begin and (
            runner.iter % loop.val_interval == 0 or runner.iter == runner.max_iters
        )
        if runner.iter > 0 and due and runner.val_loop is not None:
            runner.val_loop.run()


def latest_checkpoint(work_dir: str | Path, inputs: str) -> Path | None:
    """The newest checkpoint iter_<n>.pth that can be read and was made from these inputs; newer others are removed.

    Returns: its path, or None where there is none.
    """
    for _, path in reversed(_numbered(work_dir)):
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            # EINVAL: truncated file. Another OSError may be temporary, so the file stays.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            print_log(f"{path}: damaged checkpoint removed ({error})", logger="current")
        else:
            if checkpoint["meta"].get("inputs") == inputs:
                return path
            print_log(f"{path}: checkpoint of another config or other tables removed", logger="current")
        path.unlink(missing_ok=True)
    return None


def _numbered(work_dir: str | Path) -> list[tuple[int, Path]]:
    """Checkpoints iter_<n>.pth with their numbers, ascending."""
    matches = [(re.fullmatch(r"iter_(\d+)\.pth", path.name), path) for path in Path(work_dir).glob("iter_*.pth")]
    return sorted((int(match[1]), path) for match, path in matches if match)


def start_over(work_dir: str | Path, inputs: str) -> None:
    """Empty the work folder of a training without a checkpoint to resume from.

    Times of segments that were killed before their first checkpoint stay, if they are of the same inputs and none of
    them ran to its end.
    """
    segments = {path: files.read_json(path) for path in Path(work_dir, TIMES).glob("*.json")}
    ended = any(segment.get("finished") for segment in segments.values())
    for path in Path(work_dir).glob("*"):
        if path.name == TIMES:
            for file, segment in segments.items():
                if ended or segment.get("inputs") != inputs:
                    file.unlink()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_checkpoints(work_dir: str | Path) -> None:
    """Remove the checkpoints of a finished training; logs stay."""
    for pattern in ("iter_*.pth", "best_*.pth", ".*.pth.tmp"):  # the last: left half-written by a kill
        for path in Path(work_dir).glob(pattern):
            path.unlink(missing_ok=True)
