"""How a model computes its training steps: half precision where it is safe, fused attention, compiled backbones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import nn


def keep_in_float32(model: nn.Module) -> None:
    """Keep the parts of Mask2Former out of autocast that the authors' own code keeps out of it, in place.

    The pixel decoder with its deformable attention, and the matching of queries and masks, whose cost is a sum over
    12,544 points that overflows in float16. mmdetection doesn't. Other models have neither part.
    """
    head = getattr(model, "module", model).decode_head  # test-time augmentation wraps a model
    if hasattr(head, "pixel_decoder"):
        head.pixel_decoder.forward = _in_float32(head.pixel_decoder.forward)
    if hasattr(head, "assigner"):
        head.assigner.assign = _in_float32(head.assigner.assign)


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs outside of autocast, with float32 for tensors of floating-point numbers."""

    def outside(*given: Any, **named: Any) -> Any:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.autocast(kind, enabled=False):
            return function(*map(_float32, given), **{name: _float32(value) for name, value in named.items()})

    return outside


def _float32(value: Any) -> Any:
    """Float32 for tensors of floating-point numbers: a tensor, a sequence, mmengine's data element."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, BaseDataElement):
        copied = value.new()
        for key, item in value.items():
            copied.set_field(_float32(item), key)
        return copied
    return type(value)(map(_float32, value)) if isinstance(value, list | tuple) else value


def fuse_attention(model: nn.Module) -> None:
    """Let attention layers use fused kernels, in place.

    mmcv's layers have torch's MultiheadAttention return its weights, averaged over heads, and drop them. Torch then
    computes all weights in full.
    """
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.forward = partial(module.forward, need_weights=False)


def compile_backbone(model: nn.Module) -> None:
    """Compile the backbone's training steps; validation, whose images have many sizes, runs eager. In place."""
    backbone = model.backbone
    eager = backbone.forward
    compiled = torch.compile(eager, dynamic=False)

    def forward(*given: Any) -> Sequence[torch.Tensor]:
        return (compiled if backbone.training else eager)(*given)

    backbone.forward = forward


WAYS = {"fused_attention": fuse_attention, "compiled_backbone": compile_backbone}


@HOOKS.register_module()
class Accelerate(Hook):
    """Compute training steps otherwise: the same numbers but for rounding.

    Args: ways: names of WAYS.
    """

    def __init__(self, ways: Sequence[str]) -> None:
        self.ways = ways

    def before_train(self, runner: Any) -> None:
        """Change the model before its first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for way in self.ways:
            WAYS[way](model)
