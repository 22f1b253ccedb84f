"""A working directory that several people use: what Snakemake and jobs must be able to write there."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from snakemake.persistence.file import FilePersistence

from freemask import disks
from freemask.errors import InputError
from freemask.files import current_umask


def refuse_unwritable(folder: Path) -> None:
    """Refuse a working directory that this user can't write; Snakemake would end with a traceback, with -n as well.

    Raises: InputError naming the first such path and what its owner and this user can do.
    """
    for path in _written(folder):
        if not os.access(path, os.W_OK):
            denied = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
            raise InputError(f"a run writes here, and so does -n: {disks.remedy(denied, path)}")


def _written(folder: Path) -> Iterator[Path]:
    """Paths that runs write: Snakemake's records, and the upper folders of results and logs."""
    state = folder / ".snakemake"
    yield from (path for path in (folder, state) if path.exists())
    yield from (path for path in sorted(state.glob("*")) if path.is_dir())
    for records in ("iocache", "locks"):  # files that any run replaces
        yield from sorted((state / records).glob("*"))
    for top in ("results", "logs"):
        for pattern in (top, f"{top}/*", f"{top}/*/*"):
            yield from (path for path in sorted(folder.glob(pattern)) if path.is_dir())


def unshared(folder: Path) -> str:
    """A warning for a folder that a group shares and a umask that keeps its members from what this run makes; or ''."""
    mode = folder.stat().st_mode
    if mode & stat.S_ISGID and mode & stat.S_IWGRP and current_umask() & stat.S_IWGRP:
        return (
            f"{folder} is shared by a group, but your umask is {current_umask():03o}: the others won't be able to"
            " continue this run; set `umask 002` first"
        )
    return ""


def keep_other_locks() -> None:
    """Let a Snakemake that ends remove its own locks alone, and --unlock those of all.

    Snakemake 9.27 removes every lock of the folder when it ends. `snakemake cost` beside a run would remove the run's,
    and nothing would refuse a second run.
    """

    def unlock(self: FilePersistence) -> None:
        while self._lockfile:
            Path(self._lockfile.popitem()[1]).unlink(missing_ok=True)

    FilePersistence.unlock = unlock
    FilePersistence.cleanup_locks = FilePersistence._delete_locks  # --unlock
