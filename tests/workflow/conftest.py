"""One finished run of the tiny configuration, and copies of it to change."""

import shutil
from pathlib import Path

import pytest
import tiny_run


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Path:
    """The whole chain, run once without interruption. Look, don't touch."""
    folder = tiny_run.copy_repository(tmp_path_factory.mktemp("chain") / "clone")
    tiny_run.configure(folder)
    tiny_run.snakemake(folder, timeout=1800)
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
