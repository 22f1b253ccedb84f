"""Pixels of each class in each validation image: the summands of a segmentor's IoU, for intervals and worst images."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from freemask.errors import InputError
from freemask.files import write_atomic
from freemask.segmentation.outputs import read_ious

NAME = "image_areas.npz"  # beside per_class_iou.tsv; not a declared output: results from before it was written stay


@dataclass(frozen=True)
class Areas:
    """Pixels by image and class.

    Attributes:
        mask_ids: (N,) text, the validation images in the order of their table.
        labels: (K,) raw labels in train-id order.
        intersection: (N, K) whole numbers, pixels of the class in the mask and in the prediction.
        union: (N, K), pixels of the class in the mask or in the prediction; ignored pixels of the mask aren't counted.
        truth: (N, K), pixels of the class in the mask.
    """

    mask_ids: np.ndarray
    labels: np.ndarray
    intersection: np.ndarray
    union: np.ndarray
    truth: np.ndarray

    def iou(self) -> np.ndarray:
        """(K,) IoU over all images [percent]; NaN for a class in neither masks nor predictions."""
        with np.errstate(invalid="ignore"):
            return 100 * self.intersection.sum(0, dtype=float) / self.union.sum(0, dtype=float)


def write_areas(path: str | Path, areas: Areas) -> None:
    """Write areas as a compressed .npz of one array per attribute, pixels as uint32: 0.5 MB for 5,000 images."""
    arrays = {name: getattr(areas, name).astype(np.uint32) for name in ("intersection", "union", "truth")}
    arrays |= {"mask_ids": np.asarray(areas.mask_ids, np.str_), "labels": np.asarray(areas.labels, np.int64)}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def read_areas(per_class_iou: str | Path) -> Areas | None:
    """Read the areas beside a table of IoU per class; None where the evaluation kept none.

    Raises: InputError for a damaged file, and for areas that don't sum to the table's IoU.
    """
    path = Path(per_class_iou).with_name(NAME)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            areas = Areas(**{field.name: stored[field.name] for field in fields(Areas)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no table of areas ({error}); evaluate again, or delete it") from None
    table = read_ious(per_class_iou)
    same = areas.labels.tolist() == table.label.tolist()
    if not same or not np.allclose(areas.iou(), table.iou, rtol=1e-6, atol=0, equal_nan=True):
        raise InputError(
            f"{path}: its pixels don't sum to the IoU in {Path(per_class_iou).name}: another evaluation's file;"
            " evaluate again, or delete it (gains then have no interval)"
        )
    return areas
