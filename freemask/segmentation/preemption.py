"""Ending a training early without losing iterations, and going on as if nothing had happened.

Slurm sends SIGTERM before a time limit, a preemption or a cancellation, and SIGKILL some seconds later (KillWait).
"""

import atexit
import multiprocessing
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS

from freemask import cli


@FUNCTIONS.register_module()
def leave_sigterm_to_parent(worker_id: int) -> None:
    """Let a data loading process outlive a SIGTERM to its whole group, or the training would fail before it saves.

    For trainings with SaveOnTerminate, which ends these processes: by SIGTERM nobody can any more.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_loaders() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call it an error
    for process in multiprocessing.active_children():
        process.kill()


def _keep_two(folder: Path) -> None:
    """Leave the newest two checkpoints: mmengine doesn't count those saved here among the ones that it keeps."""
    numbered = sorted(folder.glob("iter_*.pth"), key=lambda path: int(path.stem.removeprefix("iter_")))
    for path in numbered[:-2]:
        path.unlink()


@HOOKS.register_module()
class SaveOnTerminate(Hook):
    """On SIGTERM to any process: finish the update, save a checkpoint, end all processes with code 143.

    Args: accumulate: steps to one update; a checkpoint between them would lose gradients.
    """

    priority = "LOWEST"

    def __init__(self, accumulate: int = 1) -> None:
        self.accumulate = accumulate
        self.asked = False
        self.previous: Any = None

    def before_train(self, runner: Any) -> None:
        """Take SIGTERM over, and the end of data loading processes, however the training ends."""
        self.previous = signal.signal(signal.SIGTERM, self._note)
        atexit.register(_end_loaders)  # runs before multiprocessing's own, which would wait for them

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """After an update, see whether to end."""
        done = runner.iter + 1  # mmengine counts up after this
        if done % self.accumulate == 0:
            self._end_if_asked(runner, done)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A validation can take longer than KillWait."""
        self._end_if_asked(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Give SIGTERM back."""
        signal.signal(signal.SIGTERM, self.previous)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True

    def _end_if_asked(self, runner: Any, done: int) -> None:
        asked = torch.tensor(int(self.asked))
        all_reduce(asked, "max")  # the signal reaches the processes at different moments
        if not asked.item():
            return
        name = f"iter_{done}.pth"
        if not Path(runner.work_dir, name).exists():
            runner.save_checkpoint(runner.work_dir, name, meta={"iter": done}, by_epoch=False)
            if is_main_process():
                _keep_two(Path(runner.work_dir))
        barrier()  # no process may end, and torchrun then kill the others, before the file is there
        if is_main_process():
            cli.tell(f"SIGTERM: saved {runner.cfg.work_dir}/{name}; the same command goes on from there")
        raise SystemExit(128 + signal.SIGTERM)


@HOOKS.register_module()
class RepeatValidation(Hook):
    """Validate at the start of a resumed training whose checkpoint was saved just before a validation.

    What a killed run knew of that validation, the best checkpoint so far among it, isn't in the checkpoint.
    """

    def before_train_epoch(self, runner: Any) -> None:
        """Called once, when mmengine has set all hooks up."""
        loop = runner.train_loop
        due = runner.iter >= loop.val_begin and (
            runner.iter % loop.val_interval == 0 or runner.iter == runner.max_iters
        )
        if runner.iter > 0 and due and runner.val_loop is not None:
            runner.val_loop.run()
