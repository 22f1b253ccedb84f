"""Files written whole or not at all, their digests, JSON."""

import codecs
import filecmp
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from freemask import disks, watchdog
from freemask.errors import InputError

RUN = "@"  # results/<data set>@<run>, see freemask.workflow.named_runs
LONGEST_ID = 150  # bytes; names of files get more behind it, and file systems take 255


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], Any]) -> None:
    """Write a file under a temporary name, fsync, rename: a reader sees the old file or the whole new one.

    Args: content: the bytes, or a function that writes them to a binary file.
    Raises: InputError where there is no room, no permission or no such place for a file.
    """
    path, temporary = Path(path), ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{writer()}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content) if isinstance(content, bytes) else content(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
        watchdog.beat()
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in disks.TROUBLES:  # names the temporary file, or none
            error.filename, error.filename2 = str(path), None
        raise


def writer() -> str:
    """Name of this process in the names of its temporary files: host@process id."""
    return f"{socket.gethostname()}@{os.getpid()}"


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder.

    A file of this host is removed if its process no longer runs, a file of another host if it is older than an hour.
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
    """The umask of this process; mkstemp ignores it, final files respect it."""
    current = os.umask(0)
    os.umask(current)
    return current


def write_changed(path: str | Path, content: bytes) -> bool:
    """As write_atomic, but a file that has these bytes already stays; returns whether it was written."""
    path = Path(path)
    if path.exists() and path.read_bytes() == content:
        return False
    write_atomic(path, content)
    return True


def link(source: str | Path, target: Path) -> None:
    """Make `target` the same file as `source`; or a copy of it: on another disk, or of a file of another user."""
    if target.exists() and (os.path.samefile(source, target) or filecmp.cmp(source, target, shallow=False)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{writer()}.tmp")
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:
        with open(source, "rb") as file:
            write_atomic(target, partial(shutil.copyfileobj, file))


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    watchdog.beat()
    return found


def sha256_of_input(path: str | Path) -> str:
    """SHA-256 of a file that another rule makes.

    Raises: InputError if the file can't be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; run the rule that makes it, or check the path") from None


def check_sha256(path: str | Path, expected: str | None, remedy: str) -> str:
    """Compare a file's SHA-256 with an expected one; returns the file's.

    Args: expected: hex digest or its first digits (None or "": any); remedy: what to do, the end of the message.
    Raises: InputError if the digest differs or the file can't be read.
    """
    found = sha256_of_input(path)
    if not found.startswith((expected or "").lower()):
        raise InputError(f"{path}: SHA-256 is {found}, want {expected}; {remedy}")
    return found


def own_id(dataset: str) -> str:
    """Id of a data set, as the user's tables have it: without the name of a run."""
    return dataset.partition(RUN)[0]


def subfolder(mask_id: str) -> str:
    """Name of the subfolder, one of 256, of the files of a mask: two hex digits of its id's SHA-256.

    Many file systems slow down in folders of more than some thousand files.
    """
    return hashlib.sha256(mask_id.encode()).hexdigest()[:2]


def digest(settings: Any) -> str:
    """First 12 hex digits of the SHA-256 of a JSON-able value; the order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    write_atomic(path, json_bytes(value))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises: InputError if the file is missing or isn't JSON.
    """
    try:
        return json.loads(read_text(path, "run the rule that makes it, or check the path"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it and run again") from None


def read_text(path: str | Path, remedy: str) -> str:
    """Read a UTF-8 text file.

    Raises: InputError if it can't be read; of a missing file, `remedy` says what to do.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(unread(path, error)) from None


def unread(path: str | Path, error: OSError | UnicodeDecodeError) -> str:
    """What to say of a text file that can't be read."""
    if isinstance(error, UnicodeDecodeError):
        found = "utf-16" if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin1"
        return (
            f"{path}: not UTF-8 (a byte 0x{error.object[error.start]:02x}); if you wrote it, save it as "
            f"UTF-8, e.g. with iconv -f {found} -t utf-8"
        )
    return f"{path}: can't be opened ({error.strerror}); check its permissions, e.g. chmod a+r"


def file_name(url: str) -> str:
    """Last part of an address's path."""
    return PurePosixPath(urlsplit(url).path).name
