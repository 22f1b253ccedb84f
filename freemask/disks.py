"""Words for disks that are full, read-only, forbidden or failing: the path, what is free, what to do."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
TROUBLES = (*FULL, *DENIED, errno.EROFS, errno.EIO, errno.ESTALE)
# in the messages of libraries: safetensors, and PyTorch's writer of checkpoints, which doesn't say why it failed
TEXTS = {os.strerror(number): number for number in FULL} | {"inline_container": errno.ENOSPC}


def trouble(error: BaseException) -> str | None:
    """What a person can do about a full, read-only, forbidden or failing disk; None for another error.

    Libraries wrap such errors, so causes and texts count as well.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in TROUBLES:
            return remedy(found.errno, found.filename)
        for text, number in TEXTS.items():
            if text in str(found):
                return remedy(number, None)
        found = found.__cause__ or found.__context__
    return None


def remedy(number: int, name: str | bytes | Path | int | None) -> str:
    """The message for an error number of TROUBLES at a path (None: unknown)."""
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes | Path) else Path.cwd()  # most likely the same disk
    there = next((folder for folder in (path, *path.absolute().parents) if os.path.exists(folder)), Path("/"))
    what = f"{path}: {os.strerror(number)}"
    if number == errno.EDQUOT:
        return (
            f"{what}: your quota of bytes or of files is used up (`quota -s`); delete files or ask for more, run again"
        )
    if number == errno.ENOSPC:
        disk = os.statvfs(there)
        if disk.f_files and not disk.f_favail:
            return (
                f"{what}: all {disk.f_files:,} inodes are used, so no file can be added; delete files, then run again"
            )
        free, size = (blocks * disk.f_frsize / 2**30 for blocks in (disk.f_bavail, disk.f_blocks))
        return f"{what}: {free:.2f} of {size:.1f} GiB are free there; make room, then run again"
    if number in DENIED:
        return f"{what}. {_shared_folder(there)}"
    return f"{what}; look at the disk or its server (read-only mount? stale handle?), then run again"


def _shared_folder(path: Path) -> str:
    """What to set so that people of one group can work in one folder, for a path that this user may not write."""
    status = path.stat()
    owner, group = _name(pwd.getpwuid, status.st_uid), _name(grp.getgrgid, status.st_gid)
    return (
        f"{path} has mode {stat.S_IMODE(status.st_mode):o} and belongs to user {owner}, group {group}; you are"
        f" {_name(pwd.getpwuid, os.geteuid())}. To share a folder, its owner runs `chgrp -R <group> .`, `chmod -R g+rwX"
        " .` and `find . -type d -exec chmod g+s {} +` there once, and everybody sets `umask 002` before a run"
    )


def _name(look_up: Callable[[int], Any], number: int) -> str:
    """Name of a user or group; its number where it has none."""
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)
