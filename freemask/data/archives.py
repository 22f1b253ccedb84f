"""Zip archives, unpacked whole or not at all, and never outside their folder."""

import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from freemask import cli
from freemask.errors import InputError
from freemask.data.fetch import refuse_full_disk

BLOCK = 4096  # bytes that a disk gives to a file at least


def unpack(archive: str | Path, destination: str | Path, folder: str = "") -> None:
    """Unpack into a temporary folder beside destination, then rename that to destination.

    Args: destination: not there yet, or empty. folder: only what lies in this folder of the archive, without its name.
    Raises: InputError for a damaged archive, a name that leads out of the folder, a link, or too full a disk.
    """
    archive, destination = Path(archive), Path(destination)
    temporary = destination.parent / f".{destination.name}.unpacking"
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted run
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive, folder)
            needed = sum(-(-member.file_size // BLOCK) * BLOCK for member, _ in members)
            refuse_full_disk(destination.parent, needed, f"unpacking {archive.name}")
            temporary.mkdir()
            for member, name in cli.progress(members, f"unpacking {archive.name}", "file"):
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        os.rename(temporary, destination)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # the last: a password
        raise InputError(f"{archive}: cannot be unpacked ({error}); delete it and fetch it again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _members(zipped: zipfile.ZipFile, archive: Path, folder: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files to unpack with their names below the destination; every name is checked before one is written."""
    members = []
    for member in zipped.infolist():
        name = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        if link or name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
            raise InputError(f"{archive}: member {member.filename!r} leads out of the archive's folder; don't trust it")
        if not member.is_dir() and name.is_relative_to(folder):
            members.append((member, name.relative_to(folder)))
    if not members:
        raise InputError(f"{archive}: no files{f' in its folder {folder}' if folder else ''}; is it the right archive?")
    return members
