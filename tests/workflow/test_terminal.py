"""What a run says on the terminal: results of finished jobs, and why a run failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import environment

from freemask.workflow import terminal
from rules import ROOT

SNAKEFILE = """
from freemask.workflow import terminal

terminal.install(workflow)

rule all:
    input: "train.txt", "score-a.txt"

rule score:
    output: "score-{name}.txt"
    log: "logs/{name}.log"
    shell: "python score.py --name {wildcards.name} --log {log}; touch {output}"

rule killed:
    output: "killed.txt"
    log: "logs/killed.log"
    shell: "(echo loading; kill -9 $BASHPID) > {log}; touch {output}"

rule look:
    log: "logs/look.log"
    shell: "touch {log}"

rule train:
    input: "score-b.txt"
    output: "train.txt"
    log: "logs/train.log"
    shell: "(echo loading; echo 'error: weights.ckpt: no such file; fetch it'; echo torchrun) > {log}; exit 1"
"""
SCRIPT = """
from freemask import cli

def score(*, name: str) -> None:
    cli.tell(f"{name}: mIoU 39.7\\nand more\\nwarning: car: IoU 0")

cli.run(score)
"""


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "score.py").write_text(SCRIPT)

    def run(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--show-failed-logs", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment(ROOT), capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).splitlines()

    return run


def test_a_run_says_results_and_last_why_it_failed(toy):
    lines = toy("--keep-going")
    said = [line.partition(" of 4  ")[2] for line in lines if " of 4  " in line]
    assert sorted(said) == ["a: mIoU 39.7", "b: mIoU 39.7", *["warning: car: IoU 0"] * 2]
    hidden = ("and more", "jobid", "Select jobs", "CalledProcessError")
    assert not [line for line in lines if any(part in line for part in hidden)]
    assert lines[-3:] == [
        "1 job(s) failed; the same command tries again and keeps what is done:",
        "train: weights.ckpt: no such file; fetch it",
        "  its log: logs/train.log",
    ]
    assert "Error in train" in lines and "loading" in lines and len(lines) < 20


def test_a_part_of_a_run_counts_its_own_steps(toy):
    lines = toy("--until", "score")
    assert any(line.startswith("2 steps; ") for line in lines) and any(" 2 of 2  " in line for line in lines)


def test_a_killed_job_says_so(toy):
    lines = toy("killed.txt")
    assert "Error in killed (killed by SIGKILL)" in lines
    assert lines[-2] == "killed: killed by SIGKILL (out of memory?), its last line: loading"


def test_a_refused_submission_says_why(toy, tmp_path):
    (tmp_path / "submit.sh").write_text("echo 'Slurm refuses the job: no such GPU'; exit 1\n")
    lines = toy(
        "--executor", "cluster-generic", "--cluster-generic-submit-cmd", "sh submit.sh", "--jobs", "1", "score-a.txt"
    )
    assert lines[lines.index("Error in score a") + 2] == lines[-1] == "Slurm refuses the job: no such GPU"
    assert not any("Logfile" in line for line in lines)


def test_an_unknown_target_says_which_one_was_meant(toy, tmp_path):
    for arguments in (["trian"], ["-n", "trian"], ["-p", "-R", "trian"]):
        said = "error: trian: no such target. Did you mean train? snakemake --list-target-rules shows all targets"
        lines = toy(*arguments)
        assert lines[-1] == said and not any("Exception" in line for line in lines)
    logs = [path.read_text() for path in (tmp_path / ".snakemake/log").iterdir()]
    assert logs and all("MissingRuleException" in log for log in logs)  # Snakemake's own lines stay there


def test_a_report_before_its_run_says_so(toy):
    said = "error: only finished results are read here; finish the run first. Missing: score-"
    assert toy("--allowed-rules", "train", "--", "train.txt")[-1] == f"{said}b.txt"
    assert toy("--allowed-rules", "all", "--", "all")[-1] == f"{said}a.txt and 1 more"


def test_only_a_run_that_status_knows_speaks_of_it(toy):
    assert any(line.startswith("1 step; python -m freemask.reporting.status") for line in toy("score-a.txt"))
    assert not any("steps;" in line for line in toy("look"))
    assert any(line.startswith("Job stats") for line in toy("-n", "look"))


def test_a_larger_workflow_is_not_sent_to_status(toy, tmp_path):
    (tmp_path / "Snakefile").rename(tmp_path / "toy.smk")
    (tmp_path / "Snakefile").write_text('module toy:\n    snakefile: "toy.smk"\nuse rule * from toy as toy_*\n')
    assert "1 step" in toy("score-a.txt")


def test_a_dry_run_lists_jobs_and_reasons(toy):
    lines = toy("-n")
    assert "    reason: Missing output files: score-a.txt" in lines and "rule train:" in lines


def test_snakemakes_own_lines_are_there_on_request(toy):
    lines = toy("-p", "score-a.txt")
    assert "a: mIoU 39.7" in lines and any(line.startswith("Finished jobid: ") for line in lines)


def test_the_cause_comes_first_then_the_end_without_progress(tmp_path, monkeypatch):
    """The cause stands before torchrun's lines about it; 9,000 lines of progress and of images stand before it."""
    monkeypatch.chdir(tmp_path)
    before = [f"made {n}.jpg\nsynthesize:  {n % 100}%|###   | {n}/9000 [00:05<2:00, 3.1image/s]" for n in range(4500)]
    log = [*before, "error: weights.ckpt: no such file; fetch it", *(f"torchrun {n}" for n in range(30))]
    Path("a.log").write_text("\n".join(log) + "\n")
    lines = list(terminal.ends(["a.log"]))
    assert lines[0] == "Logfile a.log, its end without progress:"
    assert lines[1:] == ["error: weights.ckpt: no such file; fetch it", *(f"torchrun {n}" for n in range(10, 30))]
    assert terminal.cause(["a.log"]) == "weights.ckpt: no such file; fetch it"
    Path("a.log").write_text("loading\nerror: blank images\n")
    assert list(terminal.ends(["a.log"]))[1:] == ["loading", "error: blank images"]


def test_a_log_of_an_earlier_run_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.log").write_text("240 images made\n")
    os.utime("old.log", (1e9, 1e9))
    Path("empty.log").write_text("")
    lines = list(terminal.ends(["old.log", "none.log", "empty.log"]))
    assert lines[0].startswith("Logfile old.log is of an earlier run (2001-09-")
    assert lines[0].endswith("this time the job ended before its script began")
    assert lines[1:] == [
        "Logfile none.log isn't there: the job ended before its script began",
        "Logfile empty.log: empty",
    ]
    assert terminal.cause(["old.log", "none.log"]) == "it ended before its script began"
