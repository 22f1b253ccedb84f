"""SIGTERM: noted in a with statement only; a job may go on if it saved something."""

import os
import signal

import pytest

from freemask.stopping import CONTINUE, Stop, Terminated


@pytest.fixture(autouse=True)
def default_handler():
    """Another test of this process may have left its own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def stopped(saved: int, main: bool = True) -> None:
    with pytest.raises(Terminated) as ended, Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        stop.saved = saved
        stop.end("2 of 5 images are there", main)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that tells the wrapper of a Slurm job to go on."""
    monkeypatch.setenv(CONTINUE, str(tmp_path / "continue"))
    return tmp_path / "continue"


def test_a_job_that_saved_something_may_go_on(mark, capsys):
    stopped(saved=2)
    assert mark.exists()
    assert capsys.readouterr().err == "SIGTERM: 2 of 5 images are there; the same command goes on from there\n"


def test_a_job_that_saved_nothing_fails_and_says_why(mark, capsys):
    stopped(saved=0)
    assert not mark.exists()
    words = capsys.readouterr().err
    assert "nothing was saved since this job started, so it counts as failed" in words and "`runtime`" in words


def test_other_processes_than_the_first_are_silent(mark, capsys):
    stopped(saved=2, main=False)
    assert not mark.exists() and not capsys.readouterr().err


def test_without_a_wrapper_no_file_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv(CONTINUE, raising=False)
    stopped(saved=2)
    assert not list(tmp_path.iterdir())
