"""Check the images and masks of a split before anything expensive reads them.

Masks may be grey PNGs (the value is the label) or palette PNGs (the index is the label; the palette's colors are
ignored, as in Pascal VOC). Everything else doesn't hold one label per pixel and is refused.

A cache remembers what was found in a file. The file is read again only if its size or its time of change differs.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from freemask.data.label_space import LabelSpace
from freemask.data.masks import count_labels
from freemask.errors import InputError
from freemask.images import DAMAGED, ORIENTATION, decode, depth, shown_size
from freemask.parallel import map_files
from freemask.tables import write_table

CACHE_VERSION = "freemask check 3"  # first line of a cache; change it if `read_file` finds something else in a file
SHOWN = 10  # offenders in the error message; the table lists all
AGAIN = "fetch or export it again"

# Images that Pillow and OpenCV, with which mmsegmentation reads, decode to the same pixels.
IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP")  # MPO: photographs of some telephones
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


class Content(NamedTuple):
    """What a file holds, or why it can't be used.

    width and height: as shown [pixels]. counts: pixels of every raw label of a mask, the ignored one too, as
    "label:pixels label:pixels ...". what: the problem, or "". remedy: what to do about it.
    """

    width: int = 0
    height: int = 0
    counts: str = ""
    what: str = ""
    remedy: str = ""


class Checked(NamedTuple):
    """A file when it was read: kind ("image" or "mask"), size [bytes], time of change [ns], content."""

    kind: str
    path: str
    size: int
    changed: int
    content: Content


class Job(NamedTuple):
    """A pair to check: paths, and what is cached of both files."""

    image: str
    mask: str
    cached_image: Checked | None
    cached_mask: Checked | None


class Offender(NamedTuple):
    """A file that can't be used."""

    path: str
    what: str
    remedy: str


@dataclass
class Report:
    """Result of checking a split.

    Attributes:
        pairs: Number of pairs.
        read: Number of files that were read; the others were cached.
        offenders: Files that can't be used.
        pixels: Pixels of each raw label, (256,).
        images: Masks that show each raw label, (256,).
    """

    pairs: int = 0
    read: int = 0
    offenders: list[Offender] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))


def check_split(
    pairs: list[tuple[str, str]], label_space: LabelSpace, cache: Path, processes: int, description: str
) -> Report:
    """Read every image and mask that isn't cached, and judge every pair.

    Args:
        pairs: Paths of images and their masks.
        label_space: Labels that masks may hold.
        cache: Cache file; made if it doesn't exist.
        processes: Number of processes that read files.
        description: Name of the progress bar.
    """
    report = Report()
    known = _read_cache(cache)
    jobs = [Job(image, mask, known.get(("image", image)), known.get(("mask", mask))) for image, mask in pairs]
    with open(cache, "a", buffering=1) as file:  # line by line: a killed run loses only the pairs being read
        for job, (image, mask) in zip(jobs, map_files(_examine, jobs, processes, description, "pair"), strict=True):
            for found, cached in ((image, job.cached_image), (mask, job.cached_mask)):
                if found != cached:
                    report.read += 1
                    if found.changed:  # not for a missing file, which is looked for again
                        file.write(json.dumps(found) + "\n")
            report.pairs += 1
            report.offenders += judge(image, mask, label_space)
            for label, pixels in _parse_counts(mask.content.counts):
                report.pixels[label] += pixels
                report.images[label] += 1
    return report


def _read_cache(path: Path) -> dict[tuple[str, str], Checked]:
    """Files by kind and path. A cache that can't be read, or of another version, is started anew."""
    try:
        version, *lines = path.read_text().splitlines()
        if version == CACHE_VERSION:
            entries = [json.loads(line) for line in lines]
            found = (Checked(*entry[:4], Content(*entry[4])) for entry in entries)
            return {(file.kind, file.path): file for file in found}
    except (OSError, ValueError, TypeError, IndexError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CACHE_VERSION + "\n")
    return {}


def _examine(job: Job) -> tuple[Checked, Checked]:
    return _check_file("image", job.image, job.cached_image), _check_file("mask", job.mask, job.cached_mask)


def _check_file(kind: str, path: str, cached: Checked | None) -> Checked:
    """Read a file; returns what is cached of it if it hasn't changed."""
    try:
        status = os.stat(path)
        size, changed = status.st_size, status.st_mtime_ns
    except OSError:
        size, changed = 0, 0
    if cached and (cached.size, cached.changed) == (size, changed):
        return cached
    return Checked(kind, path, size, changed, read_file(kind, path))


def read_file(kind: str, path: str) -> Content:
    """Read an image (kind "image") or a mask ("mask") to its last byte."""
    try:
        if os.path.getsize(path) == 0:
            return Content(what="empty file", remedy=AGAIN)
        with Image.open(path) as image:
            problem = _mask_problem(image, path) if kind == "mask" else _image_problem(image, path)
            if problem:
                what, remedy = problem
                return Content(what=what, remedy=remedy)
            return _read_mask(image, path) if kind == "mask" else _read_image(image, path)
    except FileNotFoundError:
        return Content(what="no such file", remedy="put it back, or index the data set again")
    except Image.DecompressionBombError:
        return Content(what=f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels", remedy="cut it into tiles")
    except Image.UnidentifiedImageError:
        return Content(what=f"not a readable {kind}", remedy=AGAIN)
    except DAMAGED as error:
        return Content(what=f"truncated or damaged ({error})", remedy=AGAIN)


def _image_problem(image: Image.Image, path: str) -> tuple[str, str] | None:
    """Why the format of an image can't be used, and the remedy."""
    if image.format not in IMAGE_FORMATS:
        return f"a {image.format}, which not every step reads", "save it as JPEG or PNG"
    if image.mode.startswith(("I", "F")) or depth(image, path) > 8:
        return "more than 8 bits a channel", "save it with 8 bits a channel"
    if image.mode not in IMAGE_MODES:
        return f"colours as {image.mode}", "save it in RGB"
    if image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) != 1:
        return "a TIFF with an orientation, which OpenCV can't read", "turn its pixels, or save it as JPEG or PNG"
    return None


def _read_image(image: Image.Image, path: str) -> Content:
    size = shown_size(image)
    # Decoding a JPEG at an eighth of its size reads all its bytes and takes a third of the time.
    image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
    decode(image, path)
    return Content(*size)


def _mask_problem(image: Image.Image, path: str) -> tuple[str, str] | None:
    """Why the format of a mask can't be used, and the remedy."""
    if image.format != "PNG":
        return f"a {image.format}, not a PNG", "export the labels as PNG; lossy formats change them"
    if image.mode in ("RGB", "RGBA"):
        return f"colours (mode {image.mode}), not labels", "map every colour to its label and save one 8-bit channel"
    if image.mode.startswith("I"):
        return f"16 bits a pixel (mode {image.mode})", "save the labels 0..255 with 8 bits"
    if image.mode not in ("L", "P"):
        return f"mode {image.mode}, not one channel of labels", "save the labels as 8-bit grey PNG"
    if image.mode == "L" and (bits := depth(image, path)) < 8:
        return f"{bits} bits a pixel, which readers stretch to 8", "save the labels as 8-bit grey PNG"
    return None


def _read_mask(image: Image.Image, path: str) -> Content:
    decode(image, path)
    return Content(*image.size, counts=count_labels(np.asarray(image, dtype=np.uint8)))


def judge(image: Checked, mask: Checked, label_space: LabelSpace) -> list[Offender]:
    """What is wrong with a pair; [] for a good one."""
    shown, labelled = image.content, mask.content
    found = [Offender(file.path, file.content.what, file.content.remedy) for file in (image, mask) if file.content.what]
    if not found and (shown.width, shown.height) != (labelled.width, labelled.height):
        sizes = f"{labelled.width}x{labelled.height} pixels, its image {image.path} has {shown.width}x{shown.height}"
        remedy = "export both at one size (an image's EXIF orientation counts: turn its pixels instead)"
        found.append(Offender(mask.path, sizes, remedy))
    if labelled.what:
        return found
    labels = [label for label, _ in _parse_counts(labelled.counts)]
    unknown = sorted(set(labels) - set(label_space.ids) - {label_space.ignored})
    if unknown:
        remedy = "fix them in the masks, or add them to the class table"
        found.append(Offender(mask.path, f"label(s) {unknown} not in the class table", remedy))
    elif labels == [label_space.ignored]:
        what = f"no labelled pixel (all are {label_space.ignored}, the ignored label)"
        found.append(Offender(mask.path, what, "label it, or take image and mask out of the data set"))
    return found


def _parse_counts(counts: str) -> Iterator[tuple[int, int]]:
    """Parse 'label:pixels label:pixels ...'."""
    for entry in counts.split():
        label, _, pixels = entry.partition(":")
        yield int(label), int(pixels)


def refuse(path: Path, report: Report) -> None:
    """Write the offenders as a table of path, what and remedy.

    Raises: InputError, always, with the first offenders.
    """
    write_table(path, pd.DataFrame(report.offenders))
    lines = [f"{found.path}: {found.what}; {found.remedy}" for found in report.offenders[:SHOWN]]
    number, left = len(report.offenders), len(report.offenders) - len(lines)
    more = [f"... and {left} more"] if left else []
    raise InputError("\n  ".join([f"{number} problem(s) in {report.pairs} pairs, all in {path}:", *lines, *more]))
