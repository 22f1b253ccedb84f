"""The procedural world: seeded, disjoint splits, ADE20K's layout and labels, long-tailed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from freemask.data.label_space import LabelSpace
from freemask.data.miniworld.dataset import render_stream, scene, write_split
from freemask.data.miniworld.scenes import SHIP, SKY

ROOT = Path(__file__).parents[2]


def test_a_scene_is_a_function_of_split_index_and_seed():
    first, again = scene("training", 3, seed=1, side=64), scene("training", 3, seed=1, side=64)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for other in (scene("validation", 3, 1, 64), scene("training", 4, 1, 64), scene("training", 3, 2, 64)):
        assert (first[0] != other[0]).any()


def test_written_files_are_what_was_rendered(tmp_path):
    names = write_split(tmp_path, "training", count=2, seed=5, side=64)
    image, labels = scene("training", 1, 5, 64)
    written = np.asarray(Image.open(tmp_path / "annotations" / "training" / f"{names[1]}.png"))
    assert written.dtype == np.uint8 and (written == labels).all()
    jpeg = np.asarray(Image.open(tmp_path / "images" / "training" / f"{names[1]}.jpg")).astype(int)
    assert np.abs(jpeg - image).mean() < 6  # what JPEG at quality 95 leaves of the camera's noise


def test_labels_are_those_of_the_class_table_and_long_tailed():
    label_space = LabelSpace.of_class_table("config/datasets/miniworld.tsv", ignored=0)
    pixels = np.zeros(256, int)
    for index in range(150):
        labels = scene("validation", index, seed=2026, side=64)[1]
        label_space.to_train(labels)  # strict: raises for any other label
        pixels += np.bincount(labels.ravel(), minlength=256)
    share = pixels / pixels.sum()
    assert (pixels[list(label_space.ids)] > 0).all()
    assert share[SKY] > 0.2 and share[SHIP] < 0.01


def test_missing_objects_leave_the_mask_as_it_is():
    """A generator's faulty pairs: the mask claims an object that the image lacks."""
    whole = [scene("generator", index, 1, 64, missing=0.0) for index in range(40)]
    faulty = [scene("generator", index, 1, 64, missing=1.0) for index in range(40)]
    ships = [i for i, (_, labels) in enumerate(whole) if (labels == SHIP).sum() > 20]
    assert ships
    for index in ships:
        # The layout is drawn before the faults, so the masks agree.
        assert (whole[index][1] == faulty[index][1]).all()


def test_the_stream_is_the_generator_split(monkeypatch):
    images, labels = render_stream(3, seed=7, side=32, missing=0.0)
    image, mask = scene("generator", 2, 7, 32)
    assert images.shape == (3, 32, 32, 3) and labels.shape == (3, 32, 32)
    assert (images[2] == image).all() and (labels[2] == mask).all()


@pytest.mark.parametrize("table", ["ade20k", "cocostuff164k", "miniworld"])
def test_shipped_class_tables_are_valid(table):
    label_space = LabelSpace.of_class_table(
        f"config/datasets/{table}.tsv", ignored=255 if table == "cocostuff164k" else 0
    )
    assert len(label_space) == {"ade20k": 150, "cocostuff164k": 171, "miniworld": 12}[table]


def test_a_data_set_of_camvids_shape_in_each_form(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("road_scenes", ROOT / "benchmarks/road_scenes.py")
    spec.loader.exec_module(road := importlib.util.module_from_spec(spec))
    monkeypatch.setattr(road, "TILE", 500)
    for form in ("labels", "colors", "tiles"):
        road.road_scenes(root=tmp_path / form, form=form, number=1)
    found = {(form, split): Image.open(tmp_path / f"{form}/masks/{split}/0000.png")
             for form in ("labels", "colors", "tiles") for split in road.SPLITS}  # fmt: skip
    for split in road.SPLITS:
        labels = np.array(found["labels", split])
        assert labels.shape == (360, 480) and labels.max() <= road.VOID == len(road.CLASSES) == 11
        assert (np.array(found["colors", split]) == road.colored(labels, True)).all()
        assert found["tiles", split].size == Image.open(tmp_path / f"tiles/images/{split}/0000.jpg").size == (500, 500)
    assert (np.array(found["labels", "train"]) != np.array(found["labels", "val"])).any()
