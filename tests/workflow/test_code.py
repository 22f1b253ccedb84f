"""The code that a result depends on: found through imports, and blind to comments."""

import shutil
import sys

import pytest
import tiny_run

from freemask.workflow import code, places

LABELS = """'''Labels.'''
from freemask import files


def read():
    '''Read.'''
    return 1
"""
WORK = """
def work():
    from freemask.data.labels import read

    return read(), "freemask.named:rule"
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of two modules and a script."""
    for name, text in {
        "freemask/__init__.py": "",
        "freemask/data/__init__.py": "",
        "freemask/data/labels.py": LABELS,
        "freemask/files.py": "SIZE = 1\n",
        "freemask/alone.py": "SIZE = 1\n",
        "freemask/named.py": "def rule(): ...\n",
        "scripts/work.py": WORK,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    """Read files again."""
    code._read.cache_clear()
    code.code_digest.cache_clear()


def digest() -> str:
    forget()
    return code.code_digest("work")


def test_imports_are_followed_into_functions_modules_and_named_objects(checkout):
    found = {str(path.relative_to(checkout)) for path in code.code_files("work")}
    assert found == {"scripts/work.py", "freemask/__init__.py", "freemask/data/__init__.py", "freemask/data/labels.py",
                     "freemask/files.py", "freemask/named.py"}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "before", "after", "changes"),
    [
        ("freemask/files.py", "SIZE = 1", "SIZE = 2", True),
        ("freemask/named.py", "...", "return 1", True),
        ("freemask/alone.py", "SIZE = 1", "SIZE = 2", False),
        ("freemask/files.py", "SIZE = 1", "SIZE  =  1  # a comment", False),
        ("freemask/data/labels.py", "'''Read.'''", "'''Read the labels.'''", False),
    ],
)
def test_what_changes_the_digest(checkout, file, before, after, changes):
    first = digest()
    path = checkout / file
    path.write_text(path.read_text().replace(before, after))
    assert (digest() != first) == changes


def test_code_from_outside_counts(checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "outside_strategy.py").write_text("def spread(): return 1\n")
    first = code.code_digest("work", "hardness", "outside_strategy:spread")
    assert first != code.code_digest("work", "hardness")
    (tmp_path / "outside_strategy.py").write_text("def spread(): return 2\n")
    forget()
    assert code.code_digest("work", "hardness", "outside_strategy:spread") != first


def test_the_users_files_come_first(tmp_path):
    assert places.place("config/models.yaml", tmp_path) == places.ROOT / "config/models.yaml"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/models.yaml").touch()
    assert places.place("config/models.yaml", tmp_path) == tmp_path / "config/models.yaml"
    assert places.place("config/none.yaml", tmp_path) == tmp_path / "config/none.yaml"


def test_a_fix_of_the_label_space_reruns_its_readers_and_no_gpu_job(rerun):
    """In a finished run: CPU rules that import it are planned again; what they make is compared by content then."""
    path = rerun / "freemask/data/label_space.py"
    path.write_text(path.read_text().replace("IGNORE_INDEX = 255", "IGNORE_INDEX = 200 + 55"))
    jobs = tiny_run.planned(tiny_run.snakemake(rerun, "-n"))
    reasons = {rule for rule, _ in jobs}
    assert {"index_dataset", "check_dataset", "resize_masks", "mask_hardness"} <= reasons
    shutil.copy(tiny_run.ROOT / "freemask/data/label_space.py", path)
    assert not tiny_run.planned(tiny_run.snakemake(rerun, "-n"))
    path.write_text(path.read_text() + "# a comment\n")
    assert not tiny_run.planned(tiny_run.snakemake(rerun, "-n"))
