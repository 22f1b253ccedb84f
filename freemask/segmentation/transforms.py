"""The one place where raw labels become train ids."""

from typing import Any

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from freemask.data.label_space import LabelSpace


@TRANSFORMS.register_module()
class RawToTrainIds(BaseTransform):
    """Map gt_seg_map from raw labels to train ids (0..K-1, 255 = ignored), strictly.

    Stands right after LoadAnnotations(reduce_zero_label=False), before anything pads or resizes the map.
    Args: classes: class table (see LabelSpace.read); ignored: the raw label that no loss sees.
    """

    def __init__(self, classes: str, ignored: int) -> None:
        self.labels = LabelSpace.read(classes, ignored)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace gt_seg_map (H, W) uint8; InputError names the mask that holds an undefined label."""
        results["gt_seg_map"] = self.labels.to_train(results["gt_seg_map"], results["seg_map_path"])
        return results
