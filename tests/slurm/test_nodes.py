"""Nodes that die, jobs that hang, disks that are full."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]


def is_python(process: int) -> bool:
    return Path(f"/proc/{process}/cmdline").read_bytes().startswith(sys.executable.encode())


@pytest.fixture
def small_disk():
    """Mount a file system of some kilobytes on a folder, or change its size (`remount,1m`)."""
    mounted = []

    def mount(folder, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        *remount, size = size.split(",")
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*remount, f"size={size}"]), "tmpfs", folder]
        subprocess.run(command, check=True, timeout=10)
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


def test_a_dead_node(cluster, run, same):
    """A node dies with its jobs."""
    each = run().start()
    each.await_images(4)
    node = cluster.run(["squeue", "-h", "-t", "R", "-o", "%N"]).split()[0]
    cluster.crash(node)
    try:
        assert each.end(300) == 0
    finally:
        cluster.start(f"slurmd-{node}")
    assert "Trying to restart job" not in each.text()
    same(each, "", lost=2)


def test_a_job_that_hangs(cluster, run, same):
    """A job stands still (SIGSTOP)."""
    each = run(shards=1)
    each.change(watchdog=0.2)
    each.start()
    each.await_images(3)
    # not its watchdog, a child of the script, nor the shell that started it
    script = next(process for process in cluster.processes("make_shard.py") if is_python(process))
    os.kill(script, signal.SIGSTOP)
    assert each.end(120) == 0
    same(each, "error: make_shard.py hangs: no image, batch or iteration for .* minutes", lost=1)


def test_a_full_disk(run, same, small_disk):
    """The disk of the images is full; after some were deleted, the same command."""
    each = run(shards=1)
    small_disk(each.folder / "images", "16k")
    assert each.start().end(120) != 0
    small_disk(each.folder / "images", "remount,1m")
    assert each.start().end(60) == 0
    same(each, r".*No space left on device.*", lost=9)


def test_logs_that_cannot_be_written(run, same, small_disk):
    """The disk of the logs is full."""
    each = run(shards=1)
    small_disk(each.folder / "logs/synthesize", "4k")
    (each.folder / "logs/synthesize/full").write_bytes(bytes(4096))
    assert each.start("--retries", "0").end(90) != 0
    same.note(each, "error: .*No space left on device.*", "nothing ran", "no results")


def test_a_damaged_image_is_made_again(cluster, run, same):
    """An image is cut while its job is queued again."""
    each = run(shards=1).start()
    each.await_images(4)
    cluster.run(["scontrol", "requeuehold", each.jobs("RUNNING")[0]])
    image, *_ = sorted(each.folder.glob("images/*/*.jpg"))
    image.write_bytes(b"")
    cluster.run(["scontrol", "release", each.jobs()[0]])
    assert each.end(120) == 0
    same(each, "", lost=2)
