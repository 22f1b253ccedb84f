"""What a model can't take of a data set's images, known before it trains."""

from collections.abc import Sequence
from typing import Any

from freemask.data.sizes import Size
from freemask.errors import InputError
from freemask.segmentation.scales import seen_as

WHOLE = 2048 * 2048  # pixels that a network sees at once; attention takes memory by their square
SCORES = 8e9  # bytes of an image's scores, a float32 for each pixel and class; the loss takes as many again
SMALL = 64  # side below which the network is tried [pixels]


def refuse_unsuitable(name: str, model: dict[str, Any], resize: dict[str, Any] | None, sizes: Sequence[Size]) -> None:
    """Refuse images that the model can't predict.

    Args: name: what messages call the training; model: its resolved config; resize: the evaluation's (see resize_of).
    Raises: InputError that names a file: too large for the memory, or too small for the network.
    """
    classes, whole = model["decode_head"]["num_classes"], model["test_cfg"].get("mode", "whole") == "whole"
    for size in sizes:
        width, height = seen_as(size, resize)
        shown = f"{size.width}x{size.height}"
        seen = f"{shown} pixels" + (f", which it sees as {width}x{height}" if (width, height) != size[:2] else "")
        if whole and width * height > WHOLE:
            raise InputError(
                f"{name}: {size.example} has {seen}, and the model predicts whole images: that takes hundreds of GB; "
                "cut the images into windows, or give the model a Resize, or test_cfg: {mode: slide, ...}"
            )
        if (needed := 4 * classes * size.width * size.height) > SCORES:
            raise InputError(
                f"{name}: {size.example} has {shown} pixels; with {classes} classes its scores take "
                f"{needed / 1e9:.0f} GB, and as many for the loss; cut the images into windows"
            )
        if min(width, height) < SMALL and (problem := _fails(model, width, height)):
            raise InputError(
                f"{name}: {size.example} has {seen}, too small for the network ({problem}); leave such images out, or "
                "choose a larger scale"
            )


def _fails(model: dict[str, Any], width: int, height: int) -> str:
    """Why the backbone can't take an image of this size; empty if it can."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    divisor = (model["data_preprocessor"].get("test_cfg") or {}).get("size_divisor", 1)
    padded = [-(-side // divisor) * divisor for side in (height, width)]
    backbone = MODELS.build(Config({"backbone": {**model["backbone"], "init_cfg": None}}).backbone).eval()
    with torch.no_grad():
        try:
            backbone(torch.zeros(1, 3, *padded))
        except (RuntimeError, AssertionError, ValueError) as error:
            return str(error).splitlines()[0]
    return ""
