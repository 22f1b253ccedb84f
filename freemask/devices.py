"""A GPU of its own for every job of a workstation: taken before torch is imported, given back when the job ends.

Snakemake counts GPUs (`--resources gpu=4`) but doesn't say which one a job gets. Here a job takes a free one by a lock
that the kernel releases when the process dies, however it dies, and sees no other (CUDA_VISIBLE_DEVICES).

Jobs of several processes are started through `python -m freemask.devices --gpus 4 -- torchrun ...`.
"""

import argparse
import fcntl
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from freemask.errors import InputError

logger = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
NAMED = "FREEMASK_DEVICES"  # set by people: the devices to share out, "0,1,3"; empty: none
HELD = "FREEMASK_HELD_DEVICES"  # set here: what a process above this one has taken
RANK = "LOCAL_RANK"  # one of torchrun's processes, which share out the visible devices themselves
PAUSE = 0.2  # seconds between looks at devices that are all in use
_locks: list[int] = []  # file descriptors; open as long as this process lives


def take(count: int) -> list[str]:
    """Take free devices for this process, waiting until there are so many; only they are visible to CUDA then.

    Nothing is done where the devices were chosen before: by Slurm, by the user (CUDA_VISIBLE_DEVICES names exactly as
    many, or none), or by a process above this one; nor on a machine without GPUs. Call it before importing torch.

    Returns: the devices, as CUDA_VISIBLE_DEVICES names them; [] where nothing was done.
    Raises: InputError where there are fewer devices than wanted.
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
            f"{count} GPUs wanted, {len(devices)} there ({', '.join(devices)}); ask for fewer (training_gpus), or name "
            f"more in {VISIBLE}"
        )
    taken = _wait_for(devices, count)
    os.environ[VISIBLE] = os.environ[HELD] = ",".join(taken)
    logger.info("GPU %s of %s", ",".join(taken), ",".join(devices))
    return taken


def to_share_out() -> list[str]:
    """Devices that this process may choose from: FREEMASK_DEVICES, else CUDA_VISIBLE_DEVICES, else all of the machine.

    None in a rank of a training, or in a Slurm job that has no list: there it isn't ours to choose.
    """
    if RANK in os.environ or ("SLURM_JOB_ID" in os.environ and VISIBLE not in os.environ):
        return []
    named = os.environ.get(NAMED, os.environ.get(VISIBLE))
    if named is None:
        return _machine()
    listed = [name.strip() for name in named.split(",") if name.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # as CUDA reads it


def _machine() -> list[str]:
    """The machine's GPUs by number, as nvidia-smi lists them; [] where it isn't installed or finds none."""
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in found.splitlines()))]


def _wait_for(devices: list[str], count: int) -> list[str]:
    """Take so many of the devices; who waits first is served first.

    Only the head of the queue looks at devices, so that two jobs which want several never hold a part each.
    """
    from freemask.cli import tell

    folder = _folder()
    _locks.append(_guard(folder))
    queue = _open(folder / "queue")
    taken: dict[str, int] = {}
    message = f"waiting for {count} free GPU{'s'[: count > 1]} of {', '.join(devices)}"
    if not _lock(queue, wait=False):
        tell(message)
        message = ""
        _lock(queue)
    while True:
        for device in devices:
            if device not in taken and len(taken) < count:
                descriptor = _free(folder / f"gpu-{_file_name(device)}")
                if descriptor is not None:
                    taken[device] = descriptor
        if len(taken) == count:
            break
        if message:
            tell(message)
            message = ""
        time.sleep(PAUSE)
    _locks.extend(taken.values())
    os.close(queue)  # the next one looks
    return [device for device in devices if device in taken]


def _free(path: Path) -> int | None:
    """The lock of a device if nobody has it: taken alone, then turned into one that our own processes can join.

    Turning isn't atomic, but only the head of the queue takes devices.
    """
    descriptor = _open(path)
    if not _lock(descriptor, wait=False):
        os.close(descriptor)
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _share(devices: list[str]) -> None:
    """Join the lock of devices that a process above took: they aren't free before this process has ended too."""
    folder = _folder()
    _locks.append(_guard(folder))
    for device in devices:
        descriptor = _open(folder / f"gpu-{_file_name(device)}")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _locks.append(descriptor)


def _lock(descriptor: int, wait: bool = True) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _guard(folder: Path) -> int:
    """Lock the folder beside others: what cleans up old temporary files (systemd-tmpfiles) leaves it alone then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _file_name(device: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in device)


def _folder() -> Path:
    """The folder of the locks, one per user; one per Slurm job too, in which device 0 may be another than outside.

    Raises: InputError where someone else made it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    folder = Path(tempfile.gettempdir(), f"freemask-gpus-{os.getuid()}" + (f"-{job}" if job else ""))
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise InputError(f"{folder}: belongs to someone else, so GPUs can't be locked there; set TMPDIR to your own")
    return folder


def _forget_locks() -> None:
    """A forked process (a data loader) must not keep the GPU of a job that was killed."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_forget_locks)


def main(arguments: argparse.Namespace) -> None:
    """Take GPUs, then become the command, which holds them until it ends."""
    take(arguments.gpus)
    for descriptor in _locks:
        os.set_inheritable(descriptor, True)
    try:
        os.execvp(arguments.command[0], arguments.command)
    except OSError as error:
        raise InputError(f"{arguments.command[0]}: can't be started ({error}); check the command after --") from error


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m freemask.devices", description=__doc__)
    parser.add_argument("--gpus", type=int, required=True, help="how many")
    parser.add_argument("command", nargs="+", help="what to run with them, after --")
    return parser


if __name__ == "__main__":
    try:
        main(options().parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")
