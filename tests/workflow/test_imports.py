"""Rows of the matrix that a public checkpoint or a finished run's log fills: planned right, run to the table."""

import json
import re

import pytest
import tiny_run
import torch
from test_configuration import message, read
from tiny_run import CONFIG, change, planned, read_yaml, rules, run_snakemake, snakemake, write_yaml

from freemask import files
from freemask.tables import read_table

LINE = "11/25 10:00:00 - mmengine - INFO - "
LOG = f"""{LINE}Iter(train) [ 2/12]  lr: 1.0e-05  loss: 2.1
{LINE}Saving checkpoint at 12 iterations
{LINE}Iter(val) [4/4]    aAcc: 80.0000  mIoU: 41.5000  mAcc: 60.0000  time: 0.1
"""


@pytest.fixture
def clone(fresh, tmp_path):
    """A configuration to change, and a log and a file to import."""
    for name in ("run.log", "run.pth"):
        (fresh / name).write_text(LOG)
    folder = tmp_path / "config"
    folder.mkdir()
    config = read_yaml(fresh / CONFIG)
    write_yaml(folder / "tiny.yaml", config)
    return folder / "tiny.yaml"


def fill(path, rows) -> None:
    """Import rows: experiment -> source of train seed 0."""
    change(path, "imported", value={"miniworld": {name: {0: source} for name, source in rows.items()}})


def plan(folder, path, *arguments):
    return planned(snakemake(folder, "-n", *arguments, config=str(path)))


def of(jobs, rule):
    """Experiments that a rule is planned for."""
    return {re.search(r"experiment=([\w-]+)", wildcards)[1] for name, wildcards in jobs if name == rule}


EVERY = {"real", "synthetic", "finetune", "joint", "joint-unfiltered"}


def test_nothing_imported(fresh, clone):
    jobs = plan(fresh, clone)
    assert of(jobs, "train") == of(jobs, "evaluate") == EVERY
    assert not {"import_checkpoint", "import_log"} & set(rules(jobs))


def test_rows_are_trained_or_imported_never_both(fresh, clone):
    checkpoint, log = {"checkpoint": "run.pth"}, {"log": "run.log", "take": "best"}
    fill(clone, {"real": checkpoint, "joint-unfiltered": log, "synthetic": checkpoint})
    jobs = plan(fresh, clone)
    assert of(jobs, "train") == {"finetune", "joint"}
    assert of(jobs, "import_checkpoint") == {"real", "synthetic"}
    assert of(jobs, "import_log") == {"joint-unfiltered"}
    assert {"class_loss", "measure_margins"} <= set(rules(jobs))  # a public checkpoint scores
    assert of(jobs, "training_config") == of(jobs, "evaluate") == EVERY - {"joint-unfiltered"}
    assert rules(jobs)["plot_training"] == 1


def test_an_imported_matrix_needs_no_training_and_no_synthetic_image_but_for_figures(fresh, clone):
    fill(clone, dict.fromkeys(EVERY - {"joint"}, {"checkpoint": "run.pth"}) | {"joint": {"log": "run.log"}})
    jobs = plan(fresh, clone, "results/miniworld/tables/miou.md")
    expected = ["make_miniworld", "index_dataset", "check_dataset", "resize_masks"]
    expected += ["training_config", "import_checkpoint", "import_log", "evaluate", "result_tables"]
    assert set(rules(jobs)) == set(expected)
    jobs = plan(fresh, clone)
    assert "train" not in rules(jobs)
    assert not {"plot_confusion", "plot_predictions"} & set(rules(jobs))  # a log holds no predictions
    assert of(jobs, "import_checkpoint") == EVERY - {"joint"}
    assert rules(jobs)["plot_training"] == 1


def test_a_checkpoint_with_an_address_is_fetched(fresh, clone):
    url = "https://models.example.org/a/segformer-0123abcd.pth"
    fill(clone, {"real": {"url": url, "sha256": "0123abcd"}})
    target = "results/miniworld/training/real/seed-0/metrics.json"
    printed = snakemake(fresh, "-n", "-p", target, config=str(clone))
    jobs = planned(printed)
    assert ("fetch_weights_file", "file=segformer-0123abcd.pth") in jobs
    assert f"--url {url} --sha256 0123abcd --weights weights/segformer-0123abcd.pth" in printed
    assert "--checkpoint weights/segformer-0123abcd.pth --sha256 0123abcd" in printed
    assert "train" not in rules(jobs)


WRONG = {
    "two kinds": ({"real": {0: {"checkpoint": "a.pth", "log": "a.log"}}}, ["real.0", "checkpoint and log", "one of"]),
    "no kind": ({"real": {0: {"take": "last"}}}, ["real.0", "no source"]),
    "no such experiment": ({"rael": {0: {"log": "a.log"}}}, ["rael.0", "tiny_experiments.tsv", "real.0"]),
    "no such seed": ({"real": {3: {"log": "a.log"}}}, ["real.3", "no such", "real.0"]),
    "a seed in words": ({"real": {"first": {"log": "a.log"}}}, ["real.first", "no train seed"]),
    "no such file": ({"joint": {0: {"log": "absent.log"}}}, ["joint.0", "log absent.log isn't there"]),
    "no such checkpoint": ({"joint": {0: {"checkpoint": "absent.pth"}}}, ["absent.pth isn't there", "check the path"]),
    "address without digest": ({"joint": {0: {"url": "https://a.org/b.pth"}}}, ["joint.0", "b.pth without sha256"]),
    "take of a checkpoint": ({"joint": {0: {"checkpoint": "a.pth", "take": "best"}}}, ["joint.0.take", "remove it"]),
    "digest of a log": ({"joint": {0: {"log": "a.log", "sha256": "0" * 8}}}, ["joint.0.sha256", "remove it"]),
    "unknown take": ({"joint": {0: {"log": "a.log", "take": "first"}}}, ["joint.0.take = 'first'", "Which evaluation"]),
    "unknown key": ({"joint": {0: {"path": "a.log"}}}, ["imported.miniworld.joint.0", "'path'", "checkpoint, url"]),
    "scorer from a log": ({"real": {0: {"log": "a.log"}}}, ["scorers.miniworld", "no weights to score with"]),
    "pre-training from a log": ({"synthetic": {0: {"log": "a.log"}}}, ["synthetic.0", "finetune starts from"]),
    "one name, two files": (
        {"real": {0: {"url": "https://a.org/b.pth", "sha256": "0" * 8}},
         "joint": {0: {"url": "https://c.org/b.pth", "sha256": "1" * 8}}}, ["joint.0", "weights/b.pth"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_imports_are_refused_at_the_door(fresh, tmp_path, case):
    imported, wanted = WRONG[case]
    folder = tiny_run.shutil.copytree(fresh / "config", tmp_path / "config").parent
    for name in ("a.log", "a.pth"):
        (folder / name).write_text("")
    change(folder / CONFIG, "imported", value={"miniworld": imported})
    text = message(folder)
    assert [part for part in ["tiny.yaml", *wanted] if part not in text] == [], text
    assert len(text) < 600


def test_imports_of_data_sets_must_be_of_known_ones(fresh, tmp_path):
    folder = tiny_run.shutil.copytree(fresh / "config", tmp_path / "config").parent
    change(folder / CONFIG, "imported", value={"miniwrld": {}})
    assert "'miniwrld'" in message(folder)
    change(folder / CONFIG, "imported", value={"ade20k": {"any": {0: {"log": "of another run"}}}})
    assert read(folder)


def test_an_imported_checkpoint_is_evaluated_to_the_table(chain, rerun):
    """The real row's weights come back as a public checkpoint: the same numbers, beside a row from a log."""
    folder = rerun / "results/miniworld/training"
    before = {row: files.read_json(folder / row / "seed-0/metrics.json") for row in ("real", "joint-unfiltered")}
    state = torch.load(folder / "real/seed-0/weights.pth", weights_only=True)
    classes = read_table(rerun / "config/datasets/miniworld.tsv", ["name"]).name.tolist()
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": tuple(classes)}}}, rerun / "public.pth")
    (rerun / "run.log").write_text(LOG)
    for row in before:
        tiny_run.shutil.rmtree(folder / row)
    fill(rerun / CONFIG, {"real": {"checkpoint": "public.pth", "sha256": files.sha256(rerun / "public.pth")[:8]},
                          "joint-unfiltered": {"log": "run.log"}})  # fmt: skip
    tables = ["results/miniworld/tables/miou.md", "results/miniworld/figures/training.png"]
    class_loss = rerun / "results/miniworld/class_loss.tsv"
    losses = class_loss.read_bytes()
    for path in (class_loss, *class_loss.with_suffix("").iterdir()):
        path.unlink()
    printed = snakemake(rerun, *tables, "results/miniworld/class_loss.tsv", "--allowed-rules", "training_config",
                        "import_checkpoint", "import_log", "evaluate", "result_tables", "plot_training", "class_loss",
                        "gather_class_loss", timeout=900)  # fmt: skip
    assert class_loss.read_bytes() == losses  # it also scores: a public checkpoint measures the class losses
    jobs = planned(printed)
    assert of(jobs, "import_checkpoint") == {"real"} and of(jobs, "import_log") == {"joint-unfiltered"}
    after = files.read_json(folder / "real/seed-0/metrics.json")
    assert after["mIoU"] == pytest.approx(before["real"]["mIoU"])
    text = (rerun / tables[0]).read_text()
    assert re.search(r"^\| tiny \| real \| 1x \| – \| imported \| 1 \|", text, flags=re.MULTILINE)
    assert "Imported: not trained here" in text
    row = next(line for line in text.splitlines() if "unfiltered" in line)
    assert "41.50" in row and "imported log, last" in row
    assert re.search(r"41\.50\S* \| – \|", row)  # no rare mIoU: the log has no IoU per class
    assert json.loads((folder / "joint-unfiltered/seed-0/metrics.json").read_text())["imported"]["file"] == "run.log"
    per_class = read_table(rerun / "results/miniworld/tables/per_class_iou.tsv", ["joint-unfiltered", "real"])
    assert per_class["joint-unfiltered"].isna().all() and per_class["real"].notna().any()
    change(rerun / CONFIG, "report", "miniworld", "improved", value="joint-unfiltered")
    done = run_snakemake(rerun, "results/miniworld/tables/most_improved.tsv", "--allowed-rules", "most_improved")
    assert done.returncode != 0
    assert "joint, train seed 0: no IoU of any class" in done.stdout
