"""Jobs and Snakemake ended by a person, and requests that the cluster can't serve."""

import os
import signal

import pytest
from runs import SNAKEMAKE

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]


def test_a_requeued_job_goes_on(cluster, run, same):
    """An administrator requeues a running job (`scontrol requeue`)."""
    each = run().start()
    each.await_images(4)
    cluster.run(["scontrol", "requeue", each.jobs("RUNNING")[0]])
    assert each.end(120) == 0
    assert "Trying to restart job" not in each.text()
    same(each, "", lost=1)


def test_ctrl_c_cancels_all_jobs(run, same):
    """Ctrl-C (SIGINT), then the same command."""
    each = run().start()
    each.await_images(2)
    os.kill(each.process.pid, signal.SIGINT)
    assert each.end(30) != 0
    assert not each.jobs("PENDING", "RUNNING")
    assert each.start().end(90) == 0
    same(each, r"Terminating processes on user request.*", lost=2)


def test_sigterm_waits_for_jobs(run, same):
    """SIGTERM to Snakemake, as from a reboot of the login node, then the same command."""
    each = run().start()
    each.await_images(2)
    os.kill(each.process.pid, signal.SIGTERM)
    assert each.end(90) != 0
    assert len(each.events("end")) == 2
    assert each.start().end(60) == 0
    assert len(each.events("start")) == 2
    same(each, r"Will exit after finishing currently running jobs.*", lost=0)


def test_a_second_snakemake_is_refused(run, same):
    """A second Snakemake is started in the same folder."""
    each = run().start()
    each.await_images(1)
    each.change(hold=True)
    assert each.execute([*SNAKEMAKE, "--profile", "slurm", "all"], seconds=90) != 0
    each.change(hold=False)
    assert each.end(90) == 0
    assert len(each.events("start")) == 2
    same(each, r"Error: Directory cannot be locked\.", lost=0)


def test_a_job_killed_for_its_memory_says_so(run, same):
    """A job takes more memory than it asked for."""
    each = run(shards=1, mem_mb=300).start()
    each.change(megabytes=1500)
    each.await_text("exceeded memory limit", 90)
    each.change(megabytes=0)
    assert each.end(120) == 0
    same(each, r"slurm: .* needed more than its memory .*: raise mem_mb", lost=2)


def test_a_wrong_gpu_type_is_named(run, same):
    """The profile names a type of GPU that the cluster doesn't have."""
    each = run(shards=1)
    each.profile("v100", "a100")
    each.start()
    assert each.end(60) != 0
    assert not each.events("start")
    same.note(each, r"Slurm refuses .*\n.*", "nothing ran", "no results")
