"""Checks of a machine and its file system before a run; what would fail after hours is said within a minute.

Every check adds to Findings and goes on, so that one run shows all there is to mend.
"""

import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freemask import cli
from freemask.errors import InputError
from freemask.files import write_json
from freemask.parallel import some

SKEW = 2.0  # seconds between the clocks of a machine and of its file system that are worth a word
TEMPORARY = 2**30  # bytes in the folder of temporary files
SHARED_MEMORY = 2**30  # bytes in /dev/shm for the loading processes of one GPU training; containers give 64 MB


@dataclass
class Findings:
    """What the checks found: facts, warnings, and errors, each of which would fail a job."""

    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Errors, then warnings, a line each."""
        return [f"error: {line}" for line in self.errors] + [f"warning: {line}" for line in self.warnings]

    def write(self, result: Path, checked: str) -> str:
        """Write the findings to the JSON file `result` if there is no error.

        Returns: the message for people, which names what was `checked`.
        Raises: InputError that lists every error and warning.
        """
        host = socket.gethostname()
        if self.errors:
            raise InputError("\n  ".join([f"preflight of {checked} on {host} failed:", *self.lines()]))
        write_json(result, {"host": host, "warnings": self.warnings, **self.facts})
        return "\n  ".join([f"preflight of {checked} on {host}: ready", *self.lines()])


def versions(findings: Findings) -> None:
    """Note the versions that results depend on."""
    packages = ("torch", "diffusers", "transformers", "onedl-mmcv", "onedl-mmsegmentation")
    findings.facts |= {"python": platform.python_version(), **cli.versions(packages)}


def same_versions(findings: Findings, submitting: dict[str, Any]) -> None:
    """Compare Python's minor version, and those packages that both machines have, with the submitting machine's."""
    here, there = findings.facts, submitting
    for name in sorted(here.keys() & there.keys() - {"host", "warnings", "files"}):
        cut = 2 if name == "python" else None
        if here[name].split(".")[:cut] != there[name].split(".")[:cut]:
            findings.warnings.append(
                f"{name} {here[name]} here, {there[name]} on {there['host']}: jobs of one run get different software; "
                "use the environments (--software-deployment-method conda), or one environment on a shared file system"
            )


def note_files(findings: Findings, paths: Iterable[Path]) -> None:
    """Note the files and folders that jobs read and that are there, with their sizes, for the nodes to compare."""
    found = findings.facts["files"] = {}
    for path in paths:
        if trouble := _unreadable(path):
            findings.errors.append(f"{path}: {trouble}")
        else:
            found[str(path)] = path.stat().st_size if path.is_file() else None


def same_files(findings: Findings, submitting: dict[str, Any]) -> None:
    """Check that this machine sees and can read what the submitting machine has noted."""
    here, there = socket.gethostname(), submitting["host"]
    for name, size in submitting["files"].items():
        path = Path(name)
        if trouble := _unreadable(path):
            findings.errors.append(
                f"{path}: {trouble} on {here}, but {there} reads it; put it on a file system that all nodes mount, "
                "links and their targets alike"
            )
        elif size is not None and path.stat().st_size != size:
            findings.errors.append(
                f"{path}: {path.stat().st_size:,} bytes on {here}, {size:,} on {there}: not the same file; is it on a "
                "disk of the node?"
            )


def _unreadable(path: Path) -> str:
    """Why a file, or a folder and its first file, can't be read; empty if they can."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                first = next(entries, None)
            if first is None:
                return "an empty folder"
            return _unreadable(Path(first.path)) if first.is_file() else ""
        with open(path, "rb") as file:
            return "" if file.read(1) else "an empty file"
    except OSError as error:
        return error.strerror or str(error)


def writable(findings: Findings, folder: Path) -> bool:
    """Check that files can be made in a folder, and that its clock agrees with this machine's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = time.time()
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".preflight-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            changed = os.stat(file.name).st_mtime
        after = time.time()
    except OSError as error:
        findings.errors.append(
            f"{folder}: can't be written ({error.strerror}); jobs write there: check owner, permissions, quota and disk"
        )
        return False
    skew = changed - after if changed > after else min(changed - before, 0.0)
    findings.facts["clock_skew_seconds"] = round(skew, 1)
    if abs(skew) > SKEW:
        findings.warnings.append(
            f"{folder}: its file system's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this "
            "machine's; times of change decide what is out of date, so jobs may run twice or not at all: ask the "
            "administrators to set the clocks (chrony, ntp)"
        )
    return True


def room(findings: Findings, folder: Path, size: float, files: float, what: str) -> None:
    """Check free space and free inodes of a folder's file system.

    Args: size: bytes needed; files: files needed; what: what needs them.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    findings.facts |= {"free_bytes": free, "needed_bytes": round(size), "needed_files": round(files)}
    if free < size:
        findings.errors.append(
            f"{folder}: {free / 1e9:,.1f} GB free, {what} needs about {size / 1e9:,.1f} GB; free some, or link "
            "results/ to a larger file system"
        )
    if found.f_files:  # 0: this file system doesn't count them
        findings.facts["free_files"] = found.f_favail
        if found.f_favail < files:
            findings.errors.append(
                f"{folder}: {found.f_favail:,} inodes free, {what} makes about {files:,.0f} files; link results/ to a "
                "file system that holds more files, or plan fewer images (n_max)"
            )


def local_room(findings: Findings, shared: bool) -> None:
    """Warn of a small folder for temporary files; with `shared` also of little shared memory (/dev/shm)."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < TEMPORARY:
        findings.warnings.append(
            f"{folder}: {free / 1e6:,.0f} MB free for temporary files; set TMPDIR to a folder with more than "
            f"{TEMPORARY / 1e9:.0f} GB"
        )
    memory = Path("/dev/shm")
    if shared and memory.is_dir() and (free := shutil.disk_usage(memory).free) < SHARED_MEMORY:
        findings.warnings.append(
            f'{memory}: {free / 1e6:,.0f} MB of shared memory free; data loaders end with "Bus error" if it runs out: '
            "give a container more (--shm-size 16g), or let less stand in /dev/shm"
        )


def downloads(findings: Findings, addresses: list[str]) -> None:
    """Say what a run fetches by itself, and how to do without."""
    if addresses:
        findings.warnings.append(
            f"{len(addresses)} files of weights aren't there and will be fetched by this machine, which needs a "
            f"network for it: {some(addresses)}; `snakemake --cores 1 fetch_weights` fetches them now. Nodes need no "
            "network"
        )


def count_rows(table: Path) -> int:
    """Number of rows of a table; 0 where there is none."""
    if not table.is_file():
        return 0
    with open(table, "rb") as file:
        return max(sum(1 for _ in file) - 1, 0)


def missing_images(folder: Path, masks: int, plans: dict[str, dict]) -> int:
    """Images that synthesis has yet to make. Plans of one generator share images; the largest counts.

    Args: folder: results/<dataset>; masks: number of training masks; plans: settings, by synthesis/<generator>/<plan>.
    """
    from freemask.selection.estimates import images_of  # not needed on nodes

    largest: dict[str, int] = {}
    for name, plan in plans.items():
        planned = count_rows(folder / "plans" / f"{Path(name).name}.tsv") or images_of(plan, masks)
        made = sum(count_rows(shard) for shard in (folder / name).glob("*.tsv"))
        generator = str(Path(name).parent)
        largest[generator] = max(largest.get(generator, 0), planned - made)
    return sum(largest.values())
