"""Packs: many small files in a few, each pack a tar archive and its index.

One process writes a pack, from front to back. A batch is on disk before its lines are added to the index, so a killed
writer loses at most its batch; whatever the archive holds beyond its index is ignored. Tar needs no directory at its
end, unlike zip and HDF5, and no library to read at an offset, and `tar xf` unpacks it.

A file in a pack has a path as if it lay beside the packs, <folder>/<name>, and a stamp that says what it was made from.
"""

import csv
import functools
import io
import itertools
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from freemask.errors import InputError
from freemask.files import write_atomic

OPEN = 256  # packs that a process keeps open
Entry = tuple[str, str, int, int]  # name, stamp, offset, size: a line of an index


class TABS(csv.excel_tab):
    """Format of an index."""

    lineterminator = "\n"


class Place(NamedTuple):
    """Where a file lies: path of the archive, offset and size [bytes]."""

    pack: str
    offset: int
    size: int


class Writer:
    """Writes files to a new pack of a folder: <number>.tar and <number>.index. Several may write to a folder at once.

    The pack appears with the first batch. Leaving the with statement saves what is left, after an error as well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._batch: list[tuple[str, str, bytes]] = []
        self._opened: tuple[tarfile.TarFile, BinaryIO, BinaryIO] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.save()
        if self._opened:
            tar, *files = self._opened
            tar.close()
            for file in files:
                file.close()

    def add(self, name: str, stamp: str, content: bytes) -> None:
        """Add a file to the batch."""
        self._batch.append((name, stamp, content))

    def save(self) -> None:
        """Write the batch to disk."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        self._opened = self._opened or self._open()
        tar, archive, index = self._opened
        lines = io.StringIO()
        rows = csv.writer(lines, TABS)
        for name, stamp, content in batch:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            blocks = -(-len(content) // tarfile.BLOCKSIZE)
            rows.writerow([name, stamp, tar.offset - blocks * tarfile.BLOCKSIZE, len(content)])
        _sync(archive)
        index.write(lines.getvalue().encode())
        _sync(index)

    def _open(self) -> tuple[tarfile.TarFile, BinaryIO, BinaryIO]:
        """Create the pack with the next free number; another writer may take one at the same time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(len(list(self.folder.glob("*.tar"))) + 1):
            try:
                archive = open(self.folder / f"{number:04d}.tar", "xb")  # noqa: SIM115
            except FileExistsError:
                continue
            break
        index = open(_index(archive.name), "wb")  # noqa: SIM115
        return tarfile.open(fileobj=archive, mode="w"), archive, index


def find(paths: Sequence[str], stamps: Sequence[str]) -> list[Place | None]:
    """Places of files with these paths and stamps; None for one that no pack holds. Of twins, the last one counts."""
    found: dict[tuple[str, str], Place | None] = dict.fromkeys(zip(paths, stamps, strict=True))
    for folder in {os.path.dirname(path) for path in paths}:
        for pack in sorted(Path(folder).glob("*.tar")):
            for name, stamp, offset, size in entries(pack):
                if (key := (f"{folder}/{name}", stamp)) in found:
                    found[key] = Place(str(pack), offset, size)
    return [found[key] for key in zip(paths, stamps, strict=True)]


def read(place: Place) -> bytes:
    """The bytes of a file; fewer if the archive was cut. Safe in processes forked from one that has read before."""
    return os.pread(_archive(os.path.abspath(place.pack)).fileno(), place.size, place.offset)


def drop(places: Iterable[Place]) -> None:
    """Take files out of the indexes of their packs. The archives stay as they are."""
    dropped = defaultdict(set)
    for place in places:
        dropped[place.pack].add(place.offset)
    for pack, offsets in dropped.items():
        lines = io.StringIO()
        csv.writer(lines, TABS).writerows(entry for entry in entries(Path(pack)) if entry[2] not in offsets)
        write_atomic(_index(pack), lines.getvalue().encode())


@functools.lru_cache(maxsize=OPEN)
def _archive(pack: str) -> BinaryIO:
    """An open archive; the cache closes those that it drops."""
    return open(pack, "rb", buffering=0)


def _index(pack: str | Path) -> Path:
    return Path(pack).with_suffix(".index")


def entries(pack: Path) -> Iterator[Entry]:
    """The lines of a pack's index, without those that a kill or a full disk cut off, here or in the archive.

    Raises: InputError for an index that is damaged.
    """
    index, end = _index(pack), pack.stat().st_size
    text = index.read_bytes() if index.exists() else b""
    try:
        whole = io.StringIO(text[: text.rfind(b"\n") + 1].decode(), newline="")
        for name, stamp, offset, size in csv.reader(whole, TABS):
            if int(offset) + int(size) <= end:
                yield name, stamp, int(offset), int(size)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{index}: damaged ({error}); delete it, what {pack} holds is made again") from None


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
