"""One finished run of the tiny configuration, and copies of it to change."""

import shutil
from pathlib import Path

import pytest
import tiny_run
from filelock import FileLock


@pytest.fixture(scope="session")
def chain(tmp_path_factory, worker_id) -> Path:
    """The whole chain, run once without interruption, by whichever test process needs it first. Look, don't touch."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent  # what all processes of this run share
    folder, done = base / "chain" / "clone", base / "chain" / "done"
    with FileLock(base / "chain.lock"):
        if not done.exists():
            tiny_run.copy_repository(folder)
            tiny_run.configure(folder)
            tiny_run.snakemake(folder, timeout=1800)
            done.touch()
    return folder


@pytest.fixture
def rerun(chain, tmp_path) -> Path:
    """A copy of the finished chain, times of change included; checkpoints are left out."""
    return shutil.copytree(chain, tmp_path / "clone", symlinks=True, ignore=shutil.ignore_patterns("iter_*.pth"))


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Path:
    """The repository with the tiny configuration, in which nothing was run."""
    folder = tiny_run.copy_repository(tmp_path_factory.mktemp("fresh") / "clone")
    tiny_run.configure(folder)
    return folder
