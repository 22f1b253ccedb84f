"""Parameter groups, merged where nothing tells them apart; forward passes in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import nn

from freemask.errors import InputError

BFLOAT16_CAPABILITY = (8, 0)  # Ampere; torch.cuda.is_bf16_supported() also says yes where it is emulated, slowly


def refuse_slow_bfloat16() -> None:
    """Raises: InputError on a GPU without bfloat16 arithmetic, e.g. a V100 (compute capability 7.0)."""
    if torch.cuda.is_available() and (found := torch.cuda.get_device_capability()) < BFLOAT16_CAPABILITY:
        raise InputError(
            f"training_precision = bf16, but {torch.cuda.get_device_name()} has compute capability "
            f"{found[0]}.{found[1]}, bf16 wants 8.0 or more; choose fp16 or fp32"
        )


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """An OptimWrapper whose forward pass computes in bfloat16 where torch's autocast allows it; weights stay float32.

    mmengine's AmpOptimWrapper scales the loss for float16's small range, which bfloat16 needn't, and wants a GPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, inside mmengine's context for accumulation."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroups(DefaultOptimWrapperConstructor):
    """mmengine's parameter-wise options with one group per distinct setting, not one per parameter.

    The same update; on a small model a per-parameter optimizer step takes a third of an iteration.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Collect the groups of a module; at the root, merge those with equal options."""
        super().add_params(params, module, prefix=prefix, **options)
        if prefix:
            return
        merged: dict[tuple, dict[str, Any]] = {}
        for group in params:
            key = tuple(sorted((name, value) for name, value in group.items() if name != "params"))
            merged.setdefault(key, {**group, "params": []})["params"].extend(group["params"])
        params[:] = merged.values()
