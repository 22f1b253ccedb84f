"""IoU of every class, not only their mean."""

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
    """

    def __init__(self, pictures: int = 0, **options: Any) -> None:
        """pictures: how many predictions to keep in `kept`: {image path: (H, W) uint8 train ids}."""
        super().__init__(**options)
        self.pictures = pictures
        self.kept: dict[str, np.ndarray] = {}
        self.per_class: dict[str, np.ndarray] = {}
        self.images = 0

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the areas of a batch; keep the first `pictures` predictions."""
        super().process(data_batch, data_samples)
        for sample in data_samples[: max(0, self.pictures - len(self.kept))]:
            self.kept[sample["img_path"]] = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy().astype(np.uint8)

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
