"""Templates and pictures of pages: colors of masks, names of their regions, errors of predictions; as data URIs."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.images import jpeg_bytes, pack, png_bytes, read_mask

NAMED = 0.03  # minimum share of a picture's pixels for the largest region of a class to be named
NAME_WIDTH, NAME_HEIGHT = 24, 8  # of a name on a picture, percent of its sides
GRID = 48  # cells along the longer side, on which a region's middle is looked for
LONGEST, SHORTEST = 384, 160  # pixels of the longer side: larger pictures shrink, smaller ones grow by a whole number
QUALITY = 85  # of JPEGs
WRONG, RIGHT, UNKNOWN = (213, 94, 0), (233, 236, 240), (255, 255, 255)  # colors of an error map


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    uri: data URI. title: What it shows, a line. size: Height and width [pixels].
    names: (x, y [percent of width and height], name) of regions. note: A line below the title, e.g. a number.
    """

    uri: str
    title: str
    size: tuple[int, ...]
    names: list[tuple[float, float, str]] = field(default_factory=list)
    note: str = ""


def colorize_filtered(mask: np.ndarray, filtered: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Color a filtered mask (H, W) of raw labels; filtered and ignored pixels have colors of their own."""
    painted = label_space.colorize(filtered)
    painted[(mask != label_space.ignored) & (filtered == label_space.ignored)] = label_space.filtered_color
    return painted


def photo(picture: np.ndarray, title: str) -> Picture:
    """A photograph (H, W, 3) uint8 as a JPEG."""
    shrinks = max(picture.shape[:2]) > LONGEST
    image = _resized(picture, Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC)
    return Picture(data_uri("image/jpeg", jpeg_bytes(image, QUALITY)), title, image.shape[:2])


def painted(
    picture: np.ndarray, title: str, names: list[tuple[float, float, str]] | None = None, note: str = ""
) -> Picture:
    """A picture of few colors (H, W, 3) uint8 as a palette PNG."""
    codes, index = np.unique(pack(picture), return_inverse=True)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(codes)] = codes[:, None] >> [16, 8, 0] & 255
    image = _resized(index.reshape(picture.shape[:2]).astype(np.uint8), Image.Resampling.NEAREST)
    return Picture(data_uri("image/png", png_bytes(image, palette)), title, image.shape[:2], names or [], note)


def _resized(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
    height, width = picture.shape[:2]
    longer = max(height, width)
    scale = LONGEST / longer if longer > LONGEST else -(-SHORTEST // longer)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, how))


def template(name: str) -> jinja2.Template:
    """A page's template; HTML escapes its values."""
    loader = jinja2.PackageLoader("freemask.reporting")
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    return jinja2.Environment(loader=loader, autoescape=name.endswith(".html"), **options).get_template(name)


def data_uri(kind: str, content: bytes) -> str:
    """Content of a page, of a type such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def region_names(labels: np.ndarray, label_space: LabelSpace) -> list[tuple[float, float, str]]:
    """Where to write the names of a mask's large regions: (x, y) [percent], name.

    Args:
        labels: (H, W) raw labels.
        label_space: The data set's label space.
    Returns: One place for each class with NAMED of the pixels, deep inside a region of it; largest class first. A name
        that would cover another is left out.
    """
    height, width = labels.shape
    step = max(1, max(height, width) // GRID)
    small = labels[step // 2 :: step, step // 2 :: step]
    inside = [(small == label, name) for label, name in zip(label_space.ids, label_space.names, strict=True)]
    inside = sorted((one for one in inside if one[0].mean() >= NAMED), key=lambda one: -one[0].sum())
    found: list[tuple[float, float, str]] = []
    for region, name in inside:
        row, column = _deepest(region)
        x, y = 100 * (column + 0.5) / small.shape[1], 100 * (row + 0.5) / small.shape[0]
        if all(abs(x - other[0]) > NAME_WIDTH or abs(y - other[1]) > NAME_HEIGHT for other in found):
            found.append((x, y, name))
    return found


def _deepest(inside: np.ndarray) -> tuple[int, int]:
    """A cell of a region (H, W) bool that is farthest from its outside; borders of the picture count as outside."""
    while True:
        padded = np.pad(inside, 1)
        eroded = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if not eroded.any():
            rows, columns = np.nonzero(inside)
            middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
            return int(rows[middle]), int(columns[middle])
        inside = eroded


def read_prediction(path: Path, mask: str, labels: np.ndarray) -> np.ndarray:
    """A prediction, (H, W) raw labels.

    Raises: InputError if it has another size than the labels of its mask.
    """
    predicted = read_mask(path)
    if predicted.shape != labels.shape:
        raise InputError(f"{path}: {predicted.shape} pixels, but {mask} has {labels.shape}; evaluate again")
    return predicted


def image_miou(labels: np.ndarray, predicted: np.ndarray, label_space: LabelSpace) -> float:
    """Mean IoU [percent] of one image over the classes in its mask or its prediction; NaN if all of it is ignored.

    Args:
        labels: (H, W) raw labels of the mask.
        predicted: (H, W) raw labels.
        label_space: The data set's label space.
    """
    known = np.isin(labels, label_space.ids)
    truth, guess = labels[known], predicted[known]
    present = np.union1d(truth, guess)
    if not len(present):
        return float("nan")
    both = [((truth == label) & (guess == label)).sum() for label in present]
    either = [((truth == label) | (guess == label)).sum() for label in present]
    return float(100 * np.mean(np.array(both) / np.array(either)))


def errors(labels: np.ndarray, predicted: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Error map (H, W, 3): wrong pixels orange, right ones grey, ignored ones white."""
    known = np.isin(labels, label_space.ids)
    shown = np.empty((*labels.shape, 3), np.uint8)
    shown[:] = UNKNOWN
    shown[known & (labels == predicted)] = RIGHT
    shown[known & (labels != predicted)] = WRONG
    return shown
