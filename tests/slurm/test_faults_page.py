"""docs/faults.md: its rows are those of the tests."""

import faults_page


def test_every_fault_has_a_row():
    assert faults_page.listed() == faults_page.tests()


def test_rows_hold_no_number_of_a_job():
    assert faults_page.plain("Slurm job 12 (synthesize shard-3) on gpu2 | it") == (
        "`Slurm job N (synthesize shard-N) on gpuN \\| it`"
    )
