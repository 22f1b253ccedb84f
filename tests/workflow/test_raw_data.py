"""Raw data that change after they were indexed: what a run notices, says and plans."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import yaml
from PIL import Image
from tiny_run import planned, rules, snakemake

from freemask import tables

CHECKED = [f"results/road/check/{split}.tsv" for split in ("train", "val")]
SKY, ROAD = (128, 128, 128), (128, 64, 128)
FACTS = {
    "title": "Road", "root": "data/road", "images": {"train": "train/rgb", "val": "val/rgb"},
    "masks": {"train": "train/colors", "val": "val/colors"}, "image_suffix": ".jpg", "mask_suffix": ".png",
    "masks_are": "colors", "mask_size": 64,
    "classes": [{"name": "sky", "color": "#808080"}, {"name": "road", "color": "#804080"}],
}  # fmt: skip
MASK = "data/road/train/colors/deep/1.png"


def write_pair(split: Path, name: str, left: tuple, grey: int) -> None:
    mask = np.array([[left, SKY]] * 2, np.uint8)
    for folder in ("rgb", "colors"):
        (split / folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(split / "colors" / f"{name}.png")
    Image.fromarray(np.full_like(mask, grey)).save(split / "rgb" / f"{name}.jpg")


@pytest.fixture(scope="module")
def indexed(fresh, tmp_path_factory) -> Path:
    """A data set with colour masks, indexed and checked."""
    folder = shutil.copytree(fresh, tmp_path_factory.mktemp("road") / "clone", symlinks=True)
    (folder / "config/datasets/road.yaml").write_text(yaml.safe_dump(FACTS))
    config = tiny_run.read_yaml(folder / tiny_run.CONFIG)
    config |= {"datasets": ["road"], "evaluation": {"pictures": 2}}
    rows = folder / "config/tiny_experiments.tsv"
    rows.write_text(rows.read_text().replace("\tminiworld\t", "\troad\t"))
    for key in ("generators", "synthetic_sets"):
        for entry in config[key].values():
            entry["dataset"] = "road"
    for key in ("scorers", "report"):
        config[key] = {"road": config[key]["miniworld"]}
    tiny_run.write_yaml(folder / tiny_run.CONFIG, config)
    models = folder / "config/tiny_models.yaml"
    models.write_text(models.read_text().replace("miniworld:", "road:"))
    for number in range(3):
        write_pair(folder / "data/road/train", f"deep/{number}", ROAD, number)
    write_pair(folder / "data/road/val", "a", ROAD, 9)
    write_pair(folder / "data/road/val", "b", ROAD, 2)  # the bytes of train's 2
    assert "warning: " in (printed := snakemake(folder, *CHECKED))
    assert "data/road/val/rgb/b.jpg = data/road/train/rgb/deep/2.jpg" in printed
    return folder


@pytest.fixture
def copy(indexed, tmp_path) -> Path:
    return shutil.copytree(indexed, tmp_path / "clone", symlinks=True)


def plan(folder: Path) -> tuple[dict, str]:
    """Jobs by rule of a dry run to the checks, and what it said of raw data."""
    printed = snakemake(folder, "-n", *CHECKED)
    said = [line for line in printed.splitlines() if line.startswith("raw data of")]
    return dict(rules(planned(printed))), "\n".join(said)


def test_equal_images_of_train_and_val_are_in_a_table(indexed):
    table = tables.read_table(indexed / "results/road/check/val.duplicates.tsv", ["image", "equal_to", "split"])
    assert table.to_numpy().tolist() == [["data/road/val/rgb/b.jpg", "data/road/train/rgb/deep/2.jpg", "train"]]


def test_braces_in_the_users_words_are_no_wildcards(copy):
    archives = [{"url": "https://example.org/{a}.zip", "unpack_to": "more"}]
    facts = FACTS | {"title": "Road {a}", "root": "data/{road}", "archives": archives}
    (copy / "config/datasets/road.yaml").write_text(yaml.safe_dump(facts))
    (copy / "data/road").rename(copy / "data/{road}")
    printed = snakemake(copy, "-n", "-p", "look_road", "fetch_road", "paper", "results/report/report.html")
    assert "--title 'Road {a}'" in printed and "--root 'data/{road}'" in printed and "/{a}.zip" in printed


def test_another_time_is_no_change_and_another_byte_is(copy):
    for path in (copy / "data").rglob("*"):
        os.utime(path)  # as a copy has them; also the folders'
    assert plan(copy) == ({}, "")
    write_pair(copy / "data/road/train", "deep/1", SKY, 1)  # in a subfolder
    jobs, said = plan(copy)
    assert jobs == {"index_dataset": 1, "check_dataset": 2}
    assert said == f"raw data of road, train, differ from their index: 1 changed ({MASK})"
    tiny_run.change(copy / tiny_run.CONFIG, "watch_raw_data", value=False)
    (copy / "results/road/index/train.state").write_text("as first indexed")
    assert plan(copy) == ({}, "")


def test_new_and_gone_files_are_named_and_indexed_once(copy):
    write_pair(copy / "data/road/train", "deep/3", ROAD, 3)
    for folder, end in (("rgb", "jpg"), ("colors", "png")):
        (copy / f"data/road/train/{folder}/deep/0.{end}").unlink()
    said = snakemake(copy, *CHECKED)
    assert "2 new (data/road/train/rgb/deep/3.jpg, data/road/train/colors/deep/3.png)" in said
    assert "2 gone (data/road/train/colors/deep/0.png, data/road/train/rgb/deep/0.jpg)" in said
    index = tables.read_table(copy / "results/road/index/train.tsv", ["mask_id"])
    assert index.mask_id.tolist() == ["1", "2", "3"]
    assert plan(copy) == ({}, "")
    (copy / "data").rename(copy / "archived")  # data that aren't there any more start nothing
    assert plan(copy) == ({}, "")
