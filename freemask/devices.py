"""GPUs for the jobs of a workstation: each job takes free ones before torch is imported and sees no others.

Snakemake counts GPUs (`--resources gpu=4`) but doesn't say which one a job gets. A job locks free ones with flock, sets
CUDA_VISIBLE_DEVICES, and holds the locks until its process ends, however it ends. Jobs of several processes start
through `python -m freemask.devices --gpus 4 -- torchrun ...` and share the locks.
"""

import argparse
import fcntl
import logging
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freemask.errors import InputError

logger = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
NAMED = "FREEMASK_DEVICES"  # set by the user: devices to share among jobs, "0,1,3"; empty: none
HELD = "FREEMASK_HELD_DEVICES"  # set by take: devices that a parent process holds
RANK = "LOCAL_RANK"  # set by torchrun in each of its processes, which divide the visible devices themselves
PAUSE = 0.2  # seconds between attempts while devices are in use
_locks: list[int] = []  # open file descriptors, one per lock of this process


def take(count: int, tell: Callable[[str], Any] = lambda message: sys.stderr.write(f"{message}\n")) -> list[str]:
    """Take free devices for this process, waiting until enough are free; CUDA sees only these.

    Call it before importing torch. Takes nothing on a machine without GPUs, and where the devices are chosen already:
    by Slurm, by a parent process, or by the user (CUDA_VISIBLE_DEVICES names exactly `count` devices, or none).

    Args: tell: prints the message that this process waits.
    Returns: the devices as CUDA_VISIBLE_DEVICES names them; [] where nothing was taken.
    Raises: InputError where the machine has fewer devices.
    """
    if HELD in os.environ:
        _share(os.environ[HELD].split(","))
        return []
    devices = to_share_out()
    chosen = VISIBLE in os.environ and NAMED not in os.environ and len(devices) == count
    if count == 0 or not devices or chosen:
        return []
    if len(devices) < count:
        raise InputError(
            f"{count} GPUs requested, {len(devices)} there ({', '.join(devices)}); request fewer (training_gpus), or "
            f"name more in {VISIBLE}"
        )
    taken = _wait_for(devices, count, tell)
    os.environ[VISIBLE] = os.environ[HELD] = ",".join(taken)
    logger.info("GPU %s of %s", ",".join(taken), ",".join(devices))
    return taken


def to_share_out() -> list[str]:
    """Devices that this process may take from: FREEMASK_DEVICES, else CUDA_VISIBLE_DEVICES, else all of the machine.

    Empty in a torchrun rank or a Slurm job without a device list.
    """
    if RANK in os.environ or ("SLURM_JOB_ID" in os.environ and VISIBLE not in os.environ):
        return []
    named = os.environ.get(NAMED, os.environ.get(VISIBLE))
    if named is None:
        return _machine()
    listed = [name.strip() for name in named.split(",") if name.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # as CUDA reads it


def _machine() -> list[str]:
    """Numbers of the machine's GPUs, from nvidia-smi; [] where it isn't installed or finds none."""
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in found.splitlines()))]


def _wait_for(devices: list[str], count: int, tell: Callable[[str], Any]) -> list[str]:
    """Lock `count` of the devices.

    The lock "queue" lets one job at a time take devices, so two jobs that need several never hold a part each.
    """
    folder = _locks_folder()
    queue, told, taken = _open(folder, "queue"), False, {}
    while True:
        if _lock(queue):  # stays locked once it is
            for device in [device for device in devices if device not in taken]:
                if len(taken) < count and (descriptor := _lock_free(folder, device)) is not None:
                    taken[device] = descriptor
        if len(taken) == count:
            break
        if not told:
            tell(f"waiting for {count} free GPU{'s'[: count > 1]} of {', '.join(devices)}")
            told = True
        time.sleep(PAUSE)
    os.close(queue)
    _locks.extend(taken.values())
    return [device for device in devices if device in taken]


def _lock_free(folder: Path, device: str) -> int | None:
    """Lock a device that no process holds: exclusively at first, then shared, so that child processes can join."""
    descriptor = _open(folder, f"gpu-{device}")
    if not _lock(descriptor):
        os.close(descriptor)
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # not atomic, but only the holder of "queue" takes devices
    return descriptor


def _share(devices: list[str]) -> None:
    """Join the locks of devices that a parent process took: they stay taken until this process has ended too."""
    folder = _locks_folder()
    for device in devices:
        _locks.append(_open(folder, f"gpu-{device}"))
        fcntl.flock(_locks[-1], fcntl.LOCK_SH)


def _lock(descriptor: int) -> bool:
    """Lock a file exclusively; False where another process has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(folder: Path, name: str) -> int:
    return os.open(folder / re.sub(r"[^\w-]", "_", name), os.O_RDWR | os.O_CREAT, 0o600)


def _locks_folder() -> Path:
    """The folder of lock files: one per user and Slurm job, since each job numbers its devices from 0.

    It is locked as well, since systemd-tmpfiles removes old files from unlocked folders.
    Raises: InputError where another user made it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    folder = Path(tempfile.gettempdir(), f"freemask-gpus-{os.getuid()}" + (f"-{job}" if job else ""))
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise InputError(f"{folder}: belongs to someone else, so GPUs can't be locked there; set TMPDIR to your own")
    _locks.append(os.open(folder, os.O_RDONLY))
    fcntl.flock(_locks[-1], fcntl.LOCK_SH)
    return folder


def _forget_locks() -> None:
    """Close the locks in a forked process (a data loader), which must not hold the GPU of a killed job."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_forget_locks)


def main(gpus: int, command: list[str]) -> None:
    """Take GPUs, then become the command, which holds them until it ends."""
    take(gpus)
    for descriptor in _locks:
        os.set_inheritable(descriptor, True)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise InputError(f"{command[0]}: can't be started ({error}); check the command after --") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m freemask.devices", description=__doc__)
    parser.add_argument("--gpus", type=int, required=True, help="how many")
    parser.add_argument("command", nargs="+", help="what to run with them, after --")
    try:
        main(**vars(parser.parse_args()))
    except InputError as error:
        sys.exit(f"error: {error}")
