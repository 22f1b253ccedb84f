"""A site without accounting: `sacct` has no answer."""

import pytest
from test_controller import outlast
from test_faults import cancel_two

pytestmark = [pytest.mark.slurm, pytest.mark.slurm_long]
CLUSTER = {"accounting": False}


def test_a_cancelled_job_without_accounting(cluster, run, same):
    """Without accounting: `scancel` of a running and of a pending job."""
    cancel_two(cluster, each := run())
    same(each, r"slurm: .* was cancelled", lost=1)


def test_no_controller_and_no_accounting(cluster, run, same):
    """Without accounting: the controller is away for 75 s while a job runs."""
    outlast(cluster, each := run(images=30), "slurmctld", 75)
    same(each, "slurm: Slurm doesn't answer .*", lost=0)
