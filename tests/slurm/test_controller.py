"""Slurm's own daemons away, while jobs are submitted and while they run."""

import time

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]


def away(cluster, name: str, seconds: int) -> None:
    """Take a daemon away for some seconds."""
    cluster.stop(name)
    time.sleep(seconds)
    cluster.start(name)


def test_submitting_without_a_controller(cluster, run, same):
    """The controller is away for 75 s while jobs are submitted."""
    each = run()
    cluster.stop("slurmctld")
    each.start()
    time.sleep(75)
    assert each.process.poll() is None, each.text()
    cluster.start("slurmctld")
    assert each.end(180) == 0
    assert "Trying to restart job" not in each.text()
    same(each, "slurm: Slurm doesn't answer .*", lost=0)


def outlast(cluster, each, daemon, seconds):
    """Stop a daemon for some seconds while a job runs; the run then ends well, each job started once."""
    each.start().await_images(6)
    away(cluster, daemon, seconds)
    assert each.end(180) == 0
    assert len(each.events("start")) == 2


def test_jobs_run_without_a_controller(cluster, run, same):
    """The controller is away for 75 s while a job runs."""
    outlast(cluster, each := run(images=30), "slurmctld", 75)
    same(each, "slurm: Slurm doesn't answer .*", lost=0)


def test_jobs_run_without_accounting_for_a_while(cluster, run, same):
    """The accounting daemon (slurmdbd) is away for 60 s while a job runs."""
    outlast(cluster, each := run(images=20), "slurmdbd", 60)
    same(each, "", lost=0)
