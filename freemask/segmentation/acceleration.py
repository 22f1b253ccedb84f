"""What makes a model's training steps faster on a GPU without changing what is computed, but for rounding."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import nn


def skip_attention_weights(model: nn.Module) -> None:
    """Let a model's attention layers use fused kernels, in place.

    mmcv's layers have torch's MultiheadAttention return its weights, averaged over heads, and drop them. Torch then
    computes all weights in full.
    """
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.forward = partial(module.forward, need_weights=False)


def keep_in_float32(model: nn.Module) -> None:
    """Keep the parts of Mask2Former out of autocast that the authors' own code keeps out of it, in place.

    The pixel decoder, whose deformable attention has no bfloat16 kernel, and the matching of queries and masks, whose
    cost is a sum over 12,544 points that overflows in float16. mmdetection lacks this. Other models have neither.
    """
    head = model.decode_head
    if hasattr(head, "pixel_decoder"):
        head.pixel_decoder.forward = in_float32(head.pixel_decoder.forward)
    if hasattr(head, "assigner"):
        head.assigner.assign = in_float32(head.assigner.assign)


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs outside of autocast, with floating-point tensors as float32."""

    def outside(*given: Any, **named: Any) -> Any:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.autocast(kind, enabled=False):
            return function(*map(_float32, given), **{name: _float32(value) for name, value in named.items()})

    return outside


def _float32(value: Any) -> Any:
    """A value whose tensors of floating-point numbers are float32: a tensor, a sequence, a data element."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, BaseDataElement):
        copied = value.new()
        for key, item in value.items():
            copied.set_field(_float32(item), key)
        return copied
    return type(value)(map(_float32, value)) if isinstance(value, list | tuple) else value


@HOOKS.register_module()
class CompileBackbone(Hook):
    """Compile the backbone's training steps with torch.compile; validation, whose images have many sizes, runs eager.

    Args: mode: torch.compile's.
    """

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def before_train(self, runner: Any) -> None:
        """Compile at the first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        backbone = model.backbone
        eager = backbone.forward
        compiled = torch.compile(eager, dynamic=False, mode=self.mode)

        def forward(*given: Any) -> Sequence[torch.Tensor]:
            return (compiled if backbone.training else eager)(*given)

        backbone.forward = forward
