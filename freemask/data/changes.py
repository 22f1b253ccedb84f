"""Raw data that changed after they were indexed: noticed by size and time of change, and then by content.

An index leaves a record of the files that it read. Later, files are compared with it. Only a file of the same size and
another time of change is read, since a copy or a touch changes nothing. A mask that was saved again with the same
labels is no change either. What was noticed becomes a `state`, a small file that is rewritten only where it differs. An
index depends on it.
"""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from freemask.data.check import Checked, read_file
from freemask.files import digest, read_json, sha256, write_atomic
from freemask.parallel import some

FIRST = "as first indexed"
THREADS = 16  # network file systems answer in milliseconds
CHUNK = 1000


@dataclass
class Changes:
    """Files that differ from a record: paths below the data set's folders, each list sorted."""

    changed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """E.g. '2 changed (a.jpg, b.jpg), 1 new (c.jpg)'; empty if there are none."""
        kinds = {"changed": self.changed, "new": self.new, "gone": self.gone}
        return ", ".join(f"{len(paths)} {kind} ({some(paths)})" for kind, paths in kinds.items() if paths)


def write_record(path: Path, pairs: Iterable[tuple[Checked, Checked]], state: Path | None) -> None:
    """Record the files that an index was made of, and the state that they were in."""
    files = {file.path: [file.size, file.changed, file.sha256, file.values] for pair in pairs for file in pair}
    text = state.read_text() if state else FIRST
    write_atomic(path, json.dumps({"state": text, "files": files}).encode())


def compare(record: Path | None, paths: Sequence[str], state: Path) -> Changes:
    """Compare raw data with the record of their index, and rewrite `state` if it is another one.

    Files that have only other times, and masks with the same labels in other bytes, are remembered as they are now.

    Args:
        record: File that write_record wrote; None or no such file: nothing is compared.
        paths: Images and masks that are there now.
        state: The state, made if there is none.
    """
    if not (record and record.exists()):
        _write_state(state, state.read_text() if state.exists() else FIRST)
        return Changes()
    found = read_json(record)
    known, changes = found["files"], Changes()
    equal, now = {}, []  # how equal files are now; what is there instead of what was indexed
    for path, (size, changed) in zip(paths, _stat(paths), strict=True):
        if path not in known:
            changes.new.append(path)
            now.append((path, size))
            continue
        old_size, old_changed, old_digest, *values = known[path]  # earlier records lack the values of masks
        if (size, changed) == (old_size, old_changed):
            continue
        content = _digest(path) if size == old_size or not old_digest else ""  # none: it couldn't be read
        if content and content == old_digest:
            equal[path] = [size, changed, old_digest, *values]
        elif values and _holds(path, values[0]):
            equal[path] = [size, changed, content or sha256(path), *values]
        else:
            changes.changed.append(path)
            now.append((path, content or (size, changed)))
    changes.gone = sorted(known.keys() - set(paths))
    _write_state(state, digest([now, changes.gone]) if now or changes.gone else found["state"])
    if equal:
        known.update(equal)
        write_atomic(record, json.dumps(found).encode())
    return changes


def _digest(path: str) -> str:
    """SHA-256 of a file; empty if it can't be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _holds(path: str, values: str) -> bool:
    """Whether a mask holds the values of a record, kind:digest; empty for an image."""
    kind, _, known = values.partition(":")
    return bool(known) and read_file(kind, path).digest == known


def _write_state(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        write_atomic(path, text.encode())


def _stat(paths: Sequence[str]) -> Iterable[tuple[int, int]]:
    """Size and time of change of each file; (0, 0), as a record has it, if there is none (a broken link, a pipe)."""

    def stat(chunk: Sequence[str]) -> list[tuple[int, int]]:
        found = []
        for path in chunk:
            try:
                status = os.stat(path)
            except OSError:
                status = None
            is_file = status and S_ISREG(status.st_mode)
            found.append((status.st_size, status.st_mtime_ns) if is_file else (0, 0))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        for sizes in pool.map(stat, (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))):
            yield from sizes
