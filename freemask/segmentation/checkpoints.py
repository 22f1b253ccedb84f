"""Checkpoints of other people, read without executing anything that they hold, and compared strictly with a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from freemask import files
from freemask.data.label_space import refuse_other_classes
from freemask.errors import InputError
from freemask.parallel import some
from freemask.segmentation.runner import without_initial_weights
from freemask.weights import load_harmless


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """The weights of a checkpoint (or of a plain state_dict), on the CPU, and the class names that it tells, if any.

    Raises: InputError for a file that isn't there, is damaged, holds no weights, or holds anything but tensors, plain
    values and what harmless.HARMLESS names.
    """
    loaded = load_harmless(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not (isinstance(state, dict) and state and all(isinstance(value, torch.Tensor) for value in state.values())):
        raise InputError(f"{path}: holds no weights (no state_dict of tensors); give a checkpoint of a segmentor")
    return dict(state), _classes(loaded.get("meta"))


def _classes(meta: Any) -> list[str] | None:
    """Class names of mmengine's meta (dataset_meta.classes) or mmseg 0.x's (CLASSES)."""
    if not isinstance(meta, dict):
        return None
    newer = meta.get("dataset_meta")
    names = newer.get("classes") if isinstance(newer, dict) else meta.get("CLASSES")
    return [str(name).strip() for name in names] if isinstance(names, list | tuple) else None


def build_model(config: Config) -> torch.nn.Module:
    """The config's model with random weights, its batch normalisation for one process."""
    init_default_scope("mmseg")
    return revert_sync_batchnorm(MODELS.build(without_initial_weights(config.model)))


def load_strictly(model: torch.nn.Module, state: dict[str, torch.Tensor], source: str | Path) -> None:
    """Load weights into a model.

    Raises: InputError where names or shapes differ from the model's, or a weight isn't finite.
    """
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = [("lacks", missing), ("has, unknown to the model,", extra), ("has of another shape", shapes)]
    if told := [f"{what} {some(names)}" for what, names in faults if names]:
        raise InputError(
            f"{source}: not the weights of the config's model: {'; '.join(told)}; give those that belong, or correct "
            "the experiment's model"
        )
    if broken := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        raise InputError(f"{source}: {some(broken)} isn't finite; the checkpoint is of no use, give another")
    model.load_state_dict(state)


def import_weights(config: Config, path: str | Path, sha256: str | None, names: Sequence[str]) -> dict[str, Any]:
    """A checkpoint's weights as the config's model holds them: a state_dict on the CPU.

    Args: sha256: the file's digest or its first hex digits; names: the data set's classes in train-id order.
    Raises: InputError where digest, classes, names or shapes differ.
    """
    if Path(path).is_file() and sha256 and not (found := files.sha256(path)).startswith(sha256):
        raise InputError(f"{path}: SHA-256 {found}, want {sha256} as configured; fetch it again, or correct sha256")
    state, classes = read_checkpoint(path)
    if classes is not None:
        refuse_other_classes(classes, names, path)
    model = build_model(config)
    load_strictly(model, state, path)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
