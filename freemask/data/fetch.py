"""Fetch archives and weights: resumed, checked by SHA-256, never half under their final name.

gdown downloads, also from Google Drive, and resumes; huggingface_hub fetches from its hub.
"""

import fnmatch
import os
import re
import shutil
import stat
import time
import zipfile
from pathlib import Path, PurePosixPath

import gdown
import requests
from gdown.exceptions import DownloadError, FileURLRetrievalError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import filter_repo_objects

from freemask import cli, files
from freemask.errors import InputError

ATTEMPTS = 5  # in a row without a new byte
PAUSE = 2  # seconds before the next attempt, doubled by each failure, at most 60
TIMEOUT = (20, 60)  # seconds to wait for a connection, and between bytes
SPARE = 1 << 28  # bytes of a disk that stay free
BLOCK = 4096  # bytes that a small file takes on a disk
HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
INDEX = "model_index.json"
PARTS = ("vae", "text_encoder", "unet", "controlnet", "tokenizer", "scheduler")
WEIGHTS = ("vae", "text_encoder", "unet")  # parts that must come with safetensors
PATTERNS = [f"{part}/*{suffix}" for part in PARTS for suffix in (".json", ".txt", ".safetensors")]
VARIANTS = ["*.fp16.*", "*.non_ema.*"]  # of the same weights


def fetch_file(url: str, path: Path, sha256: str | None = None, otherwise: str = "", reserve: float = 0.0) -> None:
    """Download a file, resuming what an earlier run left; a file that exists is checked and stays.

    Args:
        url: Address; may be a link to a file on Google Drive.
        path: Where the file goes.
        sha256: Digest of the file, or its first hex digits. Unless it is whole, the digest of the first download is
            recorded in <path>.sha256, and later downloads must agree with it.
        otherwise: What else a user can do, the end of messages.
        reserve: Free disk needed beside the file, in sizes of the file (1 for an archive that will be unpacked).
    Raises: InputError for a wrong address, disk or digest, or no network. The file isn't at its path then.
    """
    if path.exists():
        _check_digest(path, path, sha256, f"delete {path} to fetch it again")
        cli.tell(f"{path}: there already, SHA-256 agrees")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched = Path(f"{path}.fetched")  # whole, but not checked
    remedy = f"or fetch it elsewhere and save it as {path}{', ' if otherwise else ''}{otherwise}"
    if not fetched.exists():
        _download(url, fetched, reserve, remedy)
    try:
        _refuse_web_page(url, fetched, remedy)
        changed = f"{url} serves another file, or it was damaged on the way: run again, {remedy}"
        _check_digest(fetched, path, sha256, changed)
    except InputError:
        fetched.unlink()
        raise
    finally:
        _drop_part(fetched)
    os.replace(fetched, path)


def _download(url: str, target: Path, reserve: float, remedy: str) -> None:
    """Try again as long as new bytes come.

    Raises: InputError if an error is permanent, or after ATTEMPTS without a new byte.
    """
    failures, reached = 0, _received(target)
    while True:
        try:
            return _attempt(url, target, reserve)
        except FileURLRetrievalError as error:
            raise InputError(f"{url}: {' '.join(str(error).split())} Open it in a browser, {remedy}") from None
        except requests.HTTPError as error:
            status, reason = error.response.status_code, error.response.reason
            reason = f"the server answers {status} {reason}"
            if status not in (408, 429) and status < 500:
                raise InputError(f"{url}: {reason}; look whether the address has moved, {remedy}") from None
        except (DownloadError, requests.RequestException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error}); the next run resumes the download") from None
        failures = 0 if _received(target) > reached else failures + 1
        reached = max(reached, _received(target))
        if failures >= ATTEMPTS:
            raise InputError(
                f"{url}: {reason}; gave up after {failures} attempts without a new byte ({reached} bytes are kept). No"
                f" network, as on many compute nodes? Run this on a login node, {remedy}"
            )
        if failures == ATTEMPTS - 1 and "byte range" in reason:
            _drop_part(target)  # the server can't resume: the last attempt starts at the first byte
        pause = min(PAUSE * 2**failures, 60)
        cli.tell(f"{target.stem}: {reason}; trying again in {pause:g} s")
        time.sleep(pause)


def _attempt(url: str, target: Path, reserve: float) -> None:
    """Download to target, resuming its part if that is of the same file: same address, same size."""
    note = Path(f"{target}.json")  # what a part belongs to: url, and total [bytes] of the whole file
    before = files.read_json(note) if note.exists() else {}
    if before.get("url") != url:
        _drop_part(target)
        before = {}

    def show(done: int, total: int | None) -> None:
        if not bar.n:  # the first bytes of this attempt
            if before.get("total", total) != total:
                _drop_part(target)
                raise DownloadError("the server's file has another size now; starting again")
            if total:
                refuse_full_disk(target.parent, total - done + reserve * total, target.stem)
            files.write_json(note, {"url": url, "total": total})
            bar.total = total
        bar.update(done - bar.n)

    with cli.bar(target.stem, None, "B", scaled=True) as bar:
        gdown.download(url, str(target), quiet=True, use_cookies=False, resume=True, timeout=TIMEOUT, progress=show)


def _parts(target: Path) -> list[Path]:
    """Unfinished downloads as gdown names them: target, 8 characters, '.part'."""
    return [path for path in target.parent.glob("*.part") if path.name[:-13] == target.name]


def _received(target: Path) -> int:
    return sum(part.stat().st_size for part in _parts(target))


def _drop_part(target: Path) -> None:
    for path in (Path(f"{target}.json"), *_parts(target)):
        path.unlink(missing_ok=True)


def _refuse_web_page(url: str, file: Path, remedy: str) -> None:
    """Raise InputError for a page (of a login, of a limit) that was sent instead of the file."""
    with open(file, "rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        sent = "a web page instead of the file (a login, or too many downloads today)"
        raise InputError(f"{url}: the server answers with {sent}; open it in a browser, {remedy}")


def _check_digest(file: Path, path: Path, sha256: str | None, remedy: str) -> None:
    """Compare with the configured digest and, unless that is whole, with the one recorded at the first download."""
    found = files.check_sha256(file, sha256, f"the configuration says so; {remedy}")
    if sha256 and len(sha256) == len(found):
        return
    record = Path(f"{path}.sha256")
    if not record.exists():
        files.write_atomic(record, f"{found}  {path.name}\n".encode())  # the format of sha256sum --check
        cli.tell(f"{path}: SHA-256 {found}, recorded in {record.name}")
        return
    recorded = record.read_text().partition(" ")[0]
    if recorded != found:
        raise InputError(
            f"{path.name}: SHA-256 {found}, but the first download had {recorded} ({record}; delete that if the file"
            f" was renewed on purpose); {remedy}"
        )


def refuse_full_disk(folder: Path, needed: float, what: str) -> None:
    """Raise InputError unless the disk of a folder has `needed` bytes free, and some to spare."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        needs = f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there"
        raise InputError(f"{folder}: {what} {needs}; make room, or link the folder to a larger disk")


def unpack(archive: Path, destination: Path, folder: str = "") -> None:
    """Unpack a zip archive into a temporary folder beside destination, then rename that to destination.

    Args: destination: doesn't exist yet, or is empty; folder: unpack the content of this folder of the archive only.
    Raises: InputError for a damaged archive, a name that leads out of the folder, a link, or a full disk.
    """
    temporary = destination.parent / f".{destination.name}.unpacking"
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted run
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            for member in members:
                _refuse_unsafe(member, archive)
            inside = [member for member in members if PurePosixPath(member.filename).is_relative_to(folder)]
            chosen = [member for member in inside if not member.is_dir()]
            if not chosen:
                where = f" in its folder {folder}" if folder else ""
                raise InputError(f"{archive}: no files{where}; is it the right archive?")
            needed = sum(-(-member.file_size // BLOCK) * BLOCK for member in chosen)
            refuse_full_disk(destination.parent, needed, f"unpacking {archive.name}")
            for member in cli.progress(chosen, f"unpacking {archive.name}", "file"):
                zipped.extract(member, temporary)
        os.rename(temporary / folder, destination)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # the last: a password
        raise InputError(f"{archive}: cannot be unpacked ({error}); delete it and fetch it again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_unsafe(member: zipfile.ZipInfo, archive: Path) -> None:
    """Raise InputError for a link, or a name that leads out of the folder."""
    name = PurePosixPath(member.filename)
    link = stat.S_ISLNK(member.external_attr >> 16)
    if link or name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
        raise InputError(f"{archive}: member {member.filename!r} leads out of the archive's folder; don't trust it")


def fetch_folder(address: str, folder: Path) -> None:
    """Download a diffusers pipeline from the Hugging Face hub; files that exist and are whole stay.

    Weights are compared with the hub's SHA-256. model_index.json comes last: an interrupted download is no pipeline.

    Args: address: hf://owner/name@commit; folder: where the pipeline goes.
    Raises: InputError for an address of another form, no network, missing safetensors, or a wrong digest.
    """
    named = HUB.fullmatch(address)
    if not named:
        raise InputError(f"{address}: want hf://owner/name@ and the 40 hex digits of a commit, which never changes")
    repository, commit = named.groups()
    try:
        listed = HfApi().list_repo_tree(repository, recursive=True, revision=commit)
        digests = {entry.path: entry.lfs and entry.lfs.sha256 for entry in listed if isinstance(entry, RepoFile)}
        chosen = list(filter_repo_objects(digests, allow_patterns=PATTERNS, ignore_patterns=VARIANTS))
        lacking = [part for part in WEIGHTS if not fnmatch.filter(chosen, f"{part}/*.safetensors")]
        lacking += [] if INDEX in digests else [INDEX]
        if lacking:
            raise InputError(
                f"{address}: no safetensors of a diffusers pipeline there ({', '.join(lacking)}); look there"
            )
        (folder / INDEX).unlink(missing_ok=True)
        snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=chosen)
        for path in filter(digests.get, chosen):
            try:
                files.check_sha256(
                    folder / path, digests[path], "the hub says so, and it was damaged on the way: run again"
                )
            except InputError:
                (folder / path).unlink()
                raise
        snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=[INDEX])
    except InputError:
        raise
    except (OSError, ValueError, HTTPError) as error:  # the hub's own; httpx's, without a network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{address}: {reason}; finished files are kept. No network? Run this on a login node, or save the folder of"
            f" https://huggingface.co/{repository} as {folder}"
        ) from None
    cli.tell(f"{folder}: {len(chosen) + 1} files of {repository} at commit {commit}")
