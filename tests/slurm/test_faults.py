"""The faults that every lab meets; `make test` runs this file where Slurm's packages are installed."""

import pytest
from runs import SNAKEMAKE

pytestmark = pytest.mark.slurm


def cancel_two(cluster, each):
    """Cancel a running and a pending job of a run, which then ends well."""
    blocker = cluster.sleep(600, "--gpus=v100:15", "--ntasks=15")
    each.start()
    running, pending = *each.await_jobs("RUNNING"), *each.await_jobs("PENDING")
    each.await_images(2)
    cluster.run(["scancel", running, pending, blocker])
    assert each.end(120) == 0


def test_a_cancelled_job_is_submitted_again(cluster, run, same):
    """`scancel` of a running and of a pending job."""
    cancel_two(cluster, each := run())
    same(each, r"slurm: .* was cancelled", lost=1)


def test_a_preempted_job_goes_on(cluster, run, same):
    """A job of a higher partition takes the GPU (preemption)."""
    each = run().start()
    each.await_images(4)
    urgent = cluster.sleep(3, "--partition=urgent", "--nodes=2", "--gpus-per-node=v100:8")
    assert each.end(120) == 0
    assert "COMPLETED" in cluster.run(["sacct", "-X", "-n", "-j", urgent, "-o", "state"])
    assert "Trying to restart job" not in each.text()
    same(each, "", lost=2)


def test_jobs_survive_a_killed_snakemake(run, same):
    """Snakemake is killed (SIGKILL), then `--unlock` and the same command."""
    each = run().start()
    each.await_images(4)
    each.change(hold=True)
    each.kill()
    assert each.execute([*SNAKEMAKE, "--unlock"], seconds=60) == 0
    each.start().await_text("an earlier run makes 'synthesize shard-1'")
    each.change(hold=False)
    assert each.end(120) == 0
    assert len(each.events("start")) == 2
    same(each, "slurm: .* of an earlier run makes .*", lost=0)
