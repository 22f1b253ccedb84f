"""docs/reruns.md, "change, runs again, doesn't run": each change of data, classes, models and splits on a finished run.

Changes with tests of their own: alpha, n_max, shards, learning rates, train seeds, code (test_chain.py); a class's
color, name, word and place (test_class_changes.py); a test split (test_planned_splits.py); raw data named and counted
(test_raw_data.py).
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import CONFIG, ROOT, ROWS, change, planned, read_yaml, rules, snakemake, write_yaml

pytestmark = pytest.mark.slow
FACTS = "config/datasets/miniworld.yaml"
EXPERIMENTS, MODELS = "config/tiny_experiments.tsv", "config/tiny_models.yaml"
MASKS = "data/miniworld/annotations"
TRAININGS = {name for name, *_ in ROWS}
ON_SYNTHETIC = TRAININGS - {"real"}
TABLES = {"result_tables", "write_report"}


def the_labels_of_a_mask(folder: Path) -> None:
    path = sorted((folder / MASKS / "training").glob("*.png"))[0]
    mask = np.array(Image.open(path))
    mask[:8], mask[-8:] = mask[-8:].copy(), mask[:8].copy()
    Image.fromarray(mask).save(path)


def what_has_no_effect(folder: Path) -> None:
    """Files saved again, other times, and what nothing uses."""
    for path in (folder / MASKS / "training").glob("*.png"):
        Image.open(path).save(path, compress_level=1)
    for path in (folder / "data/miniworld/images").rglob("*.jpg"):
        path.touch()
    for keys, value in [
        (("watchdog_minutes",), 9),
        (("seconds_per_image",), 3.5),
        (("plans", "unrelated", "n_max"), 7),
    ]:
        change(folder / CONFIG, *keys, value=value)
    change(folder / MODELS, "tiny", "iterations", "elsewhere", value=9)


def a_validation_image_more(folder: Path) -> None:
    for kind in ("images", "annotations"):
        path = sorted((folder / f"data/miniworld/{kind}/validation").iterdir())[0]
        shutil.copy(path, path.with_stem("another"))


def a_class_more(folder: Path) -> None:
    with open(folder / "config/datasets/miniworld.tsv", "a") as file:
        file.write("200\tcloud\tcloud\t#f0f0f0\n")


def a_data_set_more(folder: Path) -> None:
    """Of the same raw files, so that nothing has to be made for it."""
    facts = read_yaml(folder / FACTS)
    del facts["miniworld"]
    write_yaml(folder / "config/datasets/other.yaml", facts | {"title": "Other"})
    change(folder / MODELS, "tiny", "iterations", "other", value=12)
    with open(folder / EXPERIMENTS, "a") as file:
        file.write("real\tother\ttiny\treal\t1\t\t0\njoint\tother\ttiny\tjoint\t1\tothers\t0\n")
    config = read_yaml(folder / CONFIG)
    config["datasets"].append("other")
    config["generators"]["others"] = config["generators"]["miniature"] | {"dataset": "other"}
    config["synthetic_sets"]["others"] = config["synthetic_sets"]["filtered"] | {
        "dataset": "other",
        "generator": "others",
    }
    config["scorers"]["other"] = config["scorers"]["miniworld"]
    config["report"]["other"] = {"baseline": "real", "improved": "joint", "contact_sheet": "others"}
    write_yaml(folder / CONFIG, config)


def a_share_validates(folder: Path) -> None:
    facts = read_yaml(folder / FACTS)
    for kind in ("images", "masks"):
        del facts[kind]["val"]
    write_yaml(folder / FACTS, facts | {"validation_share": 0.4})


def how_models_are_evaluated(folder: Path) -> None:
    change(folder / CONFIG, "evaluation", value={"flip": True})


def fewer_images(folder: Path) -> None:
    change(folder / CONFIG, "plans", "hardness-2", "n_max", value=1)


def a_set_less(folder: Path) -> None:
    path = folder / EXPERIMENTS
    path.write_text(re.sub("^joint-unfiltered.*\n", "", path.read_text(), flags=re.MULTILINE))
    config = read_yaml(folder / CONFIG)
    del config["synthetic_sets"]["unfiltered"]
    write_yaml(folder / CONFIG, config)


# change: row(s) of the table, experiments that are trained, rules that run as well, rules that don't
CHANGES = {
    what_has_no_effect: ("a mask saved again with the same labels", set(), set(), None),
    the_labels_of_a_mask: (("an image or mask changed, added or removed", "a mask changed where its square"), TRAININGS,
                           {"index_dataset", "resize_masks", "class_loss", "synthesize", "evaluate"}, set()),
    a_validation_image_more: ("an image or mask changed, added or removed", TRAININGS,
                              {"index_dataset", "evaluate"}, {"resize_masks"}),
    a_class_more: ("a class added or taken out", TRAININGS, {"check_dataset", "resize_masks", "synthesize"}, set()),
    a_data_set_more: ("a data set more", set(), TABLES, {"evaluate", "synthesize", "class_loss", "index_dataset"}),
    a_share_validates: ("`validation_share`, `windows`", TRAININGS, {"index_dataset", "evaluate", "synthesize"}, set()),
    how_models_are_evaluated: ("`evaluation`", set(), {"evaluate", "evaluate_best", *TABLES}, {"train", "class_loss"}),
    fewer_images: ("smaller `n_max`", ON_SYNTHETIC, {"plan_synthesis", "synthesize", "filter_masks"}, {"class_loss"}),
    a_set_less: ("a synthetic set or plan taken out", set(), TABLES, {"train", "evaluate", "synthesize"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(chain, tmp_path_factory) -> Path:
    """A copy of the finished run, which every change is taken back from."""
    ignored = shutil.ignore_patterns("iter_*.pth", "*.jpg.part")
    return shutil.copytree(chain, tmp_path_factory.mktemp("finished") / "clone", symlinks=True, ignore=ignored)


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_what_runs_again_is_what_the_table_says(finished, tmp_path, case):
    rows, trained, runs, stays = CHANGES[case]
    table = (ROOT / "docs/reruns.md").read_text().replace("[test split](data.md#splits)", "test split")
    assert all(f"| {row}" in table for row in ([rows] if isinstance(rows, str) else rows))
    for part in ("config", "data"):
        shutil.copytree(finished / part, tmp_path / part)
    try:
        case(finished)
        output = snakemake(finished, "-n")
    finally:
        for part in ("config", "data"):
            shutil.rmtree(finished / part)
            shutil.copytree(tmp_path / part, finished / part)
    jobs = {job for job in planned(output) if "dataset=other" not in job[1]}
    names = set(rules(jobs))
    assert {re.search(r"experiment=([\w-]+)", wildcards)[1] for rule, wildcards in jobs if rule == "train"} == trained
    assert runs <= names and not names & (stays if stays is not None else names)
