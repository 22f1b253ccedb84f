"""Limits of a site: of a partition, of jobs at a time, of a job's own time and memory."""

import os
import signal

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]


def test_a_partition_with_less_time_is_refused(run, same):
    """A partition gives less time than a rule asks for."""
    each = run(shards=1, slurm_partition="short").start("--retries", "0")
    assert each.end(90) != 0
    assert not each.jobs("PENDING", "RUNNING") and not each.events("start")
    same.note(each, "slurm: .* can never start: .*", "nothing ran", "no results")


def test_two_minutes_are_enough(run, same):
    """The site gives two minutes; a shard takes longer."""
    each = run(shards=1, images=100, slurm_partition="short", runtime=2)
    each.start()
    assert each.end(400) == 0
    assert len(each.events("start")) >= 2
    assert "Trying to restart job" not in each.text()
    same(each, "", lost=0)


def test_more_jobs_than_a_user_may_submit(run, same):
    """Ten jobs where a user may submit three (MaxSubmitJobs)."""
    each = run(shards=10, images=2, slurm_account="few").start()
    assert each.end(240) == 0
    assert len(each.events("start")) == 10
    assert "Trying to restart job" not in each.text()
    same(each, r"(?i).*(MaxSubmitJobs|QOSMaxSubmit|AssocMaxSubmit|submit limit).*", lost=0)


def test_a_job_at_its_time_limit(cluster, run, same):
    """A job doesn't end before its time limit, and Slurm kills it."""
    each = run(shards=1, images=12, runtime=1).start()
    each.await_images(4)
    for process in cluster.processes("make_shard.py"):
        os.kill(process, signal.SIGSTOP)
    each.await_text("slurm: .* time limit", 150)
    assert each.end(150) == 0
    same(each, "slurm: .* time limit.*more time", lost=1)
