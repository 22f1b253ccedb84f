"""Files from the network, whole or not at all: resumed, checked by SHA-256, placed under their name by a rename.

pooch 1.9 starts at the first byte again after an interruption (it sends no Range), too dear for 19 GB of COCO images;
huggingface_hub resumes from its own hub only. Hence requests, HTTP's Range and If-Range, and a .part file.
"""

import os
import re
import shutil
import time
import urllib.parse
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3

from freemask import __version__
from freemask import cli
from freemask import files
from freemask.errors import InputError

CHUNK = 1 << 18  # bytes
SPARE = 1 << 28  # bytes of a disk that stay free
PAGE = 1 << 20  # bytes of a web page that are looked at


@dataclass(frozen=True)
class Patience:
    """When to give up: seconds until a connection, seconds without a byte, failures in a row that brought none.

    pause: seconds before the first retry; doubled with every failure in a row.
    """

    connect: float = 20
    stall: float = 60
    failures: int = 5
    pause: float = 2


class _PassingError(Exception):
    """What another attempt may overcome."""


class _Part(NamedTuple):
    """An unfinished file, and beside it what the server said of the whole: url, validator, total [bytes]."""

    file: Path
    facts: Path

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)


def fetch(
    url: str,
    path: str | Path,
    sha256: str | None = None,
    otherwise: str = "",
    reserve: float = 0.0,
    patience: Patience = Patience(),
) -> None:
    """Download url to path, going on from path.part; a file that is there already is checked and kept.

    Args: sha256: the file's digest or its first hex digits. Unless it is whole, the first download's digest is kept in
    path.sha256 and every later one must agree. otherwise: what else a user can do, for messages. reserve: free disk
    needed beside the file, in file sizes (1 where an archive will be unpacked).
    Raises: InputError where the address, the disk or the digest is wrong, or patience ends; path isn't there then.
    """
    path = Path(path)
    if path.exists():
        _check_digest(path, path, sha256, f"delete {path} to fetch it again")
        cli.tell(f"{path}: there already, SHA-256 agrees")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(Path(f"{path}.part"), Path(f"{path}.part.json"))
    remedy = f"or fetch it elsewhere and save it as {path}{', ' if otherwise else ''}{otherwise}"
    _download(direct_address(url), part, remedy, reserve, patience)
    with open(part.file, "rb") as file:
        os.fsync(file.fileno())
    try:
        _check_digest(part.file, path, sha256, f"{url} serves another file, or it was damaged on the way: run again,")
    except InputError as error:
        part.delete()
        raise InputError(f"{error} {remedy}") from None
    os.replace(part.file, path)
    part.delete()


def direct_address(url: str) -> str:
    """Where Google Drive serves a file itself, without the page that warns of large files; other urls unchanged."""
    parts = urllib.parse.urlsplit(url)
    identifier = urllib.parse.parse_qs(parts.query).get("id") or re.findall(r"^/file/d/([-\w]+)", parts.path)
    if parts.hostname != "drive.google.com" or not identifier:
        return url
    return f"https://drive.usercontent.google.com/download?id={identifier[0]}&export=download&confirm=t"


def refuse_full_disk(folder: Path, needed: float, what: str) -> None:
    """Raise InputError unless the disk of folder has `needed` bytes free and some to spare."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise InputError(
            f"{folder}: {what} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; make room, or link the"
            " folder to a larger disk"
        )


def _check_digest(file: Path, path: Path, sha256: str | None, remedy: str) -> None:
    """Compare with the configuration's digest, and with the recorded one unless the former is whole."""
    found, record = files.sha256(file), Path(f"{path}.sha256")
    if sha256 and not found.startswith(sha256):
        raise InputError(f"{path.name}: SHA-256 {found}, want {sha256} as configured; {remedy}")
    if sha256 and len(sha256) == len(found):
        return
    if record.exists():
        recorded = record.read_text().partition(" ")[0]
        if recorded != found:
            raise InputError(
                f"{path.name}: SHA-256 {found}, but the first download had {recorded} ({record}; delete that if the"
                f" file was renewed on purpose); {remedy}"
            )
        return
    files.write_atomic(record, f"{found}  {path.name}\n".encode())  # what `sha256sum --check` reads
    cli.tell(f"{path}: SHA-256 {found}, recorded in {record.name}")


def _download(url: str, part: _Part, remedy: str, reserve: float, patience: Patience) -> None:
    """Attempt after attempt, as long as they bring new bytes or patience lasts."""
    failures, reached = 0, part.size()
    while True:
        try:
            return _attempt(url, part, remedy, reserve, patience)
        except (requests.RequestException, urllib3.exceptions.HTTPError, _PassingError) as error:
            reason = _first_line(error)
        except OSError as error:
            raise InputError(f"{part.file}: cannot be written ({error}); the next run goes on from there") from None
        failures = 0 if part.size() > reached else failures + 1
        reached = max(reached, part.size())
        if failures >= patience.failures:
            raise InputError(
                f"{url}: {reason}; gave up after {failures} attempts without a new byte ({reached} bytes are kept). No"
                f" network, as on many compute nodes? Run this on a login node, {remedy}"
            )
        pause = min(patience.pause * 2**failures, 60)
        cli.tell(f"{part.file}: {reason}; trying again in {pause:g} s")
        time.sleep(pause)


def _first_line(error: Exception) -> str:
    """What went wrong without the stack of wrapped exceptions that requests shows."""
    while isinstance(getattr(error, "reason", None) or (error.args or [None])[0], Exception):
        error = getattr(error, "reason", None) or error.args[0]
    return (str(error).splitlines() or [type(error).__name__])[0]


def _attempt(
    url: str, part: _Part, remedy: str, reserve: float, patience: Patience, confirmed: str | None = None
) -> None:
    """One request: the whole file, or what the part still lacks.

    confirmed: where url's page of confirmation leads; a part goes on whatever that is this time.
    """
    facts = files.read_json(part.facts) if part.facts.exists() else {}
    if facts.get("url") != url:
        part.delete()  # of another address, or of unknown origin
    headers = {"Accept-Encoding": "identity", "User-Agent": f"freemask/{__version__}"}
    if part.size() and (confirmed or not facts.get("asks")):  # a page of confirmation is asked for whole
        headers["Range"] = f"bytes={part.size()}-"
        if facts["validator"]:
            headers["If-Range"] = facts["validator"]
    timeout = (patience.connect, patience.stall)
    with requests.get(confirmed or url, headers=headers, stream=True, timeout=timeout) as answer:
        further = None if confirmed else _confirmation(answer)
        if further:
            _attempt(url, part, remedy, reserve, patience, further)
            return
        _refuse_bad_answer(url, answer, remedy)
        if answer.status_code == 416:
            _finish_or_restart(answer, part)
            return
        start, total = _extent(answer, part, facts)
        if total is not None:
            refuse_full_disk(part.file.parent, total - start + reserve * total, f"{part.file.stem}")
        files.write_json(
            part.facts, {"url": url, "validator": _validator(answer), "total": total, "asks": bool(confirmed)}
        )
        with open(part.file, "ab" if start else "wb") as file, cli.bar(part.file.stem, total, "B", scaled=True) as bar:
            bar.update(start)
            while chunk := answer.raw.read1(CHUNK, decode_content=False):  # what is there: a stall loses nothing
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.size() != total:
        raise _PassingError(f"the transfer ended after {part.size()} of {total} bytes")


class _Form(HTMLParser):
    """The form that Google Drive asks with whether to download a file too large for its virus scan."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.inside = False
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.inside = found.get("id") == "download-form"
            self.action = found.get("action") if self.inside else self.action
        elif tag == "input" and self.inside and found.get("type") == "hidden" and found.get("name"):
            self.fields[found["name"]] = found.get("value") or ""


def _confirmation(answer: requests.Response) -> str | None:
    """Where the form of a page of confirmation leads; None for other answers."""
    if answer.status_code != 200 or not answer.headers.get("Content-Type", "").startswith("text/html"):
        return None
    form = _Form()
    form.feed(answer.raw.read(PAGE, decode_content=True).decode(errors="replace"))
    if not form.action:
        return None
    return f"{urllib.parse.urljoin(answer.url, form.action)}?{urllib.parse.urlencode(form.fields)}"


def _refuse_bad_answer(url: str, answer: requests.Response, remedy: str) -> None:
    """Raise InputError for an answer that stays, _PassingError for one that may pass."""
    status = f"the server answers {answer.status_code} {answer.reason}"
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise _PassingError(status)
    if answer.status_code not in (200, 206, 416):
        raise InputError(f"{url}: {status}; look whether the address has moved, {remedy}")
    if answer.status_code == 416:
        return
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(
            f"{url}: the server answers with a web page instead of the file (a login, or too many downloads today);"
            f" open it in a browser, {remedy}"
        )
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise InputError(f"{url}: sent as {answer.headers['Content-Encoding']} though not asked for; {remedy}")


def _finish_or_restart(answer: requests.Response, part: _Part) -> None:
    """Nothing lies behind the part: it is whole, or it isn't of this file."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if total != str(part.size()):
        part.delete()
        raise _PassingError("the unfinished file is longer than the server's; starting again")


def _extent(answer: requests.Response, part: _Part, facts: dict) -> tuple[int, int | None]:
    """Where the answer's bytes begin, and the size of the whole file (None: the server doesn't say)."""
    if answer.status_code == 200:  # also where the server knows no Range, or its file has changed
        length = answer.headers.get("Content-Length")
        return 0, int(length) if length else None
    span, _, total = answer.headers.get("Content-Range", "").partition("/")
    if span.partition("-")[0] != f"bytes {part.size()}" or str(facts["total"] or total) != total:
        part.delete()
        raise _PassingError(f"the server sent {span or 'another part'} of {total or '?'}, not the rest; starting again")
    return part.size(), int(total) if total.isdigit() else None


def _validator(answer: requests.Response) -> str | None:
    """What says in a later If-Range that the server's file is still the same: a strong ETag, or the date."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
