"""How far a run is, by hand: finished, running and waiting jobs from their files alone."""

import os
import time
from pathlib import Path

import pytest
import test_budget

from freemask import files
from freemask.errors import InputError
from freemask.reporting import status

RUN = test_budget.RUN | {"seconds_per_image": 6.0}
NOW = time.time()
BAR = "synthesize 2-of-2:  25%|##5       | 36/144 [00:18<00:54, 2.00image/s]\n"


def job(rule: str, name: str, stage: str = "generation", gpus: int = 1, todo: bool = True) -> dict:
    where = f"logs/world/{rule}/{name}"
    found = {"stage": stage, "rule": rule, "dataset": "world", "name": name, "gpus": gpus, "todo": todo}
    return found | {"log": f"{where}.log", "proof": f"{where}.benchmark.tsv"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of five jobs: masks were there, one of two shards is made, the other is a quarter; trainings wait."""
    monkeypatch.chdir(tmp_path)
    jobs = [job("resize_masks", "", "data", 0, todo=False), job("synthesize", "1-of-2"), job("synthesize", "2-of-2")]
    jobs += [job("train", f"{name}/seed-0", "segmentation", 2) for name in ("real", "joint")]
    root = Path(test_budget.ROOT)
    paths = {"reported": str(root / "config/reported.yaml"), "paper": str(root / "resources/costs/v100.yaml")}
    files.write_json(
        "logs/plan.json", {"started": NOW - 60, "run": RUN, "jobs": jobs, "cards": [], "card": "", **paths}
    )
    shard = "logs/world/synthesize/{}"
    files.write_atomic(shard.format("1-of-2.benchmark.tsv"), b"s\n100\n")
    files.write_atomic(shard.format("1-of-2.log"), b"")
    files.write_atomic(shard.format("2-of-2.log"), ("loading\n" + BAR + "made 7.jpg\n").encode())
    files.write_atomic("logs/world/train/real/seed-0.log", b"of an earlier run\n")
    os.utime("logs/world/train/real/seed-0.log", (NOW - 999, NOW - 999))
    return status.Status()


def test_each_stage(run):
    header, *rows = run.table()
    assert header == ["stage", "done", "of", "ended early", "GPU hours", "of about", "remaining"]
    found = {row[0]: row[1:4] for row in rows}
    assert found == {
        "data": ["1", "1", "0"], "generation": ["1", "2", "1"], "segmentation": ["0", "2", "0"], "all": ["2", "5", "1"]
    }  # fmt: skip


def test_hours_and_remaining_time(run):
    """289 images of 6 s, half in each shard: one is made, of the other a quarter; 4 GPUs."""
    shard = test_budget.IMAGES * 6.0 / 2
    done, running = run.jobs[1:3]
    assert run.spent(done) == pytest.approx(shard) and run.spent(running) == pytest.approx(shard / 4)
    assert run.left(run.jobs[1:3]) == (pytest.approx(0.75 * shard), True)
    assert running.images_a_second == 2.0


def test_a_training_on_the_cpu_counts_in_hours(run):
    training = status.Job(**job("train", "cpu/seed-0", "segmentation", gpus=0, todo=False), started=NOW)
    run.jobs, run.expected = [training], {training: 7200.0}
    assert run.spent(training) == 7200 and run.table()[1][4:6] == ["2.0", "2.0"]
    waiting = status.Job(**job("train", "cpu/seed-1", "segmentation", gpus=0), started=NOW)
    run.expected[waiting] = None
    assert run.left([waiting]) == (0, False)


def test_the_text_names_running_jobs(run):
    text = run.text()
    assert "Snakemake doesn't run" in text
    files.write_atomic(".snakemake/locks/0.input.lock", b"")
    text = status.Status().text()
    assert "Snakemake runs" in text and "running  GPU hours" in text
    images = test_budget.IMAGES
    assert f"images: about {images * 1.25 / 2:,.0f} of {images}, 2 a second on all nodes" in text
    (line,) = [line for line in text.splitlines() if line.startswith("synthesize world 2-of-2")]
    assert line.split()[3:7] == ["25", "%", "2.00image/s", "00:54"]


def test_it_writes_nothing_but_the_page(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    status.status()
    assert "segmentation" in "".join(capsys.readouterr())
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    page = status.as_page("a < b", 30)
    assert '<meta http-equiv="refresh" content="30">' in page and "a &lt; b" in page


def test_a_folder_without_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no run was started here \(no logs/plan.json\)"):
        status.status(folder=tmp_path)
    with pytest.raises(InputError, match="--folder nowhere: no such folder"):
        status.status(folder=Path("nowhere"))


def test_named_runs_have_plans_of_their_own(run, capsys):
    """Run b was started later, and has no job."""
    files.write_json("logs/plan@b.json", files.read_json("logs/plan.json") | {"jobs": []})
    os.utime("logs/plan.json", (NOW - 999, NOW - 999))
    printed = []
    for name in (None, "b", ""):
        status.status(run=name)
        printed.append("".join(capsys.readouterr()))
    assert ": run b of " in printed[0] and "segmentation" not in printed[0] and ": run b of " in printed[1]
    assert ": run of " in printed[2] and "segmentation" in printed[2]
    with pytest.raises(InputError, match="no run 'c' was started here; choose one of"):
        status.status(run="c")
