"""A test split beside train and validation, and data sets without a validation split."""

import shutil

import pytest
from tiny_run import CONFIG, change, planned, read_yaml, rules, snakemake, write_yaml

from freemask import files, tables
from freemask.data.splits import split_of
from freemask.errors import InputError
from freemask.workflow import config as checks

FACTS = "config/datasets/miniworld.yaml"
TRAINED = "results/miniworld/training/real/seed-0"


def add_test(folder) -> None:
    """Let the validation images be the test images as well."""
    for kind in ("images", "masks"):
        path = folder / FACTS
        folders = read_yaml(path)[kind]
        change(path, kind, value={**folders, "test": folders["val"]})


def test_a_test_split_trains_nothing_again_and_is_evaluated(rerun):
    add_test(rerun)
    jobs = planned(snakemake(rerun, "-n"))
    new = {"index_dataset": 1, "check_dataset": 1, "evaluate_test": 5, "evaluate_best_test": 1}
    assert {rule: number for rule, number in rules(jobs).items() if rule in new or "train" in rule} == new
    assert {"evaluate", "training_config", "resize_masks", "class_loss"}.isdisjoint(rules(jobs))
    assert rules(jobs)["result_tables"] == 1
    snakemake(rerun, f"{TRAINED}/test/metrics.json")
    assert files.read_json(rerun / f"{TRAINED}/test/metrics.json") == files.read_json(rerun / f"{TRAINED}/metrics.json")


def test_a_new_training_waits_for_the_check_of_the_test_split(fresh, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "clone", symlinks=True)
    add_test(folder)
    output = snakemake(folder, "-n", f"{TRAINED}/config.py")
    assert "results/miniworld/check/test.tsv" in output
    assert rules(planned(output))["check_dataset"] == 3
    tables_made = planned(snakemake(folder, "-n", "table_miniworld"))
    assert rules(tables_made)["evaluate_test"] == 5


@pytest.mark.parametrize(
    ("images", "masks", "more", "wanted"),
    [
        ({"train": "a"}, {"train": "b"}, {}, "no validation split; give either folders, val in images and masks, or"),
        ({"train": "a", "val": "c"}, {"train": "b", "val": "d"}, {"validation_share": 0.1}, "two validation splits"),
        ({"train": "a", "val": "c"}, {"train": "b"}, {}, "images and masks have different splits; give val for both"),
        ({"train": "a"}, {"train": "b"}, {"validation_share": 1}, "validation_share = 1: "),
    ],
)
def test_splits_that_dont_fit_are_refused(fresh, tmp_path, images, masks, more, wanted):
    facts = read_yaml(fresh / FACTS) | {"images": images, "masks": masks} | more
    (tmp_path / "config/datasets").mkdir(parents=True)
    write_yaml(tmp_path / FACTS, facts)
    with pytest.raises(InputError) as raised:
        checks.read_dataset("miniworld", read_yaml(fresh / CONFIG), tmp_path)
    assert wanted in str(raised.value)


def test_a_share_of_train_validates(fresh, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "clone", symlinks=True)
    facts = read_yaml(folder / FACTS)
    facts |= {"images": {"train": "images/training"}, "masks": {"train": "annotations/training"}}
    write_yaml(folder / FACTS, facts | {"validation_share": 0.4})
    wanted = [f"results/miniworld/check/{split}.tsv" for split in ("train", "val")]
    snakemake(folder, *wanted)
    ids = {
        split: tables.read_table(folder / f"results/miniworld/index/{split}.tsv", ["mask_id"]).mask_id.tolist()
        for split in ("train", "val")
    }
    assert len(ids["train"] + ids["val"]) == facts["miniworld"]["training"]
    assert all(split_of(name, 0.4) == split for split, names in ids.items() for name in names)
    assert not planned(snakemake(folder, "-n", *wanted))
    change(folder / FACTS, "validation_share", value=0.6)
    assert rules(planned(snakemake(folder, "-n", *wanted)))["index_dataset"] == 2
