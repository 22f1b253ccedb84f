"""What one raw image or mask file is: its size, its labels, or why it can't be used.

Masks may be grey PNGs (the value is the label) or palette PNGs (the index is the label; the palette's colours are not
looked at, as in Pascal VOC). Everything else isn't one label per pixel and is refused.
"""

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from freemask.images import DAMAGED
from freemask.data.masks import count_labels

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
AGAIN = "fetch or export it again"


@dataclass(frozen=True)
class Facts:
    """One file, read once. width, height: as shown (EXIF orientation applied) [pixels]; counts: pixels of every raw
    label of a mask, the ignored one too, "label:pixels label:pixels ..."; what, remedy: why it can't be used, or "".
    """

    width: int = 0
    height: int = 0
    counts: str = ""
    what: str = ""
    remedy: str = ""


def probe(kind: str, path: str) -> Facts:
    """Read an image (kind "image") or a mask ("mask") to its last byte."""
    try:
        if os.path.getsize(path) == 0:
            return Facts(what="empty file", remedy=AGAIN)
        with Image.open(path) as image:
            facts = _mask_form(image, path) if kind == "mask" else _image_form(image)
            return facts or (_read_mask(image, path) if kind == "mask" else _read_image(image))
    except FileNotFoundError:
        return Facts(what="no such file", remedy="put it back, or index the data set again")
    except Image.DecompressionBombError:
        return Facts(what=f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels", remedy="cut it into tiles")
    except Image.UnidentifiedImageError:
        return Facts(what=f"not a readable {kind}", remedy=AGAIN)
    except DAMAGED as error:
        return Facts(what=f"truncated or damaged ({error})", remedy=AGAIN)


def _image_form(image: Image.Image) -> Facts | None:
    if image.mode.startswith(("I", "F")):
        return Facts(what=f"more than 8 bits a channel (mode {image.mode})", remedy="save it with 8 bits a channel")
    return None


def _read_image(image: Image.Image) -> Facts:
    turned = image.getexif().get(ORIENTATION) in TURNED
    width, height = image.size
    # A JPEG is decoded at an eighth of its size: all its bytes are read, at a third of the time.
    image.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))
    decode(image, image.filename)
    return Facts(height, width) if turned else Facts(width, height)


def _mask_form(image: Image.Image, path: str) -> Facts | None:
    if image.format != "PNG":
        return Facts(what=f"a {image.format}, not a PNG", remedy="export the labels as PNG; lossy formats change them")
    if image.mode in ("RGB", "RGBA"):
        remedy = "map every colour to its label and save one 8-bit channel"
        return Facts(what=f"colours (mode {image.mode}), not labels", remedy=remedy)
    if image.mode.startswith("I"):
        return Facts(what=f"16 bits a pixel (mode {image.mode})", remedy="save the labels 0..255 with 8 bits")
    if image.mode not in ("L", "P"):
        return Facts(what=f"mode {image.mode}, not one channel of labels", remedy="save the labels as 8-bit grey PNG")
    with open(path, "rb") as file:
        header = file.read(26)  # signature, IHDR: width, height, bits, colour type
    if image.mode == "L" and header[24] < 8:
        remedy = "save the labels as 8-bit grey PNG"  # readers stretch 0..15 to 0..255
        return Facts(what=f"{header[24]} bits a pixel, which readers stretch to 8", remedy=remedy)
    return None


def _read_mask(image: Image.Image, path: str) -> Facts:
    decode(image, path)
    return Facts(*image.size, counts=count_labels(np.asarray(image, dtype=np.uint8)))


def decode(image: Image.Image, path: str) -> None:
    """Decode; of a PNG, check every chunk's CRC as well (decoding stops at the last row of pixels).

    Raises: one of DAMAGED.
    """
    if image.format == "PNG":
        with Image.open(path) as again:
            again.verify()
    image.load()
