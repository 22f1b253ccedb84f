"""A working directory that several people use."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_run import environment

from freemask.errors import InputError
from freemask.workflow import sharing
from rules import ROOT

SNAKEFILE = """
from freemask.workflow import sharing

sharing.keep_other_locks()

rule cost:
    shell: "ls .snakemake/locks"

rule made:
    output: "made"
    shell: "ls .snakemake/locks > {output}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder after a run. Tests may run as root, who may write all: what others may not stands in `denied`."""
    for name in (".snakemake/iocache", ".snakemake/locks", "results/toy/plans", "logs/toy/synthesize"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".snakemake/iocache/latest.pkl").touch()
    (tmp_path / "results/toy/masks.tsv").touch(0o444)  # replaced, never written again
    denied: set[Path] = set()
    monkeypatch.setattr(sharing.os, "access", lambda path, how: how == os.W_OK and path not in denied)
    return SimpleNamespace(path=tmp_path, denied=denied)


def test_an_own_folder_and_an_empty_one_are_accepted(folder, tmp_path_factory):
    sharing.refuse_unwritable(folder.path)
    sharing.refuse_unwritable(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    "name", [".", ".snakemake", ".snakemake/iocache/latest.pkl", "results/toy", "logs/toy/synthesize"]
)
def test_what_another_user_made_is_named_with_what_to_set(folder, name):
    folder.denied.add(folder.path / name)
    with pytest.raises(InputError) as raised:
        sharing.refuse_unwritable(folder.path)
    said = str(raised.value)
    assert f"{folder.path / name}: {os.strerror(errno.EACCES)}" in said
    assert "chmod -R g+rwX ." in said and "umask 002" in said


def test_a_read_only_disk_is_called_that(folder, monkeypatch):
    folder.denied.add(folder.path / "logs")
    monkeypatch.setattr(sharing.os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(InputError, match=r"logs: Read-only file system; look at the disk"):
        sharing.refuse_unwritable(folder.path)


@pytest.mark.parametrize(
    ("mode", "umask", "warned"), [(0o2775, 0o022, True), (0o2775, 0o002, False), (0o755, 0o022, False)]
)
def test_a_shared_folder_wants_a_umask_that_shares(tmp_path, mode, umask, warned):
    tmp_path.chmod(mode)
    before = os.umask(umask)
    try:
        assert ("set `umask 002` first" in sharing.unshared(tmp_path)) == warned
    finally:
        os.umask(before)


def test_a_run_that_ends_keeps_the_lock_of_another(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    other = tmp_path / ".snakemake/locks/0.output.lock"
    other.parent.mkdir(parents=True)
    other.write_text("other\n")

    def snakemake(*arguments):
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment(ROOT), check=True, capture_output=True)
        return [path.name for path in other.parent.glob("*")]

    assert snakemake("cost") == snakemake("made") == [other.name]
    assert "1.output.lock" in (tmp_path / "made").read_text()
    assert snakemake("--unlock") == []
