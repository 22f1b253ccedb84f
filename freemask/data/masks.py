"""Images and masks of a data set: pairs by name, square masks, label counts."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import LONGEST_ID, sha256, subfolder, write_changed
from freemask.images import png_bytes, read_mask
from freemask.tables import read_table

Pairs = list[tuple[str, str, str]]  # mask_id, image, mask
Unpaired = list[tuple[str, str, str]]  # path, what is wrong, remedy
OF_SYSTEMS = (".", "@eaDir", "__MACOSX")  # beginnings of folders that systems add: previews, other copies


def match_files(
    images: Path,
    masks: Path,
    image_suffix: str,
    mask_suffix: str,
    ignored_suffixes: Sequence[str] = (),
    ids_from: str = "name",
) -> tuple[Pairs, Unpaired]:
    """Pair the images of one folder with the masks of another; a pair's mask_id is the file name without its suffix.

    Folders are searched recursively, hidden files are skipped. A suffix is the end of the file name, in small letters
    or capitals, and may be more than an extension: '_leftImg8bit.png' and '_gtFine_labelIds.png' pair Cityscapes'
    files. Where a file ends in both suffixes, the longer one counts.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        image_suffix: End of the images' names.
        mask_suffix: End of the masks' names.
        ignored_suffixes: Ends of other files, e.g. label files of another convention.
        ids_from: "name"; or "path": the mask_id begins with the subfolders, patient01__slice_001.
    Returns: The pairs by mask_id, and the files without a partner, images first. Paths start with the given folders.
    Raises: InputError for a folder that is missing, unreadable or holds no such file, or two files with one id.
    """
    ends = _ignored_ends(image_suffix, mask_suffix, ignored_suffixes)
    image_paths = _paths_by_id(images, image_suffix, "image", ends[image_suffix], ids_from)
    mask_paths = _paths_by_id(masks, mask_suffix, "mask", ends[mask_suffix], ids_from)
    _join_accents(image_paths, mask_paths)
    both = image_paths.keys() & mask_paths.keys()
    unpaired = _other_files(images, image_paths, mask_paths, image_suffix, "image_suffix")
    unpaired += _other_files(masks, mask_paths, image_paths, mask_suffix, "mask_suffix")
    if not (both or unpaired):
        ids = f"images have ids like {min(image_paths)!r}, masks ids like {min(mask_paths)!r}"
        remedy = "an id is the name without the suffix: correct image_suffix or mask_suffix, or rename the files"
        return [], [(str(images), f"no image has a mask: {ids}", remedy)]
    for found, what, missing in (
        (image_paths, "image without a mask", f"put <id>{mask_suffix} into {masks} or take the image out"),
        (mask_paths, "mask without an image", f"put <id>{image_suffix} into {images} or take the mask out"),
    ):
        unpaired += [(found[key], what, missing) for key in sorted(found.keys() - both)]
    return [(key, image_paths[key], mask_paths[key]) for key in sorted(both)], unpaired


def raw_files(
    images: Path, masks: Path, image_suffix: str, mask_suffix: str, ignored_suffixes: Sequence[str] = ()
) -> list[str]:
    """Paths of all files that match_files looks at."""
    ends = _ignored_ends(image_suffix, mask_suffix, ignored_suffixes)
    return [
        path
        for folder, suffix in ((images, image_suffix), (masks, mask_suffix))
        for _, path in files_of(folder, suffix, ends[suffix])
    ]


def _ignored_ends(image_suffix: str, mask_suffix: str, ignored: Sequence[str]) -> dict[str, list[str]]:
    """Ends of names to leave out among files that end in each suffix; of two suffixes the longer one counts."""
    suffixes = (image_suffix, mask_suffix)
    longer = [max(suffixes, key=len)] if image_suffix.lower() != mask_suffix.lower() else []
    return {suffix: [*ignored, *(end for end in longer if end != suffix)] for suffix in suffixes}


def files_of(folder: Path, suffix: str, ignored: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name without suffix, and path, of each file below a folder that ends in the suffix, sorted."""
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(OF_SYSTEMS))
        for name in folders:
            _refuse_loop(folder, os.path.join(parent, name))
        for name in sorted(names):
            small = name.lower()
            if len(name) == len(suffix) or name.startswith(".") or not small.endswith(suffix.lower()):
                continue
            if not any(small.endswith(other.lower()) for other in ignored):
                yield name[: -len(suffix)], os.path.join(parent, name)


def _refuse_loop(folder: Path, path: str) -> None:
    """Raises: InputError for a link to a folder that holds it; walking through it would never end."""
    if os.path.islink(path):
        target = os.path.realpath(path)
        parts = Path(path).relative_to(folder).parts
        on_the_way = [os.path.realpath(folder.joinpath(*parts[:number])) for number in range(len(parts))]
        if any(os.path.commonpath([target, found]) == target for found in on_the_way):
            raise InputError(f"{path}: a link to a folder that holds it, {target}; take it out")


def _paths_by_id(folder: Path, suffix: str, what: str, ignored: Sequence[str], ids_from: str) -> dict[str, str]:
    if not suffix:
        raise InputError(f"the {what} suffix is empty; give the end of the file names, e.g. .png")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of {what}s; check the data set's root and its {what}s pattern")
    found: dict[str, str] = {}
    for key, path in files_of(folder, suffix, ignored):
        _check_name(path)
        if ids_from == "path":  # an id is also the name of files, so it holds no slash
            key = "__".join([*Path(path).relative_to(folder).parts[:-1], key])
        if len(key.encode()) > LONGEST_ID:
            raise InputError(
                f"{path}: an id of {len(key.encode())} bytes, of which {LONGEST_ID} can be used; rename it"
            )
        if key == "nan":
            raise InputError(f"{path}: tables read the id 'nan' as an empty cell; rename it")
        if key in found:
            hint = ", or write `ids_from: path` into the data set's file" if ids_from == "name" else ""
            raise InputError(f"{what} id {key!r} stands for {found[key]} and for {path}; rename one{hint}")
        found[key] = path
    if not found:
        raise InputError(f"{folder}: holds no {what} that ends in {suffix!r}; check the {what} suffix")
    return found


def _check_name(path: str) -> None:
    """Raises: InputError for a name that tables can't hold."""
    shown = path.encode("ascii", "backslashreplace").decode()
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{shown}: a file name that isn't UTF-8; rename it, or all of a folder:"
            " convmv -f latin1 -t utf8 -r --notest"
        ) from None
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in path):
        raise InputError(f"{shown!r}: a file name with a control character; rename it")


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename}: can't be listed ({error.strerror}); make it readable, e.g. chmod a+rX")


def _join_accents(image_paths: dict[str, str], mask_paths: dict[str, str]) -> None:
    """Give a mask its image's id where they differ only in how accents are stored, as of names from macOS; in place."""
    lone = {unicodedata.normalize("NFC", key): key for key in mask_paths.keys() - image_paths.keys()}
    for key in image_paths.keys() - mask_paths.keys():
        if (found := lone.pop(unicodedata.normalize("NFC", key), None)) is not None:
            mask_paths[key] = mask_paths.pop(found)


def _other_files(folder: Path, paths: dict[str, str], partners: dict[str, str], suffix: str, setting: str) -> Unpaired:
    """A finding for each further kind of file, <id><word><suffix> with the id of a partner; taken out of `paths`.

    Partners of such files alone are taken out of `partners`: the finding is theirs as well.
    """
    kinds: dict[str, dict[str, str]] = {}
    for key in paths.keys() - partners.keys():
        marks = [mark.start() for mark in re.finditer("[_.-](?=.*[A-Za-z])", key)]
        if start := next((key[:mark] for mark in reversed(marks) if key[:mark] in partners), None):
            kinds.setdefault(key[len(start) :] + suffix, {})[key] = start
    found = []
    for end, keys in sorted(kinds.items()):
        leave = f"name them in the data set's file, ignored_suffixes: [{end}], to leave them out"
        if any(start in paths for start in keys.values()):
            beside = f"{len(keys)} files <id>{end} beside files <id>{suffix} of the same ids"
            what = f"{beside}, which look like another convention"
            found.append((str(folder), what, f"{leave}; if they are the right ones, give {end} as the suffix"))
        else:
            what = f"{len(keys)} files <id>{end}, and no <id>{suffix} of the same ids"
            found.append((str(folder), what, f"if they are the right ones, write {setting}: {end}; otherwise {leave}"))
    others = {key: start for keys in kinds.values() for key, start in keys.items()}
    for start in set(others.values()) - paths.keys():
        del partners[start]
    for key in others:
        del paths[key]
    return found


def resize_nearest(mask: np.ndarray, side: int) -> np.ndarray:
    """Resize labels (H, W) to (side, side): output pixel i is input pixel floor((i + 1/2) * size / side), on each axis.

    That is the input pixel under the output pixel's centre, as Pillow's NEAREST takes it in the data loaders of
    FreestyleNet and in FreeMask's preprocess/resample.py. Computed in whole numbers. The aspect ratio changes to a
    square.
    """
    height, width = mask.shape
    twice = 2 * np.arange(side, dtype=np.int64) + 1  # the centres, in halves of an output pixel
    return mask[(twice * height // (2 * side))[:, None], (twice * width // (2 * side))[None, :]]


def count_labels(mask: np.ndarray, ignored: int | None = None) -> str:
    """Count a mask's pixels per label, without `ignored`: 'label:pixels label:pixels ...', labels ascending."""
    pixels = np.bincount(mask.ravel(), minlength=256)
    if ignored is not None:
        pixels[ignored] = 0
    return " ".join(f"{label}:{pixels[label]}" for label in np.flatnonzero(pixels))


COUNTS = re.compile(r"(\d+:\d+( \d+:\d+)*)?")


@dataclass(frozen=True)
class LabelCounts:
    """Label counts of N masks, sparse: mask row[e] has pixels[e] pixels of label[e].

    Attributes:
        row, label, pixels: (E,) int64, rows ascending. A mask without labels has no entry.
        masks: N.
    """

    row: np.ndarray
    label: np.ndarray
    pixels: np.ndarray
    masks: int

    @classmethod
    def parse(cls, counts: list[str], source: str = "masks table") -> "LabelCounts":
        """Parse the counts column of masks.tsv (see count_labels).

        Raises: InputError if an entry has another form.
        """
        entries = np.array([text.count(":") for text in counts], dtype=np.int64)
        formed = all(COUNTS.fullmatch(text) for text in counts)
        numbers = np.array(" ".join(counts).replace(":", " ").split() if formed else [], dtype=np.int64)
        label, pixels = numbers.reshape(-1, 2).T
        if not formed or label.max(initial=0) > 255:
            raise InputError(f"{source}: counts aren't 'label:pixels label:pixels ...'; make the table again")
        return cls(np.repeat(np.arange(len(counts)), entries), label, pixels, len(counts))

    def sum_by_mask(self, values: np.ndarray) -> np.ndarray:
        """Sum values (E,), one per entry, over each mask's entries: (N,) float64."""
        return np.bincount(self.row, weights=values, minlength=self.masks)

    def sum_by_label(self, labels: Iterable[int]) -> dict[int, int]:
        """Pixels of these labels in all masks together."""
        pixels = np.bincount(self.label, weights=self.pixels, minlength=256)
        return {label: int(pixels[label]) for label in labels}


def mask_path(masks_dir: Path, mask_id: str) -> Path:
    """Path of a square mask, or of a mask that is written as labels."""
    return masks_dir / subfolder(mask_id) / f"{mask_id}.png"


def write_mask(path: str | Path, mask: np.ndarray) -> bool:
    """Write labels (H, W) uint8 as PNG, atomically; returns False if the file has these bytes already."""
    return write_changed(path, png_bytes(mask))


def resize_file(paths: tuple[str, str], label_space: LabelSpace, side: int) -> tuple[str, str, str]:
    """Resize one mask file.

    Args:
        paths: Source and target.
        label_space: Labels that the mask may hold.
        side: Side of the target [pixels].
    Returns: Counts and SHA-256 of the target, and "". For a mask that can't be used: "", "", and what is wrong with it,
        so that a run can list all of them. For one without a labelled pixel at that size, which isn't written: "" each.
    """
    source, target = paths
    try:
        mask = read_mask(source)
        label_space.to_train(mask, source)  # checks labels at full size: one may vanish in the smaller mask
    except InputError as error:
        return "", "", str(error)
    resized = resize_nearest(mask, side)
    if not (counts := count_labels(resized, label_space.ignored)):
        return "", "", ""
    write_mask(target, resized)
    return counts, sha256(target), ""


def read_masks(path: str | Path) -> tuple[pd.DataFrame, LabelCounts]:
    """Read masks.tsv: its columns mask_id, mask, counts (NaN for a mask without labels), and the counts parsed.

    Raises: InputError for a repeated mask_id or counts that can't be parsed.
    """
    table = read_table(path, ["mask_id", "mask", "counts"], only=True)
    repeated = table.mask_id[table.mask_id.duplicated()]
    if len(repeated):
        raise InputError(f"{path}: mask_id {repeated.iloc[0]!r} stands on more than one line; make the table again")
    return table, LabelCounts.parse(table.counts.fillna("").tolist(), str(path))
