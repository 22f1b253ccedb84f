"""Folders of the Hugging Face hub, `hf://owner/name@<commit>`: weights and configs, whole or not at all.

huggingface_hub resumes and keeps what is whole; the large files are compared with the hub's SHA-256 here. The folder's
model_index.json comes last, so that an interrupted download isn't taken for a pipeline.
"""

import re
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.hf_api import RepoFile

from freemask import cli
from freemask import files
from freemask.errors import InputError

ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
WANTED = ("vae/*", "text_encoder/*", "unet/*", "controlnet/*", "tokenizer/*", "scheduler/*")
KINDS = (".json", ".txt", ".safetensors")
OTHERS = ("*.fp16.*", "*.non_ema.*")  # variants of the same weights
INDEX = "model_index.json"


def fetch_folder(address: str, folder: Path) -> None:
    """Download a diffusers pipeline's folder at one commit; files that are there and whole are kept.

    Raises: InputError for an address of another form, no answer, a network without safetensors, or a wrong digest.
    """
    named = ADDRESS.fullmatch(address)
    if not named:
        raise InputError(f"{address}: want hf://owner/name@ and the 40 hex digits of a commit, which never changes")
    repository, commit = named.groups()
    try:
        listed = HfApi().list_repo_tree(repository, recursive=True, revision=commit)
        digests = {entry.path: entry.lfs and entry.lfs.sha256 for entry in listed if isinstance(entry, RepoFile)}
        chosen = [path for path in digests if _wanted(path)]
        _refuse_incomplete(address, [*chosen, *([INDEX] if INDEX in digests else [])])
        (folder / INDEX).unlink(missing_ok=True)
        snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=chosen)
        for path in chosen:
            _check(folder / path, digests[path])
        snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=[INDEX])
    except InputError:
        raise
    except (OSError, ValueError, HTTPError) as error:  # the hub's own; httpx's, where there is no network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{address}: {reason}; what has come is kept. No network? Run this on a login node, or save the folder of "
            f"https://huggingface.co/{repository} as {folder}"
        ) from None
    cli.tell(f"{folder}: {len(chosen) + 1} files of {repository} at commit {commit}")


def _wanted(path: str) -> bool:
    """Whether a file is a part of a pipeline that we load: no safety checker, no second copy of the weights."""
    of_a_part = any(fnmatch(path, part) for part in WANTED) and path.endswith(KINDS)
    return of_a_part and not any(fnmatch(path, other) for other in OTHERS)


def _refuse_incomplete(address: str, paths: list[str]) -> None:
    lacking = [part for part in ("vae", "text_encoder", "unet") if not any(
        path.startswith(f"{part}/") and path.endswith(".safetensors") for path in paths
    )]  # fmt: skip
    lacking += [] if INDEX in paths else [INDEX]
    if lacking:
        raise InputError(f"{address}: no safetensors of a diffusers pipeline there ({', '.join(lacking)}); look there")


def _check(path: Path, digest: str | None) -> None:
    """Compare a large file with the hub's SHA-256; a wrong one is deleted."""
    if digest and files.sha256(path) != digest:
        path.unlink()
        raise InputError(f"{path}: SHA-256 isn't the hub's {digest}; it was damaged on the way: run again")
