"""Check the images and masks of a split before anything expensive reads them.

Masks are PNG or TIFF files: grey (the value is the label) or with a palette (the index is the label; the palette's
colors are ignored, as in Pascal VOC), or, in a data set whose masks are colors, images of exactly these colors.
Everything else doesn't hold one label per pixel and is refused.

A cache remembers what was found in a file. The file is read again only if its size or its time of change differs.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from freemask.data.mask_format import UNSMOOTHED, MaskFormat, count_colors
from freemask.data.sizes import Size
from freemask.errors import InputError
from freemask.files import sha256
from freemask.images import DAMAGED, ORIENTATION, UNOPENED, decode, depth, shown_size, trouble
from freemask.parallel import map_files, some
from freemask.tables import write_table

CACHE_VERSION = "freemask check 7"  # first line of a cache; change it if `read_file` finds something else in a file
SHOWN = 10  # offenders in the error message; the table lists all
AGAIN = "fetch or export it again"
THREE_BANDS = "save its three colour bands, or its labels, with 8 bits a channel as PNG"
SEVERAL = 3  # labels of a mask that no two images have by chance
SAME = {  # images of a split that stand elsewhere as well: "train", ..., and by their masks
    "same": "stand more than once",
    "train": "are training images as well",
    "val": "are validation images as well",
    "same (mask)": "have equal masks: the same image in other files?",
    "train (mask)": "have masks of training images: the same image in other files?",
    "val (mask)": "have masks of validation images: the same image in other files?",
}
MOST_COLORS = 1024  # of a mask; photographs and smoothed edges have more
WHITE_IS_ZERO = 0  # of the TIFF tag below
PHOTOMETRIC = 262
BANDS = 277

# Images that Pillow and OpenCV, with which mmsegmentation reads, decode to the same pixels.
IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP")  # MPO: photographs of some telephones
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
MASK_FORMATS = ("PNG", "TIFF")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # Pillow reads few kinds with other numbers of bands or bits


class Content(NamedTuple):
    """What a file holds, or why it can't be used.

    width and height: as shown [pixels]. counts: pixels of every value of a mask (label, or color as a number), as
    "value:pixels value:pixels ...", values ascending. what: the problem, or "". remedy: what to do about it. digest: of
    a mask's values in their places, whatever file holds them, or "".
    """

    width: int = 0
    height: int = 0
    counts: str = ""
    what: str = ""
    remedy: str = ""
    digest: str = ""


class Checked(NamedTuple):
    """A file when it was read: kind ("image", "mask" or "colors"), size [bytes], time of change [ns], SHA-256, content.

    time of change: 0 for a file that can't be opened, which is looked for again. SHA-256: "" for such a file.
    """

    kind: str
    path: str
    size: int
    changed: int
    sha256: str
    content: Content

    @property
    def values(self) -> str:
        """Kind and digest of a mask's values, "mask:<digest>"; empty for an image."""
        return "" if self.kind == "image" else f"{self.kind}:{self.content.digest}"


class Offender(NamedTuple):
    """A file that can't be used."""

    path: str
    what: str
    remedy: str


@dataclass
class Report:
    """Result of checking a split.

    Attributes:
        read: Number of files that were read; the others were cached.
        offenders: Files that can't be used.
        files: Image and mask of each pair.
        sizes: Sizes of the readable images.
        pixels: Pixels of each raw label, (256,).
        images: Masks that show each raw label, (256,).
    """

    read: int = 0
    offenders: list[Offender] = field(default_factory=list)
    files: list[tuple[Checked, Checked]] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    @property
    def contents(self) -> list[tuple[Content, Content]]:
        """What the image and the mask of each pair hold."""
        return [(image.content, mask.content) for image, mask in self.files]


def check_split(
    pairs: list[tuple[str, str]], mask_format: MaskFormat, cache: Path | None, processes: int, description: str
) -> Report:
    """Read every image and mask that isn't cached, and judge every pair.

    Args: pairs: paths of images and their masks; cache: file of what was found (None: nothing is remembered).
    """
    report = Report()
    known = _read_cache(cache) if cache else {}
    masks = "colors" if mask_format.colors else "mask"
    kinds = [(("image", image), (masks, mask)) for image, mask in pairs]
    jobs = [[(*named, known.get(named)) for named in pair] for pair in kinds]
    sizes: dict[tuple[int, int], Size] = {}
    with open(cache or os.devnull, "a", buffering=1) as file:  # line by line: a killed run loses only the pairs in work
        for job, found in zip(jobs, map_files(_examine, jobs, processes, description, "pair"), strict=True):
            for checked, (*_, cached) in zip(found, job, strict=True):
                if checked != cached:
                    report.read += 1
                    if checked.changed:
                        file.write(json.dumps(checked) + "\n")
            report.files.append(found)
            report.offenders += judge(*found, mask_format)
            image, mask = found
            width, height, *_ = image.content
            if width:
                size = sizes.get((width, height), Size(width, height, 0, image.path))
                sizes[width, height] = size._replace(images=size.images + 1)
            for value, pixels in _parse_counts(mask.content.counts):
                if value in mask_format.values:
                    label = mask_format.values[value]
                    report.pixels[label] += pixels
                    report.images[label] += 1
    report.sizes = list(sizes.values())
    return report


def _read_cache(path: Path) -> dict[tuple[str, str], Checked]:
    """Files by kind and path. A cache that can't be read, or of another version, is started anew."""
    try:
        version, *lines = path.read_text().splitlines()
        if version == CACHE_VERSION:
            entries = [json.loads(line) for line in lines]
            found = (Checked(*entry[:5], Content(*entry[5])) for entry in entries)
            return {(file.kind, file.path): file for file in found}
    except (OSError, ValueError, TypeError, IndexError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CACHE_VERSION + "\n")
    return {}


def _examine(job: list[tuple[str, str, Checked | None]]) -> tuple[Checked, Checked]:
    image, mask = job
    return _check_file(*image), _check_file(*mask)


def _check_file(kind: str, path: str, cached: Checked | None) -> Checked:
    """Read a file; returns what is cached of it if it hasn't changed."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            return Checked(kind, path, 0, 0, "", Content(what="not a file", remedy="take it out of the folder"))
        if cached and (cached.size, cached.changed) == (status.st_size, status.st_mtime_ns):
            return cached
        digest, content = sha256(path), read_file(kind, path)
    except OSError:
        digest, content = "", read_file(kind, path)
    if not digest or content.what.startswith(UNOPENED):  # of a file server, e.g.: it may be over at the next look
        return Checked(kind, path, 0, 0, "", content)
    return Checked(kind, path, status.st_size, status.st_mtime_ns, digest, content)


def read_file(kind: str, path: str) -> Content:
    """Read an image (kind "image") or a mask ("mask": labels, "colors") to its last byte."""
    try:
        if os.path.getsize(path) == 0:
            return Content(what="empty file", remedy=AGAIN)
        with Image.open(path) as image:
            problem = _image_problem(image, path) if kind == "image" else _mask_problem(image, path, kind == "colors")
            if problem:
                what, remedy = problem
                return Content(what=what, remedy=remedy)
            return _read_image(image, path) if kind == "image" else _read_mask(image, path, kind == "colors")
    except FileNotFoundError:
        return Content(what="no such file", remedy="put it back, or index the data set again")
    except Image.DecompressionBombError:
        return Content(what=f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels", remedy="cut it into tiles")
    except Image.UnidentifiedImageError:
        return Content(what=f"not a readable {'image' if kind == 'image' else 'mask'}", remedy=_unknown(path))
    except DAMAGED as error:
        what, remedy = trouble(error)
        return Content(what=what, remedy=remedy)


def _unknown(path: str) -> str:
    """What to do about a file that Pillow can't read."""
    with open(path, "rb") as file:
        tiff = file.read(4) in TIFF_STARTS
    return THREE_BANDS if tiff else AGAIN


def _image_problem(image: Image.Image, path: str) -> tuple[str, str] | None:
    """Why the format of an image can't be used, and the remedy."""
    if image.format not in IMAGE_FORMATS:
        return f"a {image.format}, which not every step reads", "save it as JPEG or PNG"
    if image.mode.startswith(("I", "F")) or depth(image, path) > 8:
        return "more than 8 bits a channel", "save it with 8 bits a channel"
    if image.mode not in IMAGE_MODES:
        return f"colours as {image.mode}", "save it in RGB"
    if image.format == "BMP" and image.tile[0].args[0] in ("BGR;15", "BGR;16"):  # OpenCV makes other bytes of 5 bits
        return "16 bits a pixel", "save it with 8 bits a channel"
    if image.format == "TIFF" and (image.tag_v2.get(BANDS, 1) > 4 or 1 < depth(image, path) < 8):
        return "a TIFF of more than 4 bands, or of 2 or 4 bits, which OpenCV can't read", THREE_BANDS
    turned, seen = image.getexif().get(ORIENTATION, 1), Image.Exif()
    seen.load(image.info.get("exif", b""))
    if turned != seen.get(ORIENTATION, 1):
        what = "an orientation that OpenCV doesn't read (of a TIFF, or in XMP data)"
        return what, "turn its pixels, and save it without one"
    return None


def _read_image(image: Image.Image, path: str) -> Content:
    size = shown_size(image)
    # Decoding a JPEG at an eighth of its size reads all its bytes and takes a third of the time.
    image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
    decode(image, path)
    if image.format == "TIFF" and image.mode in ("LA", "PA", "RGBA") and image.getchannel("A").getextrema()[0] < 255:
        return Content(what="a TIFF with transparency, which OpenCV mixes in", remedy="save it without transparency")
    return Content(*size)


def _mask_problem(image: Image.Image, path: str, colors: bool) -> tuple[str, str] | None:
    """Why the format of a mask can't be used, and the remedy."""
    if image.format not in MASK_FORMATS:
        return f"a {image.format}, neither PNG nor TIFF", "export masks as PNG; lossy formats change them"
    if image.format == "TIFF" and image.info.get("compression") == "jpeg":
        return "a TIFF with lossy compression", "export masks as PNG; lossy compression changes them"
    if getattr(image, "n_frames", 1) > 1:
        return f"{image.n_frames} pages", "save each as a mask of its own"
    if image.getexif().get(ORIENTATION, 1) != 1:
        return "an orientation, which masks may not have", "turn its pixels and save it without one"
    if image.mode.startswith(("I", "F")) or depth(image, path) > 8:
        return f"{depth(image, path)} bits a channel (mode {image.mode})", "save the mask with 8 bits a channel"
    if colors:
        return None if image.mode in IMAGE_MODES else (f"colours as {image.mode}", "save the mask in RGB")
    return _labels_problem(image, path)


def _labels_problem(image: Image.Image, path: str) -> tuple[str, str] | None:
    """Why labels can't be read from a mask of 8 bits a channel or less, and the remedy."""
    if image.mode in ("RGB", "RGBA"):
        remedy = "write `masks_are: colors` into the data set's file to have its colours read, or export 8-bit labels"
        return f"colours (mode {image.mode}), not labels", remedy
    if image.mode not in ("L", "P"):
        return f"mode {image.mode}, not one channel of labels", "save the labels as 8-bit grey PNG"
    if image.mode == "L" and (bits := depth(image, path)) < 8:
        return f"{bits} bits a pixel, which readers stretch to 8", "save the labels as 8-bit grey PNG"
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return "a TIFF in which white is 0, whose labels readers invert", "save the labels as 8-bit grey PNG"
    return None


def _read_mask(image: Image.Image, path: str, colors: bool) -> Content:
    decode(image, path)
    values = np.asarray(image.convert("RGB")) if colors else np.asarray(image, dtype=np.uint8)
    if colors:
        counts = list(count_colors(image))
        if len(counts) > MOST_COLORS:
            return Content(what=f"{len(counts)} colours, so many that it can't be a mask", remedy=UNSMOOTHED)
    else:
        pixels = np.bincount(values.ravel())
        counts = [(int(label), int(pixels[label])) for label in np.flatnonzero(pixels)]
    digest = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
    return Content(*image.size, counts=" ".join(f"{value}:{pixels}" for value, pixels in counts), digest=digest)


def judge(image: Checked, mask: Checked, mask_format: MaskFormat) -> list[Offender]:
    """What is wrong with a pair; [] for a good one."""
    shown, labelled = image.content, mask.content
    found = [Offender(file.path, file.content.what, file.content.remedy) for file in (image, mask) if file.content.what]
    if not found and (shown.width, shown.height) != (labelled.width, labelled.height):
        sizes = f"{labelled.width}x{labelled.height} pixels, its image {image.path} has {shown.width}x{shown.height}"
        remedy = "export both at one size (an image's EXIF orientation counts: turn its pixels instead)"
        found.append(Offender(mask.path, sizes, remedy))
    if labelled.what:
        return found
    counts = list(_parse_counts(labelled.counts))
    if unknown := mask_format.unknown(counts):
        found.append(Offender(mask.path, *unknown))
    elif {mask_format.values[value] for value, _ in counts} == {mask_format.ignored}:
        what = f"no labelled pixel (all are {mask_format.shown(counts[0][0])}, which is ignored)"
        found.append(Offender(mask.path, what, "label it, or take image and mask out of the data set"))
    return found


def _parse_counts(counts: str) -> Iterator[tuple[int, ...]]:
    """Parse 'value:pixels value:pixels ...'."""
    return (tuple(map(int, entry.split(":"))) for entry in counts.split())


def equal_images(
    index: pd.DataFrame, other: pd.DataFrame | None = None, split: str = "train", by: str = "image_sha256"
) -> pd.DataFrame:
    """Images of a split with the same bytes: image, equal_to, split (of equal_to: "same" or `split`).

    Args:
        index: image and `by` of the split.
        other: The same of another split.
        split: Name of that one.
        by: image_sha256; or mask_sha256: images whose masks have the same bytes.
    """
    found = [index[index.duplicated(by)].merge(index.drop_duplicates(by), on=by).assign(split="same")]
    if other is not None:
        found.append(index.merge(other.drop_duplicates(by), on=by).assign(split=split))
    return pd.concat(found)[["image_x", "image_y", "split"]].rename(columns={"image_x": "image", "image_y": "equal_to"})


def duplicates(index: pd.DataFrame, report: Report, others: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Images that stand in a split twice or in another one, see equal_images; " (mask)" after a split: by their masks.

    The same image in two files of other bytes, e.g. as PNG and as JPEG, is known by its mask, if it has SEVERAL labels.

    Args: index: image, image_sha256 and mask_sha256 of the split; others: the same of other splits.
    """
    several = index[[mask.counts.count(":") >= SEVERAL for _, mask in report.contents]]
    found = []
    for split, other in (others or {"": index[:0]}).items():
        images = equal_images(index, other, split)
        masks = equal_images(several[~several.image.isin(images.image)], other, split, by="mask_sha256")
        found += [images, masks.assign(split=masks.split + " (mask)")]
    return pd.concat(found).drop_duplicates(ignore_index=True)


def duplicate_warnings(table: pd.DataFrame) -> list[str]:
    """What to say of a table that `duplicates` made."""
    shown = table.assign(pair=table.image + " = " + table.equal_to).groupby("split").pair
    return [f"{len(pairs)} image(s) {SAME[split]}: {some(pairs.tolist())}" for split, pairs in shown]


def refuse(path: Path, report: Report) -> None:
    """Write the offenders as a table of path, what and remedy.

    Raises: InputError, always, with the first offenders.
    """
    write_table(path, pd.DataFrame(report.offenders))
    lines = [f"{found.path}: {found.what}; {found.remedy}" for found in report.offenders[:SHOWN]]
    number, left = len(report.offenders), len(report.offenders) - len(lines)
    more = [f"... and {left} more"] if left else []
    raise InputError("\n  ".join([f"{number} problem(s) in {len(report.files)} pairs, all in {path}:", *lines, *more]))
