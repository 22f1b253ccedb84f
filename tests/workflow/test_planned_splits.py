"""A test split beside train and validation, and data sets without a validation split."""

import shutil
from collections import Counter

import pytest
from tiny_run import CONFIG, change, planned, read_yaml, rules, snakemake, told_to_cost, write_yaml

from freemask import files, tables
from freemask.data.splits import split_of
from freemask.errors import InputError
from freemask.workflow.dataset_settings import read_dataset

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
    jobs = rules(planned(snakemake(folder, "-n", f"{TRAINED}/config.py")))
    assert (jobs["check_dataset"], jobs["evaluate_test"]) == (3, 0)


def test_cost_counts_the_jobs_of_a_test_split(fresh, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "clone", symlinks=True)
    add_test(folder)
    output = snakemake(folder, "-n", "-p", "all", "cost")
    (facts,) = told_to_cost(output)["datasets"].values()
    assert facts["jobs"] == rules(planned(output)) - Counter(cost=1)
    assert facts["pairs"] == {"train": 6, "val": 4, "test": 0}


@pytest.mark.parametrize(
    ("images", "masks", "more", "wanted"),
    [
        ({"train": "a"}, {"train": "b"}, {}, "no validation split; give either folders, val in images and masks, or"),
        ({"train": "a", "val": "c"}, {"train": "b", "val": "d"}, {"validation_share": 0.1}, "two validation splits"),
        ({"train": "a", "val": "c"}, {"train": "b"}, {}, "images and masks have different splits; give val for both"),
        ({"train": "a"}, {"train": "b"}, {"validation_share": 1}, "validation_share = 1: "),
        (
            {"train": "a", "val": "c"},
            {"train": "b", "val": "d"},
            {"windows": {"size": 64, "overlap": 33}},
            "windows.overlap = 33 is more than half of windows.size = 64; make it smaller",
        ),
    ],
)
def test_splits_that_dont_fit_are_refused(fresh, tmp_path, images, masks, more, wanted):
    facts = read_yaml(fresh / FACTS) | {"images": images, "masks": masks} | more
    (tmp_path / "config/datasets").mkdir(parents=True)
    write_yaml(tmp_path / FACTS, facts)
    with pytest.raises(InputError) as raised:
        read_dataset("miniworld", read_yaml(fresh / CONFIG), tmp_path)
    assert wanted in str(raised.value)


def test_a_share_of_train_validates_and_large_images_are_cut(fresh, tmp_path):
    """Images of 64 pixels into 2 x 2 windows of 48; whole images are on one side."""
    folder = shutil.copytree(fresh, tmp_path / "clone", symlinks=True)
    facts = read_yaml(folder / FACTS)
    facts |= {"images": {"train": "images/training"}, "masks": {"train": "annotations/training"}}
    write_yaml(folder / FACTS, facts | {"validation_share": 0.4, "windows": {"size": 48, "overlap": 16}})
    wanted = [f"results/miniworld/check/{split}.tsv" for split in ("train", "val")]
    snakemake(folder, *wanted)
    ids = {
        split: tables.read_table(folder / f"results/miniworld/index/{split}.tsv", ["mask_id"]).mask_id.tolist()
        for split in ("train", "val")
    }
    assert len(ids["train"] + ids["val"]) == 4 * facts["miniworld"]["training"]
    assert all(split_of(name.partition("__")[0], 0.4) == split for split, names in ids.items() for name in names)
    pixels = {
        split: tables.read_table(folder / f"results/miniworld/check/{split}.tsv", ["pixels"]).pixels.sum()
        for split in ids
    }
    assert pixels["val"] <= len(ids["val"]) / 4 * 64**2 < pixels["train"] / len(ids["train"]) * len(ids["val"])
    assert not planned(snakemake(folder, "-n", *wanted))
    change(folder / FACTS, "validation_share", value=0.6)
    assert rules(planned(snakemake(folder, "-n", *wanted)))["index_dataset"] == 2
