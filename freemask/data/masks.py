"""A data set's images and masks: which belong together, and the square masks that images are synthesized from."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from freemask.errors import InputError
from freemask.images import png_bytes, read_mask
from freemask.files import sha256, write_atomic
from freemask.data.label_space import LabelSpace
import pandas as pd
from freemask.tables import read_table, stream_table

Pairs = Iterator[tuple[str, str, str]]
Unpaired = list[tuple[str, str, str]]  # path, what is wrong, remedy


def match_files(images: Path, masks: Path, image_suffix: str, mask_suffix: str) -> tuple[int, Pairs, Unpaired]:
    """Find which images of a folder and masks of another belong together; a pair's mask_id is the name without suffix.

    Folders are searched recursively, hidden files are left out. Suffixes are the ends of the file names and may
    be more than an extension: '_leftImg8bit.png' and '_gtFine_labelIds.png' pair Cityscapes' files.

    Returns: the number of pairs; mask_id, image, mask (paths that start with the given folders) of each, ascending ids;
    and the files that stand alone, images first, ascending ids.
    Raises: InputError for a folder that is missing or holds no such file, or two files with one id.
    """
    image_folders = _folders_by_id(images, image_suffix, "image")
    mask_folders = _folders_by_id(masks, mask_suffix, "mask")

    def image(key: str) -> str:
        return os.path.join(image_folders[key], key + image_suffix)

    def mask(key: str) -> str:
        return os.path.join(mask_folders[key], key + mask_suffix)

    no_mask = "image without a mask", f"put <id>{mask_suffix} into {masks} or take the image out"
    no_image = "mask without an image", f"put <id>{image_suffix} into {images} or take the mask out"
    unpaired = [(image(key), *no_mask) for key in sorted(image_folders.keys() - mask_folders.keys())]
    unpaired += [(mask(key), *no_image) for key in sorted(mask_folders.keys() - image_folders.keys())]
    keys = sorted(image_folders.keys() & mask_folders.keys())
    return len(keys), ((key, image(key), mask(key)) for key in keys), unpaired


def contents(pair: tuple[str, str]) -> tuple[str, str, str]:
    """What tells the files of a pair (image, mask) from others of the same names.

    Images are not read: they have many GB, and an image that was exported again hardly keeps its size to the byte.
    Returns: the image's and the mask's size [bytes], the mask's SHA-256; each empty where the file can't be read, which
    check_dataset reports together with all others.
    """
    image, mask = pair
    return _known(lambda: os.path.getsize(image)), _known(lambda: os.path.getsize(mask)), _known(lambda: sha256(mask))


def _known(read: Callable[[], object]) -> str:
    try:
        return str(read())
    except OSError:
        return ""


def _folders_by_id(folder: Path, suffix: str, what: str) -> dict[str, str]:
    if not suffix:
        raise InputError(f"the {what} suffix is empty; give the end of the file names, e.g. .png")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of {what}s; check the data set's root and its {what}s pattern")
    found: dict[str, str] = {}  # folders are shared by many: a third of the memory that paths would take
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or not name.endswith(suffix) or name == suffix:
                continue
            key = name.removesuffix(suffix)
            if key in found:
                one, other = os.path.join(found[key], name), os.path.join(parent, name)
                raise InputError(f"{what} id {key!r} stands for {one} and for {other}; rename one")
            found[key] = parent
    if not found:
        raise InputError(f"{folder}: holds no {what} that ends in {suffix!r}; check the {what} suffix")
    return found


def resize_nearest(mask: np.ndarray, side: int) -> np.ndarray:
    """Resize labels (H, W) to (side, side): output pixel i takes input pixel floor(i * size / side), on each axis.

    In whole numbers, so that no rounding of a float scale moves a pixel; OpenCV's INTER_NEAREST and torch's
    interpolate(mode="nearest") mean the same and differ only where their scale rounds. The layout inside the
    generator is taken by the same rule. The aspect ratio is not kept: the image is synthesized squashed.
    """
    height, width = mask.shape
    index = np.arange(side, dtype=np.int64)
    return mask[(index * height // side)[:, None], (index * width // side)[None, :]]


def count_labels(mask: np.ndarray, ignored: int | None = None) -> str:
    """Count a mask's pixels as text, 'label:pixels label:pixels ...', ascending labels, `ignored` left out."""
    pixels = np.bincount(mask.ravel(), minlength=256)
    if ignored is not None:
        pixels[ignored] = 0
    return " ".join(f"{label}:{pixels[label]}" for label in np.flatnonzero(pixels))


@dataclass(frozen=True)
class LabelCounts:
    """Label counts of N masks, sparse: entry e says that mask row[e] has pixels[e] pixels of label[e].

    row, label, pixels: (E,) int64, rows ascending; masks: N (a mask without labels has no entry).
    """

    row: np.ndarray
    label: np.ndarray
    pixels: np.ndarray
    masks: int

    @classmethod
    def parse(cls, counts: list[str], source: str = "masks table") -> "LabelCounts":
        """Parse the counts column of masks.tsv (see count_labels).

        Raises: InputError where it isn't of that form.
        """
        entries = np.array([text.count(":") for text in counts], dtype=np.int64)
        try:  # in parts: as text, an entry takes five times the memory
            parts = [_pairs(counts[start : start + 1024]) for start in range(0, len(counts), 1024)]
        except ValueError:
            raise InputError(f"{source}: counts aren't 'label:pixels label:pixels ...'; make the table again") from None
        label, pixels = np.concatenate([np.empty((0, 2), np.int64), *parts]).T
        return cls(np.repeat(np.arange(len(counts)), entries), label, pixels, len(counts))

    def sum_by_mask(self, values: np.ndarray) -> np.ndarray:
        """Sum values (E,), one per entry, over each mask's entries: (N,) float64."""
        return np.bincount(self.row, weights=values, minlength=self.masks)


def _pairs(counts: list[str]) -> np.ndarray:
    """All entries (E, 2) int64: label, pixels; ValueError where there are others."""
    entries = np.array([text.count(":") for text in counts], dtype=np.int64)
    words = np.array([text.count(" ") + 1 if text else 0 for text in counts], dtype=np.int64)
    pairs = np.array(" ".join(counts).replace(":", " ").split(), dtype=np.int64).reshape(-1, 2)
    if (
        (entries != words).any()
        or len(pairs) != entries.sum()
        or (len(pairs) and (pairs.min() < 0 or pairs[:, 0].max() > 255))
    ):
        raise ValueError("not 'label:pixels label:pixels ...'")
    return pairs


def write_mask(path: str | Path, mask: np.ndarray) -> bool:
    """Write labels (H, W) uint8 as PNG, atomically; False where the file held these bytes already."""
    content = png_bytes(mask)
    try:
        if Path(path).read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    write_atomic(path, content)
    return True


def resize_file(paths: tuple[str, str], space: LabelSpace, side: int) -> tuple[str, str, str]:
    """Resize one mask file (source, target).

    Returns: (its counts, SHA-256 of the target, "") or, so that a run can list every offender, ("", "", what is wrong
    with it).
    """
    source, target = paths
    try:
        mask = read_mask(source)
        space.to_train(mask, source)  # at full size: a label may vanish at the smaller one
    except InputError as error:
        return "", "", str(error)
    resized = resize_nearest(mask, side)
    write_mask(target, resized)
    return count_labels(resized, space.ignored), sha256(target), ""


REPEATED = "{}: mask_id {!r} stands on more than one line; make the table again"


def read_masks(path: str | Path) -> tuple[pd.DataFrame, LabelCounts]:
    """Read masks.tsv: its rows (mask_id, mask, counts; counts NaN for a mask without labels) and their counts.

    Raises: InputError for a repeated mask_id or counts that can't be parsed.
    """
    table = read_table(path, ["mask_id", "mask", "counts"], only=True)
    repeated = table.mask_id[table.mask_id.duplicated()]
    if len(repeated):
        raise InputError(REPEATED.format(path, repeated.iloc[0]))
    return table, LabelCounts.parse(table.counts.fillna("").tolist(), str(path))


def stream_masks(path: str | Path) -> Iterator[tuple[str, str, LabelCounts, str]]:
    """Yield masks.tsv row by row: mask_id, mask, counts of this mask, mask_sha256.

    Raises: InputError as read_masks does.
    """
    seen = set()
    for mask_id, mask, counts, digest in stream_table(path, ["mask_id", "mask", "counts", "mask_sha256"]):
        if mask_id in seen:
            raise InputError(REPEATED.format(path, mask_id))
        seen.add(mask_id)
        yield mask_id, mask, LabelCounts.parse([counts], str(path)), digest
