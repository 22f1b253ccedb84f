"""The file by which the wrapper of a Slurm job knows that all outputs are written."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
from pathlib import Path
from freemask import cli
from freemask.errors import InputError

def script(*, output: Path, fail: bool = False):
    output.touch()
    if fail:
        raise InputError("no")

cli.run(script)
"""


@pytest.mark.parametrize(("options", "rank", "made"), [([], "0", True), (["--fail"], "0", False), ([], "1", False)])
def test_the_first_process_says_that_it_is_done(tmp_path, options, rank, made):
    environment = os.environ | {"FREEMASK_DONE": str(tmp_path / "done"), "RANK": rank}
    command = [sys.executable, "-c", SCRIPT, "--output", str(tmp_path / "out"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == (not options), done.stderr
    assert (tmp_path / "done").exists() == made
