"""A trained segmentor on the validation images: IoU of every class, confusion matrix, a few predictions to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import METRICS, MODELS
from mmseg.structures import SegDataSample
from PIL import Image

from freemask.errors import InputError
from freemask.images import DAMAGED, shown_size
from freemask.segmentation.initial_weights import without_initial_weights
from freemask.segmentation.runner import AtomicRunner


@METRICS.register_module()
class PerClassIoU(IoUMetric):
    """mmseg's IoUMetric with float64 sums, per-class values, predictions and a confusion matrix.

    per_class: {"iou": (K,), "acc": (K,)} float64 percent; nan for a class in neither masks nor predictions (iou) or
    not in the masks (acc). As in mmseg, such classes are left out of mIoU and mAcc.
    areas: {"intersection", "union", "truth": (N, K) int64 pixels} by image; their sums give per_class.
    paths: N image paths, the rows of areas; only if the confusion matrix is counted.
    predictions: {image path: (H, W) uint8 train ids} of the requested pictures.
    confusion: (K, K) int64 pixels, rows: classes of the masks, columns: of the predictions; None unless requested.
    """

    def __init__(self, pictures: Sequence[str] = (), confusion: bool = False, **options: Any) -> None:
        """Args: pictures: image paths; confusion: whether to count it, for evaluation by one process."""
        super().__init__(**options)
        self.pictures = frozenset(pictures)
        self.predictions: dict[str, np.ndarray] = {}
        self.per_class: dict[str, np.ndarray] = {}
        self.areas: dict[str, np.ndarray] = {}
        self.paths: list[str] = []
        self.counts_confusion = confusion
        self.confusion: np.ndarray | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the areas of a batch; store the requested predictions."""
        super().process(data_batch, data_samples)
        for sample in data_samples:
            predicted = sample["pred_sem_seg"]["data"].squeeze(0)
            if sample["img_path"] in self.pictures:
                self.predictions[sample["img_path"]] = predicted.cpu().numpy().astype(np.uint8)
            if self.counts_confusion:
                self.paths.append(sample["img_path"])
                truth = sample["gt_sem_seg"]["data"].squeeze(0)
                counts = confusion(predicted, truth.to(predicted), len(self.dataset_meta["classes"]), self.ignore_index)
                self.confusion = counts if self.confusion is None else self.confusion + counts

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Percentages over all images: mIoU, mAcc, aAcc (unrounded)."""
        by_image = [torch.stack(area).to(torch.int64).numpy() for area in zip(*results, strict=True)]
        intersection, union, _, label = (area.sum(0, dtype=float) for area in by_image)  # (K,) pixels each
        self.areas = {"intersection": by_image[0], "union": by_image[1], "truth": by_image[3]}
        with np.errstate(invalid="ignore", divide="ignore"):
            self.per_class = {"iou": 100 * intersection / union, "acc": 100 * intersection / label}
        logger = MMLogger.get_current_instance()
        for name, iou, acc in zip(self.dataset_meta["classes"], *self.per_class.values(), strict=True):
            logger.info(f"{name}: IoU {iou:.2f}, Acc {acc:.2f}")
        return {
            "mIoU": float(np.nanmean(self.per_class["iou"])),
            "mAcc": float(np.nanmean(self.per_class["acc"])),
            "aAcc": float(100 * intersection.sum() / label.sum()),
        }


def confusion(predicted: torch.Tensor, truth: torch.Tensor, classes: int, ignored: int) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args: predicted, truth: (H, W) train ids; pixels whose truth is `ignored` aren't counted.
    Returns: (classes, classes) int64, rows: truth, columns: prediction.
    """
    seen = truth != ignored
    pairs = truth[seen].long() * classes + predicted[seen].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu().numpy()


def evaluate(
    config: Config,
    weights: str | Path,
    images: Sequence[str],
    pictures: Sequence[str] = (),
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> tuple[dict[str, float], PerClassIoU]:
    """Evaluate weights on the validation images of a training's config.

    Args:
        config: The training's config; it is changed.
        weights: A state_dict or checkpoint.
        images: Paths of the validation images.
        pictures: Those of them whose predictions are stored.
        scales: Average over these scales (see `augment`).
        flip: Average over each image and its mirror image.
    Returns: mIoU, mAcc, aAcc in percent, and the metric that computed them, with its confusion matrix.
    """
    training = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "val_dataloader", "val_cfg")
    for key in (*training, "val_evaluator", "custom_hooks"):
        config.pop(key, None)
    config.model = without_initial_weights(config.model)
    config.load_from, config.resume, config.launcher = str(weights), False, "none"
    config.test_evaluator.update(pictures=list(pictures), confusion=True)
    if config.test_dataloader.batch_size > 1 and not of_one_size(images):
        config.test_dataloader.batch_size = 1  # a batch is one array
    if list(scales) != [1.0] or flip:
        augment(config, scales, flip)
    runner = AtomicRunner.from_cfg(config)
    metrics = runner.test()
    return metrics, runner.test_evaluator.metrics[0]


def augment(config: Config, scales: Sequence[float], flip: bool) -> None:
    """Make a config predict each image at every scale, mirrored as well if `flip`; probabilities are averaged.

    mmsegmentation's TestTimeAug, and its SegTTAModel with Mask2Former's scores averaged as they are. Scales multiply
    the size at which the base config evaluates (there 1.0 is the single-scale prediction), or the image's own size
    if the base config doesn't resize.
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
    # Mask2Former's "logits" are scores already: sums of class probabilities times mask probabilities.
    scores = "Mask2Former" in str(config.model.get("decode_head"))
    config.model = {"type": "AveragedScores" if scores else "SegTTAModel", "module": config.model}


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


def of_one_size(images: Sequence[str]) -> bool:
    """Whether all images are shown at one width and height (their headers are read).

    Raises: InputError naming an image that is missing or none.
    """
    sizes = set()
    for path in images:
        try:
            with Image.open(path) as image:
                sizes.add(shown_size(image))
        except DAMAGED as error:
            remedy = "fetch it again, or remove it from the table"
            raise InputError(f"{path}: missing or no image ({error}); {remedy}") from None
        if len(sizes) > 1:
            return False
    return True
