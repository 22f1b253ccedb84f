"""Words for disks that are full, out of inodes, read-only, forbidden or failing."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from freemask import disks
from freemask.files import write_atomic

ROOT = Path(__file__).parents[2]
JOB = """
from freemask import cli
def job() -> None:
    "A job that says something."
    WHAT
    cli.tell("made")
cli.run(job)
"""


def failing(number: int):
    """A function that fails as a write does: without the name of a file."""

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def disk(monkeypatch):
    """A disk of 10 GiB and 1,000 inodes, some of them free."""
    made = SimpleNamespace(f_frsize=2**30, f_blocks=10, f_bavail=0, f_files=1000, f_favail=7)
    monkeypatch.setattr(disks.os, "statvfs", lambda path: made)
    return made


def words(path, number: int) -> str:
    """What a person reads after a file couldn't be written; nothing is left of the file."""
    with pytest.raises(OSError) as raised:
        write_atomic(path, failing(number))
    assert not list(path.parent.glob(".*"))
    return disks.trouble(raised.value)


def test_a_full_disk_says_path_free_space_and_remedy(tmp_path, disk):
    path = tmp_path / "weights.pth"
    assert words(path, errno.ENOSPC) == (
        f"{path}: No space left on device: 0.00 of 10.0 GiB are free there; make room, then run again"
    )
    disk.f_favail = 0
    assert "all 1,000 inodes are used, so no file can be added; delete files" in words(path, errno.ENOSPC)
    assert "your quota of bytes or of files is used up" in words(path, errno.EDQUOT)
    assert "look at the disk or its server" in words(path, errno.ESTALE)


def test_a_forbidden_folder_says_whose_it_is_and_what_to_set(tmp_path):
    tmp_path.chmod(0o755)
    said = words(tmp_path / "images" / "a.jpg", errno.EACCES)
    assert f"{tmp_path}/images/a.jpg: Permission denied" in said and "mode 755" in said
    assert "chmod -R g+rwX ." in said and "umask 002" in said


def test_libraries_that_wrap_the_error_are_understood(disk):
    try:
        try:
            failing(errno.ENOSPC)()
        except OSError as error:
            raise RuntimeError("can't save") from error
    except RuntimeError as error:
        assert "No space left" in disks.trouble(error)
    assert "No space left" in disks.trouble(ValueError("I/O error: No space left on device (os error 28)"))
    assert "No space left" in disks.trouble(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"))
    assert disks.trouble(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert disks.trouble(ValueError("1")) is None


@pytest.mark.parametrize(
    ("what", "log", "said"),
    [
        ("", "/dev/full", "error: /dev/full: No space left on device: "),
        (
            "raise OSError(5, 'Input/output error', 'images/a.jpg')",
            "job.log",
            "error: images/a.jpg: Input/output error; ",
        ),
    ],
    ids=["the log's disk", "a result's disk"],
)
def test_scripts_end_with_one_line(tmp_path, what, log, said):
    command = [sys.executable, "-c", JOB.replace("WHAT", what), "--log", log]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # the variable hides what is left
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and said in done.stderr
