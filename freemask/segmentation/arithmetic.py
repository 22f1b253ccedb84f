"""How a model computes its training steps: half precision where it is safe, captured or compiled backbones."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from freemask.cli import tell

AUTOCAST = {"AmpOptimWrapper": torch.float16, "BFloat16OptimWrapper": torch.bfloat16}


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


def capture_backbone(model: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Capture the launches of the backbone's training steps as CUDA graphs, in place; no change where they can't be.

    A step of a transformer is thousands of small kernels. A host launches them more slowly than a modern GPU runs them.
    A graph is one launch of the same kernels, so the numbers are the same. Evaluation and other shapes run as before.
    Source: torch.cuda.make_graphed_callables; before DistributedDataParallel wraps the model, and before data loaders
    start, whose threads use the GPU.

    Args: shape: of a batch of images, (B, 3, H, W); dtype: of autocast, float32: none.
    """
    backbone = model.backbone
    eager = backbone.forward
    if any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        return  # its running statistics would count the steps of the capture
    device = next(backbone.parameters()).device
    # The captured pass stays alive, on the stream of its capture; backward passes wait for each other as they must.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
    autocast = torch.autocast("cuda", dtype, enabled=dtype is not torch.float32, cache_enabled=False)
    try:
        with torch.random.fork_rng([device]), autocast:
            torch.cuda.make_graphed_callables(backbone, (torch.zeros(shape, device=device),), allow_unused_input=True)
    except RuntimeError as error:  # out of memory among them
        backbone.forward = eager
        tell(f"{type(backbone).__name__} isn't captured, its kernels are launched one by one: {error}")
        return
    captured = backbone.forward

    def forward(images: torch.Tensor) -> Sequence[torch.Tensor]:
        return (captured if images.shape == shape else eager)(images)

    backbone.forward = forward


def own_gradients(network: nn.Module) -> None:
    """Let parameters keep copies of the gradients that they receive, in place.

    torch adopts the tensor that a backward pass returns as `grad`. A graph's is overwritten by its next replay, which
    would spoil a sum over several passes.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_hook(torch.clone)


def accelerate(model: nn.Module, ways: Sequence[str], config: Mapping[str, Any]) -> None:
    """Compute a model's training steps otherwise, in place: the same numbers but for rounding.

    Args:
        model: On its device, not wrapped.
        ways: Any of fused_attention, compiled_backbone, captured_backbone (on a GPU).
        config: Of the training: sizes of batches and crops, arithmetic.
    """
    if "fused_attention" in ways:
        fuse_attention(model)
    if "compiled_backbone" in ways:
        compile_backbone(model)
    wrapper = config["optim_wrapper"]
    if "captured_backbone" in ways and torch.cuda.is_available():
        shape = (config["train_dataloader"]["batch_size"], 3, *config["model"]["data_preprocessor"]["size"])
        capture_backbone(model, shape, AUTOCAST.get(wrapper["type"], torch.float32))
        if wrapper.get("accumulative_counts", 1) > 1:
            own_gradients(model.backbone)
