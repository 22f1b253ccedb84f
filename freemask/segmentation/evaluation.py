"""A trained segmentor on the validation images: single scale as in the paper, or with test-time augmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from freemask.errors import InputError
from freemask.segmentation.runner import AtomicRunner, without_initial_weights


def evaluate(
    config: Config, weights: str, pictures: Sequence[str] = (), scales: Sequence[float] = (1.0,), flip: bool = False
) -> tuple[dict[str, float], Any]:
    """Evaluate weights on the validation images of a training's config.

    Args: pictures: image paths whose predictions to keep; scales, flip: see `augment`.
    Returns: mIoU, mAcc, aAcc in percent, and the PerClassIoU that computed them (its confusion matrix is counted).
    """
    training = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "val_dataloader", "val_cfg")
    for key in (*training, "val_evaluator", "custom_hooks"):
        config.pop(key, None)
    config.model = without_initial_weights(config.model)
    config.load_from, config.resume, config.launcher = weights, False, "none"
    config.test_evaluator.update(pictures=list(pictures), confusion=True)
    if list(scales) != [1.0] or flip:
        augment(config, scales, flip)
    runner = AtomicRunner.from_cfg(config)
    metrics = runner.test()
    return metrics, runner.test_evaluator.metrics[0]


def augment(config: Config, scales: Sequence[float], flip: bool) -> None:
    """Make a config predict each image at every scale, mirrored as well where `flip`; probabilities are averaged.

    mmsegmentation's TestTimeAug, and its SegTTAModel with Mask2Former's scores averaged as they are. Scales multiply
    the size at which the base config evaluates (there 1.0 is the single-scale prediction), or the image's own size
    where it doesn't resize.
    Raises: InputError for a pipeline without images to scale, or that resizes in another way.
    """
    steps = [step.to_dict() for step in config.test_dataloader.dataset.pipeline]
    types = [step["type"] for step in steps]
    others = [name for name in types if "Resize" in name and name != "Resize"]
    if types[:1] != ["LoadImageFromFile"] or others or types.count("Resize") > 1:
        raise InputError(f"test-time augmentation can't scale in the test pipeline {types}; leave out evaluation")
    base = next((step for step in steps if step["type"] == "Resize"), None)
    rest = [step for step in steps[1:] if step["type"] != "Resize"]
    flips = [{"type": "RandomFlip", "prob": float(mirrored)} for mirrored in ((False, True) if flip else (False,))]
    variants = [[_resize(base, scale) for scale in scales], flips, *([step] for step in rest)]
    config.test_dataloader.dataset.pipeline = [steps[0], {"type": "TestTimeAug", "transforms": variants}]
    config.model = {"type": "AveragedScores" if _gives_scores(config.model) else "SegTTAModel", "module": config.model}


def _gives_scores(model: Any) -> bool:
    """Whether a model's "logits" are scores already: Mask2Former sums class probabilities times mask probabilities."""
    return "Mask2Former" in str(model.get("decode_head"))


@MODELS.register_module()
class AveragedScores(SegTTAModel):
    """SegTTAModel for heads that predict scores: their mean, without the softmax that SegTTAModel takes of logits."""

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Average the scores (K, H, W) of an image's variants and take the best class of each pixel."""
        for variants in data_samples_list:
            mean = torch.stack([sample.seg_logits.data for sample in variants]).mean(0)
            variants[0].set_data({"pred_sem_seg": PixelData(data=mean.argmax(0))})
        return [variants[0] for variants in data_samples_list]


def _resize(base: dict[str, Any] | None, scale: float) -> dict[str, Any]:
    """The base config's Resize with its sides times `scale`; without one, of the image's own sides."""
    if base is None:
        return {"type": "Resize", "scale_factor": scale, "keep_ratio": True}
    return {**base, "scale": tuple(round(side * scale) for side in base["scale"])}
