"""One page about a data set as it is: the check's findings, classes, sizes, suspicious pairs, images with masks."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from freemask.data.check import Offender, Report, equal_images
from freemask.data.colors import hexadecimal
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import MaskFormat
from freemask.data.masks import LabelCounts, Pairs, resize_nearest
from freemask.errors import InputError
from freemask.images import jpeg_bytes, png_bytes, read_image
from freemask.parallel import map_files, some
from freemask.reporting.choice import choose_masks
from freemask.reporting.pictures import data_uri, template

LARGEST = 8 * 96  # side of what is compared: squashed further, edges are lost [pixels]
SIDE = 96  # of the images whose edges are compared with those of their masks [pixels]
TILE = 320  # longer side of a picture [pixels]
LISTED = 50  # rows of a table
FEW = 3  # training images of a class; fewer are mentioned
LABELLED = 0.1  # share of labelled pixels; less is mentioned
BETTER = 1.5  # times that a turned mask fits better than the mask itself
NO_FIT = 1.15  # median of a split whose masks may be those of other images (then it is about 1)
TURNED = {"mirrored": np.s_[:, ::-1], "upside down": np.s_[::-1], "turned by 180°": np.s_[::-1, ::-1]}


class Fit(NamedTuple):
    """How well a mask's borders lie on its image's edges.

    ratio: Mean contrast of the image at the borders, over its mean contrast; NaN without borders or contrast. 1: as if
        the mask were another image's.
    turned: How the mask fits clearly better than as it is, or "".
    """

    ratio: float
    turned: str


@dataclass
class Split:
    """A split: its pairs, files without a partner, what the check found in them, how their masks fit.

    good: (N,) bool, pairs that can be used. counts, labelled, ignored: their labels, and pixels with and without one.
    """

    name: str
    pairs: Pairs
    unpaired: list[Offender]
    report: Report
    mask_format: MaskFormat

    def __post_init__(self) -> None:
        bad = {found.path for found in self.report.offenders}
        self.offenders = [*self.unpaired, *self.report.offenders]
        self.good = np.array([image not in bad and mask not in bad for _, image, mask in self.pairs], bool)
        counts = []
        for (_, mask), good in zip(self.report.contents, self.good, strict=True):
            found: Counter[int] = Counter()
            for entry in mask.counts.split() if good else ():
                value, _, pixels = entry.partition(":")
                found[self.mask_format.values[int(value)]] += int(pixels)
            counts.append(found)
        self.ignored = np.array([found.pop(self.mask_format.ignored, 0) for found in counts])
        self.counts = LabelCounts.parse([" ".join(f"{k}:{v}" for k, v in sorted(one.items())) for one in counts])
        self.labelled = self.counts.sum_by_mask(self.counts.pixels)
        self.fits: list[Fit] = []

    def measure_fits(self, processes: int) -> None:
        """See how well the masks of good pairs fit their images."""
        jobs = [pair[1:] if good else None for pair, good in zip(self.pairs, self.good, strict=True)]
        work = partial(fit, mask_format=self.mask_format)
        self.fits = list(map_files(work, jobs, processes, f"compare {self.name}", "pair"))

    @property
    def images(self) -> pd.DataFrame:
        """The images that can be opened, as equal_images takes them."""
        rows = [(image.path, image.sha256) for image, _ in self.report.files if image.sha256]
        return pd.DataFrame(rows, columns=["image", "image_sha256"])

    def names(self, which: np.ndarray) -> str:
        """The mask ids of a selection (N,) bool, shortened."""
        return some([self.pairs[position][0] for position in np.flatnonzero(which)])


def fit(pair: tuple[str, str] | None, mask_format: MaskFormat) -> Fit:
    """How well the borders in a mask lie on the edges of its image (paths; None: not looked at)."""
    if pair is None:
        return Fit(np.nan, "")
    labels = mask_format.read(pair[1])
    y, x = (max(length - LARGEST, 0) // 2 for length in labels.shape)  # the middle of a large image
    height, width = (min(length, LARGEST) for length in labels.shape)
    with Image.open(pair[0]) as image:
        if max(labels.shape) <= LARGEST:
            image.draft("L", (2 * SIDE, 2 * SIDE))
        grey = ImageOps.exif_transpose(image).convert("L")
        if max(labels.shape) > LARGEST:
            grey = grey.crop((x, y, x + width, y + height))
        grey = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    labels = resize_nearest(labels[y : y + height, x : x + width], SIDE)
    return fit_edges(np.asarray(grey, np.float32), labels, mask_format.ignored)


def fit_edges(grey: np.ndarray, labels: np.ndarray, ignored: int) -> Fit:
    """Compare the contrast of an image (S, S) float32 at the borders of labels (S, S) with its mean contrast."""
    rows, columns = np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1]
    contrast = np.hypot(rows, columns)  # (S - 1, S - 1)
    here, below, right = labels[:-1, :-1], labels[1:, :-1], labels[:-1, 1:]
    seen = (here != ignored) & (below != ignored) & (right != ignored)
    borders = seen & ((here != below) | (here != right))
    if not borders.any() or not contrast.any():
        return Fit(np.nan, "")
    mean = contrast.mean()
    ratio = float(contrast[borders].mean() / mean)
    turned = {how: float(contrast[borders[index]].mean() / mean) for how, index in TURNED.items()}
    best = max(turned, key=turned.__getitem__)
    return Fit(ratio, best if turned[best] > BETTER * max(ratio, 1) else "")


def findings(splits: list[Split], space: LabelSpace) -> list[tuple[str, str]]:
    """What people should look at before they train: what, and where, for each kind of finding."""
    found, names = [], list(zip(space.ids, space.names, strict=True))
    for split in splits:
        found += [(f"{split.name}: {what}", where) for what, where in _of_split(split, splits[0]) if where]
    for split in splits:
        if unseen := [name for label, name in names if not split.report.images[label]]:
            found.append((f"{split.name}: no pixel of {len(unseen)} class(es)", some(unseen)))
    if rare := [name for label, name in names if 0 < splits[0].report.images[label] < FEW]:
        found.append((f"train: classes in fewer than {FEW} images", some(rare)))
    return found


def _of_split(split: Split, train: Split) -> list[tuple[str, str]]:
    """Findings about the pairs of a split; a place is empty where there are none."""
    equal = equal_images(split.images, None if split is train else train.images)
    twins = [f"{row.image} = {row.equal_to}" for row in equal.itertuples()]
    by_mask: dict[str, list[str]] = {}
    for (_, _, mask), (_, state) in zip(split.pairs, split.report.files, strict=True):
        by_mask.setdefault(state.sha256 or mask, []).append(mask)
    same = [" = ".join(masks[:3]) for masks in by_mask.values() if len(masks) > 1]
    pixels = split.labelled + split.ignored
    classes = np.bincount(split.counts.row, minlength=split.counts.masks)
    turned = np.array([bool(one.turned) for one in split.fits], bool)
    hows = ", ".join(sorted({one.turned for one in split.fits if one.turned}))
    ratios = [one.ratio for one in split.fits if np.isfinite(one.ratio)]
    median = float(np.median(ratios)) if ratios else np.inf
    few = split.good & (split.labelled < LABELLED * pixels)
    doubt = "borders in masks lie on no edges of images: do they belong together?" if median < NO_FIT else ""
    return [
        (f"files that can't be used ({len(split.offenders)})", some([one.path for one in split.offenders])),
        ("images of the same bytes", some(twins)),
        ("masks of the same bytes beside several images", some(same)),
        (f"masks that fit their images better {hows}", split.names(turned)),
        ("masks of a single class", split.names(split.good & (classes == 1))),
        (f"masks with less than {LABELLED:.0%} labelled", split.names(few)),
        (f"median fit {median:.2f}", doubt),
    ]


def class_rows(splits: list[Split], space: LabelSpace) -> list[dict[str, Any]]:
    """A row for each class, most frequent first: its share of each split's labelled pixels, and its images."""
    shares = [split.report.pixels / max(split.report.pixels[list(space.ids)].sum(), 1) for split in splits]
    rows = space.to_json()["classes"]
    for row in rows:
        label, each = row["label"], zip(shares, splits, strict=True)
        row["splits"] = [(share[label], split.report.images[label]) for share, split in each]
    return sorted(rows, key=lambda row: -row["splits"][0][0])


def pictures(split: Split, space: LabelSpace, number: int) -> list[list[dict[str, Any]]]:
    """Pairs to look at: those whose masks fit worst (a quarter of the number), and those that show the rare classes."""
    ratios = np.array([one.ratio for one in split.fits])
    worst = [int(position) for position in np.argsort(ratios)[: number // 4] if np.isfinite(ratios[position])]
    usable = split.good.copy()
    usable[worst] = False
    chosen = choose_masks(split.counts, usable, number)
    return [[_picture(split, position, space) for position in one] for one in (worst, chosen)]


def _picture(split: Split, position: int, space: LabelSpace) -> dict[str, Any]:
    """An image and its mask, both as data of a page, their width [pixels] there, and a caption."""
    mask_id, image_path, mask_path = split.pairs[position]
    image, labels = read_image(image_path), split.mask_format.read(mask_path)
    height, width = labels.shape
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    shown = np.asarray(Image.fromarray(image).resize(size, how))
    mask = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    names = dict(zip(space.ids, space.names, strict=True))
    own = split.counts.label[split.counts.row == position]
    fit = split.fits[position]
    note = f", fits better {fit.turned}" if fit.turned else ""
    caption = f"{mask_id}, {width} x {height}, fit {fit.ratio:.2f}{note}: {', '.join(names[label] for label in own)}"
    return {
        "image": data_uri("image/jpeg", jpeg_bytes(shown, 85)),
        "mask": data_uri("image/png", png_bytes(mask, space.palette())),
        "width": size[0],
        "caption": caption,
    }


def render(splits: list[Split], space: LabelSpace, title: str, number: int) -> str:
    """The page, which needs no other file.

    Args:
        splits: The training split first; measured.
        space: Label space of the data set.
        title: Name of the data set.
        number: Pictures of each split.
    Raises: InputError if an image or mask vanished meanwhile.
    """
    offenders = [found for split in splits for found in split.offenders]
    try:
        shown = [(split, *pictures(split, space, number)) for split in splits]
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; run again") from None
    classes = class_rows(splits, space)
    sizes = [
        Counter(f"{image.width} x {image.height}" for image, _ in split.report.contents if image.width)
        for split in splits
    ]
    return template("dataset.html").render(
        percent=lambda share: f"{share:.1%}" if share >= 0.001 or not share else f"{share:.2g}",
        title=title,
        space=space,
        splits=[(split, len(split.pairs), one.most_common()) for split, one in zip(splits, sizes, strict=True)],
        findings=findings(splits, space),
        offenders=offenders[:LISTED],
        left=max(len(offenders) - LISTED, 0),
        classes=classes,
        largest=max((share for row in classes for share, _ in row["splits"]), default=1) or 1,
        shown=shown,
        ignored=hexadecimal(space.ignored_color),
    )
