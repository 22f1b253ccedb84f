"""A validation split out of the training images: by their ids alone."""

import numpy as np
import pytest
from command_line import run_script

from freemask import files, images, tables
from freemask.data.splits import split_of, take
from freemask.errors import InputError

IDS = [f"scene_{number:04d}" for number in range(2000)]


def test_an_id_decides_alone():
    """By hand: sha256("scene_0000") begins with 8ccb, 0.550 of 10000; sha256("scene_0001") with b986, 0.725."""
    for name, digits in (("scene_0000", "8ccb"), ("scene_0001", "b986")):
        place = int(digits, 16) / 0x10000
        assert [split_of(name, share) for share in (place - 1e-4, place + 1e-4)] == ["train", "val"]


def test_about_the_share_is_taken_and_a_larger_share_takes_more():
    tenth, fifth = ({name for name in IDS if split_of(name, share) == "val"} for share in (0.1, 0.2))
    assert 160 < len(tenth) < 240 and tenth < fifth


def test_no_part_is_empty():
    pairs = [(name, "", "") for name in IDS[:3]]
    with pytest.raises(InputError, match="validation_share = 0.0001 of 3 images leaves none for val; give a larger"):
        take(pairs, "train", 0.0001)
    with pytest.raises(InputError, match="leaves none for train; give a smaller share, or folders of its own"):
        take(pairs, "val", 0.9999)


def test_the_indexes_share_the_images(tmp_path):
    """Both records hold all files, since a new file may belong to either."""
    for name in IDS[:12]:
        for end, array in (("jpg", np.zeros((8, 8, 3), np.uint8)), ("png", np.ones((8, 8), np.uint8))):
            files.write_atomic(tmp_path / f"{name}.{end}", images.png_bytes(array))
    ids = {}
    for split in ("train", "val"):
        run_script("index_dataset", images=tmp_path, masks=tmp_path, image_suffix=".jpg", mask_suffix=".png",
                   validation_share=0.4, split=split, index=tmp_path / f"{split}.tsv",
                   files=tmp_path / f"{split}.files.json")  # fmt: skip
        ids[split] = tables.read_table(tmp_path / f"{split}.tsv", ["mask_id"]).mask_id.tolist()
        assert len(files.read_json(tmp_path / f"{split}.files.json")["files"]) == 24
    assert sorted(ids["train"] + ids["val"]) == IDS[:12]
    assert ids["val"] == [name for name in IDS[:12] if split_of(name, 0.4) == "val"] != []
