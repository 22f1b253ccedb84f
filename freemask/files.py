"""Files written whole or not at all, their hashes, and tab-separated tables."""

import csv
import hashlib
import io
import json
import os
import socket
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from PIL import Image

from freemask.errors import InputError

# what Pillow raises for damaged files
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], Any]) -> None:
    """Write a file under a temporary name, fsync, rename: a reader sees the old file or the whole new one.

    Args: content: the bytes, or a function that writes them to a binary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{writer()}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content) if isinstance(content, bytes) else content(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def writer() -> str:
    """This process as it stands in the names of its temporary files: host@process id."""
    return f"{socket.gethostname()}@{os.getpid()}"


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left in a folder.

    Known dead: a process of this host that is no more. Another host's file counts as left after an hour.
    """
    for stray in folder.glob(".*.tmp"):
        host, _, process = stray.name.rsplit(".", 2)[0].rpartition("@")
        if host.endswith(f".{socket.gethostname()}") and process.isdigit():
            dead = int(process) != os.getpid() and not Path(f"/proc/{process}").exists() and Path("/proc").is_dir()
        else:
            dead = time.time() - stray.stat().st_mtime > 3600
        if dead:
            stray.unlink(missing_ok=True)


def current_umask() -> int:
    """The process's umask: what temporary files don't heed and final ones must."""
    current = os.umask(0)
    os.umask(current)
    return current


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_input(path: str | Path) -> str:
    """sha256 of a file that must be there.

    Raises: InputError where it can't be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; run the rule that makes it, or check the path") from None


def digest(settings: Any) -> str:
    """First 12 hex digits of the SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read JSON; InputError names the file where it is missing or broken."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the rule that makes it, or check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it and run again") from None


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a tab-separated table, atomically; floats with 9 significant digits (exact for float32)."""

    def write(file: BinaryIO) -> None:
        table.to_csv(file, mode="wb", sep="\t", index=False, float_format="%.9g", lineterminator="\n")

    write_atomic(path, write)


def write_rows(path: str | Path, header: list[str], rows: Iterable[Iterable[object]]) -> int:
    """Write a tab-separated table row by row, atomically, without holding it; returns the number of rows.

    Where `rows` raises, nothing is written.
    """

    def write(file: BinaryIO) -> None:
        nonlocal number
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow(row)
            number += 1
        text.flush()
        text.detach()

    number = 0
    write_atomic(path, write)
    return number


def read_table(
    path: str | Path, columns: list[str], only: bool = False, types: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a tab-separated table that must hold `columns`; ids (mask_id, image, mask, ...) stay text.

    Args: only: read no other columns, which saves time and memory; types: columns of another type, e.g. S256 for
    UTF-8 bytes, which are read much more quickly than text and cut off where they are longer.
    Raises: InputError naming file and column.
    """
    text = {"mask_id", "image", "mask", "sha256", "image_sha256", "mask_sha256", "name", "word", "experiment", "counts"}
    try:
        # keep_default_na=False: a class may be called "null", a mask "NA".
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=dict.fromkeys(text, str) | dict(types or {}),
            keep_default_na=False,
            na_values=["nan", ""],
            usecols=set(columns).__contains__ if only else None,
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; run the rule that makes it, or check the path") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a tab-separated table ({error}); delete it and run again") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing (found: {', '.join(map(str, table.columns))})")
    return table


def stream_table(path: str | Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a tab-separated table as text, `columns` only, without holding the table in memory.

    Raises: InputError naming file and column.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            header = next(rows, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(f"{path}: column {missing[0]!r} is missing (found: {', '.join(header)})")
            places = [header.index(column) for column in columns]
            for row in rows:
                if len(row) != len(header):
                    raise InputError(f"{path}, line {rows.line_num}: {len(row)} fields, want {len(header)}")
                yield tuple(row[place] for place in places)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; run the rule that makes it, or check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a tab-separated table ({error}); delete it and run again") from None


def count_rows(path: str | Path) -> int:
    """How many rows a tab-separated table has, without its header."""
    return sum(1 for _ in stream_table(path, []))


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
