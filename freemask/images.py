"""Images and masks: read, or refused with a reason; encoded to the same bytes for the same pixels."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from freemask.errors import InputError

# what Pillow raises for damaged files
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height


def read_mask(path: str | Path) -> np.ndarray:
    """Read a label PNG as (H, W) uint8 raw labels; palette PNGs give their indices.

    Raises: InputError where the file is missing, damaged, or not one 8-bit channel.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such mask; check the data set's root and its masks pattern") from None
    except DAMAGED as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); fetch or export it again") from None
    if image.mode not in ("L", "P"):
        raise InputError(f"{path}: mode {image.mode}, want one 8-bit channel of labels; convert it to a grey PNG")
    return np.asarray(image, dtype=np.uint8)


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height [pixels] of an image as it is shown, its EXIF orientation applied."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height)


def png_bytes(array: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 as PNG; the same bytes for the same array.

    palette: (256, 3) uint8: a palette PNG, whose labels programs read while people see colors.
    """
    buffer, image = io.BytesIO(), Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(buffer, format="PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def jpeg_bytes(array: np.ndarray, quality: int, comment: str = "") -> bytes:
    """Encode (H, W, 3) uint8 as JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="JPEG", quality=quality, subsampling=0, comment=comment)
    return buffer.getvalue()


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Raises: InputError where the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the path, or run the rule that makes it") from None
    except DAMAGED as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); fetch or make it again") from None
