"""Checkpoints: the best one of a training, and those of other people. Loading never executes what a file holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS, init_default_scope
from mmseg.registry import MODELS

from freemask import files
from freemask.data.label_space import refuse_other_classes
from freemask.errors import InputError
from freemask.parallel import some
from freemask.segmentation.initial_weights import without_initial_weights
from freemask.weights import load_safely

BEST = "best.json"  # in the work folder of a finished training: checkpoint (file name), steps


@HOOKS.register_module()
class DurableCheckpoints(CheckpointHook):
    """mmengine's CheckpointHook whose best checkpoint survives kills, and whose files can be loaded safely.

    The hook as shipped removes the previous best first, and after a resume doesn't record the new one before the next
    checkpoint: a kill in between leaves a run whose best is gone. Here each new best is followed by a checkpoint that
    names it. The previous best is kept while the previous checkpoint names it.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Replace what can't be loaded safely: histories of loss and learning rate by tensors, numpy's numbers."""
        hub = checkpoint["message_hub"]
        info = hub["runtime_info"].items()
        hub["runtime_info"] = {name: value.item() if isinstance(value, np.generic) else value for name, value in info}
        hub["log_scalars"] = {
            name: [torch.from_numpy(values) for values in history.data] for name, history in hub["log_scalars"].items()
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the histories."""
        if hub := checkpoint.get("message_hub"):
            hub["log_scalars"] = {
                name: HistoryBuffer(*(values.numpy() for values in history))
                for name, history in hub["log_scalars"].items()
                if isinstance(history, list)
            }

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
            needed = {Path(path).name for path in (before, self.best_ckpt_path) if path}
            for path in Path(self.out_dir).glob("best_*.pth"):
                if path.name not in needed:
                    path.unlink()

    def after_train(self, runner: Any) -> None:
        """Record which checkpoint was the best."""
        super().after_train(runner)
        if self.save_best and self.best_ckpt_path and is_main_process():
            name = Path(self.best_ckpt_path).name  # the folder may have moved since
            record = {"checkpoint": name, "steps": int(name.rpartition("_")[2].removesuffix(".pth"))}
            files.write_json(Path(self.out_dir, BEST), record)


def hand_out_best(work_dir: str | Path, weights: str | Path, steps_per_iteration: int) -> None:
    """Write the best checkpoint's weights (a state_dict, on the CPU) and beside them its iterations, as JSON.

    A training without validation has none: files that an earlier one left under these names are removed.
    Raises: InputError where the checkpoint of a training with validation is gone.
    """
    record, beside = Path(work_dir, BEST), Path(weights).with_suffix(".json")
    if not record.exists():
        for path in (Path(weights), beside):
            path.unlink(missing_ok=True)
        return
    found = files.read_json(record)
    path = Path(work_dir, found["checkpoint"])
    if not path.exists():
        raise InputError(f"{path}: the best checkpoint is gone; delete {work_dir} and train again")
    write_weights(weights, load_safely(path)["state_dict"])
    files.write_json(beside, {"iterations": found["steps"] // steps_per_iteration})


def best_iterations(weights: str | Path) -> int:
    """Iterations after which the best weights were saved; InputError where the training left none."""
    if not Path(weights).exists():
        raise InputError(f"{weights}: the training left no best checkpoint; train again (-R train)")
    return files.read_json(Path(weights).with_suffix(".json"))["iterations"]


def write_weights(path: str | Path, state: dict[str, torch.Tensor]) -> None:
    """Write a state_dict with tensors on the CPU, atomically."""
    own = {name: value.detach().cpu().clone() for name, value in state.items()}  # no other views of their storage
    files.write_atomic(path, lambda file: torch.save(own, file))


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """The weights of a checkpoint (or of a plain state_dict), on the CPU, and its class names, if it has them.

    Raises: InputError for a file that is missing or damaged, holds no weights, or can't be loaded safely.
    """
    loaded = load_safely(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not (isinstance(state, dict) and state and all(isinstance(value, torch.Tensor) for value in state.values())):
        raise InputError(f"{path}: holds no weights (no state_dict of tensors); give a checkpoint of a segmentor")
    meta = loaded.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    newer = meta.get("dataset_meta")  # mmengine's; mmseg 0.x has CLASSES
    names = newer.get("classes") if isinstance(newer, dict) else meta.get("CLASSES")
    return dict(state), [str(name).strip() for name in names] if isinstance(names, list | tuple) else None


def build_model(config: Config) -> torch.nn.Module:
    """The config's model with random weights, its batch normalisation for one process."""
    init_default_scope("mmseg")
    return revert_sync_batchnorm(MODELS.build(without_initial_weights(config.model)))


def load_strictly(model: torch.nn.Module, state: dict[str, torch.Tensor], source: str | Path) -> None:
    """Load weights into a model.

    Raises: InputError where names or shapes differ from the model's, or a weight isn't finite.
    """
    expected = model.state_dict()
    faults = {
        "lacks": sorted(expected.keys() - state.keys()),
        "has, unknown to the model,": sorted(state.keys() - expected.keys()),
        "has of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in state and state[name].shape != value.shape
        ],
    }
    if told := [f"{what} {some(names)}" for what, names in faults.items() if names]:
        raise InputError(
            f"{source}: not the weights of the config's model: {'; '.join(told)}; give those that belong, or correct "
            "the experiment's model"
        )
    if broken := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        raise InputError(f"{source}: {some(broken)} isn't finite; give another checkpoint")
    model.load_state_dict(state)


def import_weights(config: Config, path: str | Path, sha256: str | None, names: Sequence[str]) -> dict[str, Any]:
    """A checkpoint's weights as the model of a training's config holds them: a state_dict on the CPU.

    Args: sha256: the file's digest or its first hex digits; None: not checked. names: classes in train-id order.
    Raises: InputError where digest, classes, names or shapes differ.
    """
    if sha256:
        files.check_sha256(path, sha256, "fetch it again, or correct sha256")
    state, classes = read_checkpoint(path)
    if classes is not None:
        refuse_other_classes(classes, names, path)
    model = build_model(config)
    load_strictly(model, state, path)
    return model.state_dict()
