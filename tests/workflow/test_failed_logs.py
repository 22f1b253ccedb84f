"""What Snakemake shows of the log of a failed job."""

import os

import pytest
import snakemake.logging

from freemask.workflow import failed_logs


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A function that gives what Snakemake's own formatter says of a failed job with this log."""
    monkeypatch.setattr(snakemake.logging, "show_logs", snakemake.logging.show_logs)  # restored at the end
    monkeypatch.chdir(tmp_path)
    failed_logs.shorten()

    def show(*logs: str) -> list[str]:
        error = dict.fromkeys(("msg", "rule_msg", "input", "output", "conda_env", "shellcmd"))
        error |= {"rule_name": "synthesize", "jobid": 7, "log": logs, "aux": {}}
        lines = snakemake.logging.DefaultFormatter(show_failed_logs=True)._format_job_error(error)
        return lines[lines.index(f"    log: {', '.join(logs)} (check log file(s) for error details)") + 1 :]

    return show


def test_the_cause_comes_first_then_the_end_without_progress(shown, tmp_path):
    """The cause stands before torchrun's lines about it; 9,000 lines of progress and of images stand before it."""
    before = [f"made {n}.jpg\nsynthesize:  {n % 100}%|###   | {n}/9000 [00:05<2:00, 3.1image/s]" for n in range(4500)]
    log = [*before, "error: weights.ckpt: no such file; fetch it", *(f"torchrun {n}" for n in range(30))]
    (tmp_path / "a.log").write_text("\n".join(log) + "\n")
    lines = shown("a.log")
    assert lines[0] == "Logfile a.log, the end of its 9031 lines without progress:"
    assert lines[1:] == ["error: weights.ckpt: no such file; fetch it", *(f"torchrun {n}" for n in range(10, 30))]


def test_a_cause_among_the_last_lines_is_said_once(shown, tmp_path):
    (tmp_path / "a.log").write_text("loading\nerror: blank images\n")
    assert shown("a.log") == [
        "Logfile a.log, the end of its 2 lines without progress:",
        "loading",
        "error: blank images",
    ]


def test_a_log_of_an_earlier_run_is_not_shown(shown, tmp_path):
    (tmp_path / "old.log").write_text("240 images made\n")
    os.utime(tmp_path / "old.log", (1e9, 1e9))
    (tmp_path / "empty.log").write_text("")
    lines = shown("old.log", "none.log", "empty.log")
    assert lines[0].startswith("Logfile old.log is of an earlier run (2001-09-")
    assert lines[0].endswith("this time the job ended before its script began")
    assert lines[1:] == [
        "Logfile none.log isn't there: the job ended before its script began",
        "Logfile empty.log: empty",
    ]
