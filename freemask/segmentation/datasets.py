"""Image and mask pairs listed in tables, with raw labels mapped to train ids."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.filtering.sets import mask_filters
from freemask.segmentation.samplers import Draw, seed_all
from freemask.tables import read_table


@TRANSFORMS.register_module()
class RawToTrainIds(BaseTransform):
    """Map gt_seg_map from raw labels to train ids (0..K-1, 255 = ignored), strictly.

    Must follow LoadAnnotations(reduce_zero_label=False), before the map is padded or resized. The mask of a synthetic
    image is filtered first, as its table says.
    Args: label_space: path of the data set's label space.
    """

    def __init__(self, label_space: str) -> None:
        self.label_space = LabelSpace.read(label_space)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace gt_seg_map (H, W) uint8; InputError names the mask that holds an undefined label."""
        raw, mask_filter = results["gt_seg_map"], results.get("mask_filter")
        if mask_filter:
            raw = mask_filter.apply(raw, self.label_space.ignored)
        results["gt_seg_map"] = self.label_space.to_train(raw, results["seg_map_path"])
        return results


@DATASETS.register_module()
class PairListDataset(BaseSegDataset):
    """Pairs from tab-separated tables with the columns image and mask, one after the other.

    Masks of a synthetic set, whose table names margin maps, are filtered when they are loaded.

    Indices run through the tables in their order; `sizes` holds the number of pairs in each. Drawn by this package's
    samplers (a `Draw`), a pair's augmentation is a function of the train seed and the place in the stream alone.
    Workers, ranks and interruptions don't change it.

    Args:
        lists: Paths of the tables.
        label_space: Path of the data set's label space.
        keep_decoded: Whether to cache in memory what the pipeline gives up to and including RawToTrainIds (for small
            data sets).
    """

    def __init__(self, lists: list[str], label_space: str, keep_decoded: bool = False, **options: Any) -> None:
        self.lists = list(lists)
        self.sizes: list[int] = []
        classes = LabelSpace.read(label_space)
        metainfo = {"classes": list(classes.names), "palette": [list(color) for color in classes.colors]}
        super().__init__(metainfo=metainfo, **options)
        types = [type(transform).__name__ for transform in self.pipeline.transforms]
        fixed = types.index("RawToTrainIds") + 1 if keep_decoded else 0
        self._decode = Compose(self.pipeline.transforms[:fixed])
        self._augment = Compose(self.pipeline.transforms[fixed:])
        self._decoded: dict[int, dict[str, Any]] | None = {} if keep_decoded else None

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the tables; InputError where one is empty."""
        pairs: list[dict[str, Any]] = []
        for path in self.lists:
            table = read_table(path, ["image", "mask"])
            if not len(table):
                raise InputError(f"{path}: lists no images; training and evaluation need at least one")
            self.sizes.append(len(table))
            for image, mask, mask_filter in zip(table["image"], table["mask"], mask_filters(table), strict=True):
                fixed = {"label_map": None, "reduce_zero_label": False, "seg_fields": []}
                pairs.append({"img_path": image, "seg_map_path": mask, "mask_filter": mask_filter, **fixed})
        return pairs

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One pair through the pipeline."""
        if isinstance(index, Draw):
            seed_all(*index.entropy)
        return super().__getitem__(int(index))

    def prepare_data(self, index: int) -> Any:
        """Run the pipeline on pair `index`, from the cache if it is there."""
        if self._decoded is None:
            return super().prepare_data(index)
        if index not in self._decoded:
            self._decoded[index] = self._decode(self.get_data_info(index))
        fresh = {
            key: value.copy() if isinstance(value, np.ndarray | list) else value
            for key, value in self._decoded[index].items()
        }
        return self._augment(fresh)
