"""What is known of files that were read before: facts by path, size and time of change, in one SQLite file."""

import sqlite3
from dataclasses import astuple
from pathlib import Path

from freemask.data.probe import Facts

VERSION = 1  # raise it where freemask.probe finds other facts: caches of older versions are then forgotten
COMMIT_EVERY = 1000  # files; a killed run loses at most these


class Seen:
    """A cache of Facts. A file counts as unchanged while its size [bytes] and time of change [ns] are the same.

    One process writes at a time, which Snakemake sees to; so SQLite's locks, which some network file systems lack,
    are switched off. A cache that can't be read is begun anew.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(path)
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._open(path)

    def _open(self, path: Path) -> None:
        self.database = sqlite3.connect(f"{path.absolute().as_uri()}?nolock=1", uri=True)
        if self.database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            self.database.execute("DROP TABLE IF EXISTS files")
            self.database.execute(f"PRAGMA user_version = {VERSION}")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS files (kind TEXT, path TEXT, size INTEGER, changed INTEGER, width INTEGER,"
            " height INTEGER, counts TEXT, what TEXT, remedy TEXT, PRIMARY KEY (kind, path)) WITHOUT ROWID"
        )
        self.database.commit()
        self.new = 0

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *exception: object) -> None:
        self.database.commit()
        self.database.close()

    def get(self, kind: str, path: str) -> tuple[int, int, Facts] | None:
        """Size and time of change when the file was read, and its facts; None for a file that wasn't."""
        query = "SELECT size, changed, width, height, counts, what, remedy FROM files WHERE kind = ? AND path = ?"
        row = self.database.execute(query, (kind, path)).fetchone()
        return row and (row[0], row[1], Facts(*row[2:]))

    def put(self, kind: str, path: str, size: int, changed: int, facts: Facts) -> None:
        """Remember a file that was read."""
        row = (kind, path, size, changed, *astuple(facts))
        self.database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.new += 1
        if self.new % COMMIT_EVERY == 0:
            self.database.commit()
