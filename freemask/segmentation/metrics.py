"""IoU of every class, not only their mean; which classes are taken for which; a few predictions to look at."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class PerClassIoU(IoUMetric):
    """mmseg's IoUMetric with float64 sums and its per-class values kept in `per_class` after an evaluation.

    per_class: {"iou": (K,), "acc": (K,)} float64 percent; nan for a class in neither masks nor predictions (iou) or
    not in the masks (acc). As in mmseg, such classes are left out of mIoU and mAcc.
    confusion: (K, K) int64 pixels, rows: classes of the masks, columns: of the predictions; None unless asked for.
    """

    def __init__(self, pictures: Sequence[str] = (), confusion: bool = False, **options: Any) -> None:
        """pictures: image paths whose predictions to keep in `kept`: {image path: (H, W) uint8 train ids}.

        confusion: count a confusion matrix as well (of this process's images: for evaluation by one process).
        """
        super().__init__(**options)
        self.pictures = frozenset(pictures)
        self.kept: dict[str, np.ndarray] = {}
        self.per_class: dict[str, np.ndarray] = {}
        self.images = 0
        self.counts_confusion = confusion
        self.confusion: np.ndarray | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the areas of a batch; keep the predictions that were asked for."""
        super().process(data_batch, data_samples)
        for sample in data_samples:
            predicted = sample["pred_sem_seg"]["data"].squeeze(0)
            if sample["img_path"] in self.pictures:
                self.kept[sample["img_path"]] = predicted.cpu().numpy().astype(np.uint8)
            if self.counts_confusion:
                truth = sample["gt_sem_seg"]["data"].squeeze(0)
                counts = confusion(predicted, truth.to(predicted), len(self.dataset_meta["classes"]), self.ignore_index)
                self.confusion = counts if self.confusion is None else self.confusion + counts

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Percentages over all images: mIoU, mAcc, aAcc (unrounded)."""
        areas = [torch.stack(area).double().sum(0).numpy() for area in zip(*results, strict=True)]
        intersection, union, _, label = areas  # (K,) pixels each
        with np.errstate(invalid="ignore", divide="ignore"):
            self.per_class = {"iou": 100 * intersection / union, "acc": 100 * intersection / label}
        self.images = len(results)
        logger = MMLogger.get_current_instance()
        for name, iou, acc in zip(self.dataset_meta["classes"], *self.per_class.values(), strict=True):
            logger.info(f"{name}: IoU {iou:.2f}, Acc {acc:.2f}")
        metrics: dict[str, Any] = {
            "mIoU": float(np.nanmean(self.per_class["iou"])),
            "mAcc": float(np.nanmean(self.per_class["acc"])),
            "aAcc": float(100 * intersection.sum() / label.sum()),
        }
        return metrics


def confusion(predicted: torch.Tensor, truth: torch.Tensor, classes: int, ignored: int) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args: predicted, truth: (H, W) train ids; pixels whose truth is `ignored` aren't counted.
    Returns: (classes, classes) int64, rows: truth, columns: prediction.
    """
    seen = truth != ignored
    pairs = truth[seen].long() * classes + predicted[seen].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu().numpy()
