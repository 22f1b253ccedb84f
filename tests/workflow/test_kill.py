"""`make demo` killed at bad moments and started again: it finishes, nothing finished is redone, bytes are the same."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_run
from tiny_run import CONFIG, ROOT, environment, finished, hashes, stamps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="make demo finds a killed run's jobs through /proc"),
]
RESULTS = "results/miniworld"
IMAGES = f"{RESULTS}/synthesis/miniature/images/*/*.jpg"
OF_ALL_ROWS = ("tables", "figures")  # folders of results that differ with the rows of the experiments
# What must be there for the kill, and what is killed: everything at once, or Snakemake alone, whose jobs then go on.
MOMENTS = [
    (f"{RESULTS}/training/real/seed-0/work/iter_*.pth", "everything"),
    (IMAGES, "everything"),
    (f"{RESULTS}/training/joint/seed-0/work/iter_*.pth", "Snakemake"),
]


@pytest.fixture
def clone(tmp_path):
    """A clone in which `make demo` finds its virtual environment made; leaves no process behind."""
    folder = tiny_run.copy_repository(tmp_path / "Anna's clone")
    tiny_run.configure(folder)
    rows = folder / "config/tiny_experiments.tsv"  # the two that are killed; the others take as long again
    rows.write_text("".join(re.findall(r"^(?:experiment|real|joint)\t.*\n", rows.read_text(), flags=re.MULTILINE)))
    for name in ["Makefile", "pyproject.toml", "constraints.txt", *(p.name for p in ROOT.glob("requirements-*.txt"))]:
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.endswith(".stamp"):
            (folder / ".venv" / part.name).symlink_to(part)
    for stamp in ("created.stamp", "packages.stamp"):
        (folder / ".venv" / stamp).touch()
    yield folder
    for process in processes(folder):
        os.kill(process, signal.SIGKILL)


def processes(folder: Path, named: str = "") -> list[int]:
    """Find the processes that `make demo` has started in a folder, by the mark in their environment."""
    mark, found = f"FREEMASK_RUN={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                mark in (entry / "environ").read_bytes().split(b"\0")
                and named.encode() in (entry / "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:  # it has ended, or isn't ours
            continue
    return found


def demo(folder: Path) -> subprocess.Popen:
    """Start `make demo`; what it prints is added to demo.log."""
    with open(folder / "demo.log", "a") as log:
        return subprocess.Popen(["make", "demo", f"CONFIG={CONFIG}"], cwd=folder, env=environment(folder),
                                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip


def kill_when(folder: Path, pattern: str, victim: str) -> None:
    """Run `make demo` until a file is there, then SIGKILL."""
    run, deadline = demo(folder), time.monotonic() + 1800
    while not list(folder.glob(pattern)):
        assert run.poll() is None, (folder / "demo.log").read_text()
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)
    if victim == "everything":
        for process in [run.pid, *processes(folder)]:
            os.kill(process, signal.SIGKILL)
    else:
        os.kill(processes(folder, "bin/snakemake")[0], signal.SIGKILL)
    run.wait()


def test_killed_runs_go_on(clone, chain):
    kept: dict = {}
    wanted = tiny_run.planned(tiny_run.snakemake(clone, "-n"))
    for pattern, victim in MOMENTS:
        kill_when(clone, pattern, victim)
        kept |= stamps(clone, IMAGES) if victim == "everything" else {}
        interrupted = len(tiny_run.planned(newest_log(clone))) - newest_log(clone).count("Finished jobid")
        assert interrupted > 0
    assert kept
    assert demo(clone).wait(timeout=1800) == 0, (clone / "demo.log").read_text()
    after = stamps(clone, IMAGES)
    assert {path: after[path] for path in kept} == kept
    jobs = finished(clone)
    assert sorted(jobs) == sorted(wanted)
    assert (clone / "results/report/report.html").stat().st_size > 10_000
    made, whole = hashes(clone), hashes(chain)
    own = [path for path in made if path.split("/")[2] not in OF_ALL_ROWS]
    assert {path: made[path] for path in own} == {path: whole[path] for path in own}
    trained = {path for path in own if path.endswith("weights.pth")}
    assert trained == {f"{RESULTS}/training/{name}/seed-0/weights.pth" for name in ("real", "joint")}
    assert not processes(clone)


def newest_log(folder: Path) -> str:
    return max((folder / ".snakemake/log").glob("*.log")).read_text()
