"""A site without accounting: `sacct` has no answer."""

import pytest
from test_controller import away

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]
CLUSTER = {"accounting": False}


def test_a_cancelled_job_without_accounting(cluster, run, same):
    """Without accounting: `scancel` of a running and of a pending job."""
    each = run()
    blocker = cluster.sleep(600, "--gpus=v100:15", "--ntasks=15")
    each.start()
    running, pending = *each.await_jobs("RUNNING"), *each.await_jobs("PENDING")
    each.await_images(2)
    cluster.run(["scancel", running, pending, blocker])
    assert each.end(120) == 0
    same(each, r"slurm: .* was cancelled", lost=1)


def test_no_controller_and_no_accounting(cluster, run, same):
    """Without accounting: the controller is away for 75 s while a job runs."""
    each = run(images=30).start()
    each.await_images(6)
    away(cluster, "slurmctld", 75)
    assert each.end(180) == 0
    assert len(each.events("start")) == 2
    same(each, "slurm: Slurm doesn't answer .*", lost=0)
