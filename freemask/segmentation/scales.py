"""The scale at which a model sees images: one for training, validation, class losses and filtering.

Class losses and filtering predict as the evaluation does (see segmentation.inference), so it is enough that the
pipelines of training and evaluation agree. Steps are mmsegmentation's, as plain values.
"""

from collections.abc import Sequence
from typing import Any

from freemask.data.sizes import Size
from freemask.errors import InputError

Pipeline = list[dict[str, Any]]
SIDE = "mask_size"  # stands for the data set's mask_size where a model's overrides give sizes


def fill_in(value: Any, side: int | None, key: str = "") -> Any:
    """A model's overrides with the data set's mask_size where they name it, and with mmcv's tuples, which YAML lacks.

    Raises: InputError if they name mask_size and it isn't given.
    """
    if isinstance(value, dict):
        return {name: fill_in(inner, side, name) for name, inner in value.items()}
    if isinstance(value, list):
        filled = [fill_in(item, side) for item in value]
        return tuple(filled) if key in ("scale", "ratio_range", "crop_size") else filled
    if value == SIDE and side is None:
        raise InputError(f"the model's overrides name {SIDE}, which isn't given; add --mask-size")
    return side if value == SIDE else value


def at_one_scale(name: str, train: Pipeline, test: Pipeline, sizes: Sequence[Size] | None) -> Pipeline:
    """The evaluation's pipeline, which resizes images to the scale that training is centred on.

    Where the base config's doesn't resize although its training does, the step is added. It is left out if it would
    leave all images as they are.

    Args:
        name: What messages call the training.
        train, test: Pipelines of the base config with the model's overrides.
        sizes: Sizes of the images of all splits; None: unknown.
    Raises: InputError where the two resize differently.
    """
    seen, evaluated = resize_of(train), resize_of(test)
    if seen and not evaluated:
        resize = {"type": "Resize", "scale": _centre(name, seen), "keep_ratio": seen.get("keep_ratio", True)}
        if sizes is not None and all(seen_as(size, resize) == (size.width, size.height) for size in sizes):
            return test
        return [test[0], resize, *test[1:]]
    if not seen and evaluated:
        raise InputError(
            f"{name}: training sees images at their own size, but validation at {evaluated.get('scale')}; give both "
            "pipelines the same resizing in the model's overrides"
        )
    if seen and evaluated:
        _refuse_other_scale(name, seen, evaluated)
    return test


def seen_as(size: Size, resize: dict[str, Any] | None) -> tuple[int, int]:
    """Width and height that the network sees of an image [pixels]."""
    import mmcv

    if resize is None:
        return size.width, size.height
    if not resize.get("keep_ratio", False):
        width, height = resize["scale"]
        return width, height
    return mmcv.rescale_size((size.width, size.height), tuple(resize["scale"]))


def resize_of(pipeline: Pipeline) -> dict[str, Any] | None:
    """The step of a pipeline that resizes; None where images keep their size."""
    return next((step for step in pipeline if "Resize" in step["type"]), None)


def _centre(name: str, step: dict[str, Any]) -> tuple[int, int]:
    """The scale that a training's resizing is centred on."""
    low, high = step.get("ratio_range", (1.0, 1.0))
    if step["type"] not in ("RandomResize", "Resize") or "scale" not in step or not low <= 1 <= high:
        raise InputError(
            f"{name}: training resizes by {step['type']}, validation not at all; add a Resize to the overrides of the "
            "model's val_dataloader, to the scale at which training sees most images"
        )
    return tuple(step["scale"])


def _refuse_other_scale(name: str, seen: dict[str, Any], evaluated: dict[str, Any]) -> None:
    """Raise InputError unless an evaluation's scale is the one that training is centred on, or among its sizes."""
    if evaluated["type"] != "Resize":
        raise InputError(
            f"{name}: validation resizes by {evaluated['type']}, which class losses can't repeat; use Resize in the "
            "overrides of the model's val_dataloader"
        )
    scale = tuple(evaluated["scale"])
    if seen["type"] == "RandomChoiceResize" and all(isinstance(side, int) for side in seen.get("scales", [()])):
        low, high, longest = min(seen["scales"]), max(seen["scales"]), seen.get("max_size", max(scale))
        if low <= min(scale) <= high and max(scale) == longest:
            return
        trained = f"short sides of {low} to {high} and long ones up to {longest}"
    else:
        if _centre(name, seen) == scale and seen.get("keep_ratio") == evaluated.get("keep_ratio"):
            return
        trained = f"around {tuple(seen['scale'])} (keep_ratio {seen.get('keep_ratio', False)})"
    raise InputError(
        f"{name}: training sees images at {trained}, but validation at {scale} (keep_ratio "
        f"{evaluated.get('keep_ratio', False)}), and class losses and the filter as validation; give both pipelines "
        "one scale in the model's overrides"
    )
