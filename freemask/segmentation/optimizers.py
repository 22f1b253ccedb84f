"""Optimizers with merged parameter groups and fused steps; forward passes in bfloat16."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")  # options that don't change the update


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """An OptimWrapper whose forward pass computes in bfloat16 where torch's autocast allows it; weights stay float32.

    mmengine's AmpOptimWrapper scales the loss for float16's small range and needs a GPU; bfloat16 needs neither.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, inside mmengine's context for accumulation."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroups(DefaultOptimWrapperConstructor):
    """mmengine's constructor under a name that earlier configs give; the runner merges the groups of every training."""


def with_fused_steps(optimizer: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's config that asks for the fused implementation, which updates all tensors of a group in one launch.

    Unchanged where the config chooses an implementation itself, or the optimizer has no fused one.
    """
    kind = optimizer["type"]
    found = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    has_fused = found is not None and "fused" in inspect.signature(found).parameters
    chosen = any(optimizer.get(name) is not None for name in IMPLEMENTATION)
    return {**optimizer, "fused": True} if has_fused and not chosen else optimizer


def merge_groups(groups: list[dict[str, Any]]) -> list[int]:
    """Merge parameter groups with equal options, in place, in the order in which the options first occur.

    mmengine makes one group per tensor (767 for SegFormer-B4), and optimizers batch their work within a group only.
    The update of each tensor stays the same.

    Args:
        groups: Of an optimizer, or of its state_dict: they are merged alike, since a group keeps its initial rate.
    Returns: the position that each remaining group's first tensor had.
    """
    made: dict[str, int] = {}
    for position, group in enumerate(groups):
        options = repr(sorted((name, value) for name, value in group.items() if name != "params"))
        first = made.setdefault(options, position)
        if first != position:
            groups[first]["params"] = [*groups[first]["params"], *group["params"]]
    kept = list(made.values())
    groups[:] = [groups[position] for position in kept]
    return kept


def adapt_state(checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Make an earlier checkpoint, with a group per tensor and no fused steps, one of this optimizer, in place.

    Only what doesn't change the update is adapted; torch refuses a state of other tensors.
    """
    groups = checkpoint["optimizer"]["param_groups"]
    for group in groups:
        group.update({name: optimizer.defaults[name] for name in IMPLEMENTATION if name in optimizer.defaults})
    before, kept = len(groups), merge_groups(groups)
    for scheduler in checkpoint.get("param_schedulers", []):
        for name in ("base_values", "_last_value"):  # one value a group, then that of mmengine's base_param_settings
            if values := scheduler.get(name):
                scheduler[name] = [values[position] for position in kept] + values[before:]
