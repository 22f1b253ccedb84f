"""Images and masks: read with clear errors, encoded reproducibly."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from freemask.errors import InputError
from freemask.files import digest

# what Pillow raises for damaged files
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
UNOPENED = "can't be opened"
NO_MASK = "mask; check the data set's root and its masks pattern"
ORIENTATION = 0x0112  # EXIF tag
BITS_PER_SAMPLE = 258  # TIFF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height


def trouble(error: Exception) -> tuple[str, str]:
    """What is wrong with a file whose reading raised one of DAMAGED, and what to do."""
    if isinstance(error, OSError) and error.errno:  # the system's, not Pillow's
        return f"{UNOPENED} ({error.strerror})", "make it readable, e.g. chmod a+r, or look after its disk"
    return f"truncated or damaged ({error})", "fetch or export it again"


@contextmanager
def _opened(path: str | Path, content: bytes | None = None, missing: str = NO_MASK) -> Iterator[Image.Image]:
    """An open image file, or its `content`; errors become InputErrors."""
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"{path}: no such {missing}") from None
    except DAMAGED as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); {trouble(error)[1]}") from None


def read_mask(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """Read a label PNG as (H, W) uint8 raw labels; palette PNGs give their indices.

    Args: content: the bytes of a file in a pack.
    Raises: InputError if the file is missing, damaged, or not one 8-bit channel.
    """
    with _opened(path, content) as image:
        image.load()
    if image.mode not in ("L", "P"):
        raise InputError(f"{path}: mode {image.mode}, want one 8-bit channel of labels; convert it to a grey PNG")
    return np.asarray(image, dtype=np.uint8)


def read_layers(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """Read a PNG of three 8-bit channels, (H, W, 3) uint8; see `read_mask`.

    Raises: InputError if the file is missing, damaged, or has other channels.
    """
    with _opened(path, content) as image:
        image.load()
    if image.mode != "RGB":
        raise InputError(f"{path}: mode {image.mode}, want three 8-bit channels; make it again")
    return np.asarray(image)


def read_colors(path: str | Path) -> np.ndarray:
    """Read an image as (H, W) int32 colors 0xrrggbb; transparency is dropped, nothing is turned.

    Raises: InputError if the file is missing or damaged.
    """
    with _opened(path) as image:
        return pack(np.asarray(image.convert("RGB")))


def pack(rgb: np.ndarray) -> np.ndarray:
    """Colors (H, W, 3) uint8 as (H, W) int32, 0xrrggbb."""
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def depth(image: Image.Image, path: str | Path) -> int:
    """Bits per channel in the file. Pillow's mode hides them: it opens a PNG of 3 x 16 bits as RGB."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(26)[24]  # signature, IHDR: width, height, bits
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    return 8


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


def decode(image: Image.Image, path: str | BinaryIO) -> None:
    """Read an open image file to its end; of a PNG, check the checksum of every chunk (Pillow stops at the last row).

    Raises: One of DAMAGED.
    """
    if image.format == "PNG":
        with Image.open(path) as again:
            again.verify()
    image.load()


def jpeg_bytes(array: np.ndarray, quality: int, comment: str = "") -> bytes:
    """Encode (H, W, 3) uint8 as JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="JPEG", quality=quality, subsampling=0, comment=comment)
    return buffer.getvalue()


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Of every image that check_dataset accepts, trainings, which read with OpenCV, see the same pixels.

    Raises: InputError if the file is missing or damaged.
    """
    with _opened(path, missing="image; check the path, or run the rule that makes it") as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def stamp(image_sha256: str, mask_sha256: str) -> str:
    """Stamp of what is made from an image and a mask: a digest of theirs."""
    return digest([image_sha256, mask_sha256])
