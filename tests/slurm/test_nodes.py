"""Nodes that die, jobs that hang, disks that are full."""

import os
import signal

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]


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
    same(each, r"(?i).*(node|requeue).*", lost=2)


def test_a_job_that_hangs(cluster, run, same):
    """A job stands still (SIGSTOP)."""
    each = run(shards=1).start()
    each.await_images(3)
    for process in cluster.processes("make_shard.py"):
        os.kill(process, signal.SIGSTOP)
    assert each.end(300) == 0
    same(each, r"(?i).*(progress|hang|still).*", lost=1)


def test_a_log_that_cannot_be_written(run, same):
    """The disk that holds the logs is full."""
    each = run(shards=1)
    (each.folder / "logs/synthesize").mkdir(parents=True)
    (each.folder / "logs/synthesize/0.log").symlink_to("/dev/full")
    assert each.start("--retries", "0").end(90) != 0
    same.note(each, r"(?i).*no space left.*", "nothing ran", "no results")


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
