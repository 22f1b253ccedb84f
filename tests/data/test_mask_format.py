"""Masks as data sets have them: colours, TIFF files, labels without an ignored one."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import run_script
from PIL import Image

from freemask import images, tables
from freemask.data.check import read_file
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import MaskFormat
from freemask.data.masks import mask_path
from freemask.errors import InputError
from freemask.workflow.dataset_settings import read_dataset

SKY, ROAD, VOID = (128, 128, 128), (128, 64, 128), (0, 0, 0)
FACTS = {
    "title": "Road", "root": "data", "images": {"train": "images", "val": "images"},
    "masks": {"train": "masks", "val": "masks"}, "image_suffix": ".jpg", "mask_suffix": ".png", "mask_size": 8,
    "masks_are": "colors", "ignored_color": "#000000",
    "classes": [{"name": "sky", "color": "#808080"}, {"name": "road", "color": "#804080"}],
}  # fmt: skip


def facts(folder, **changes):
    """The data set's settings as the workflow reads them; None takes a key away."""
    settings = {key: value for key, value in (FACTS | changes).items() if value is not None}
    (folder / "config/datasets").mkdir(parents=True, exist_ok=True)
    (folder / "config/datasets/road.yaml").write_text(yaml.safe_dump(settings))
    return read_dataset("road", {}, folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        Path(name).mkdir()
    return tmp_path


def add(name, mask, **options):
    """A pair; mask: an image, or rows of colours."""
    mask = mask if isinstance(mask, Image.Image) else Image.fromarray(np.array(mask, np.uint8))
    mask.save(f"masks/{name}", **options)
    Image.new("RGB", mask.size, (len(name), 1, 2)).save(f"images/{Path(name).stem}.jpg")


def index(found, **options):
    """Index, check and resize, as the rules do."""
    accepted = json.dumps(found["mask_format"].to_json())
    found["label_space"].write("label_space.json")
    run_script("index_dataset", images="images", masks="masks", image_suffix=".jpg", mask_suffix=found["mask_suffix"],
               mask_format=accepted, labels_dir="labels", index="index.tsv", cache="cache", **options)  # fmt: skip
    run_script("check_dataset", index="index.tsv", label_space="label_space.json", mask_format=accepted,
               frequencies="check.tsv", offenders="offenders.tsv", cache="cache")  # fmt: skip
    run_script("resize_masks", index="index.tsv", label_space="label_space.json", mask_size=2, masks_dir="square",
               masks="masks.tsv")  # fmt: skip
    return tables.read_table("index.tsv", ["mask_id", "mask"])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("threads", [1, 2])
def test_colors_become_labels_once(folder, suffix, threads, capfd):
    found = facts(folder, mask_suffix=suffix)
    assert found["label_space"].ids == (0, 1) and found["label_space"].ignored == 2  # the lowest free one
    add(f"a{suffix}", [[SKY, SKY], [ROAD, VOID]])
    add(f"b{suffix}", Image.fromarray(np.array([[ROAD, SKY]], np.uint8)).convert("RGBA"))
    add(f"c{suffix}", Image.fromarray(np.array([[SKY, ROAD]], np.uint8)).quantize(4))  # a palette: its colours count
    add(f"d{suffix}", Image.new("L", (2, 1), 128))  # grey: (128, 128, 128)
    table = index(found, threads=threads)
    assert table["mask"].tolist() == [str(mask_path(Path("labels"), name)) for name in "abcd"]
    assert table.source.tolist() == [f"masks/{name}{suffix}" for name in "abcd"]
    assert [images.read_mask(path).tolist() for path in table["mask"]] == [
        [[0, 0], [1, 2]], [[1, 0]], [[0, 1]], [[0, 0]],
    ]  # fmt: skip
    frequencies = tables.read_table("check.tsv", ["label", "pixels", "images"])
    assert frequencies.pixels.tolist() == [6, 3] and frequencies.images.tolist() == [4, 3]
    assert "4 pairs are good, all files read before" in capfd.readouterr().err  # the index read them
    assert tables.read_table("masks.tsv", ["counts"]).counts.tolist()[0] == "0:2 1:1"


def test_unknown_colors_are_listed_with_the_nearest(folder):
    found = facts(folder)
    add("a.png", [[SKY, SKY], [ROAD, (129, 64, 130)]])
    add("b.png", [[SKY, (255, 255, 255), (255, 255, 255), (1, 0, 0), (0, 1, 0), (0, 0, 1)]])
    add("c.png", [[VOID, VOID]])
    with pytest.raises(InputError, match=r"^3 problem\(s\) in 3 pairs"):
        index(found)
    table = tables.read_table("offenders.tsv", ["path", "what", "remedy"])
    assert table.path.tolist() == ["masks/a.png", "masks/b.png", "masks/c.png"]
    assert table.what[0] == "colour(s) not in the class table: #814082 (1 pixels, nearest #804080)"
    assert table.what[1].startswith("colour(s) not in the class table: #ffffff (2 pixels, nearest #808080), ")
    assert table.what[1].endswith(" and 1 more") and "ignored_color" in table.remedy[0]
    assert table.what[2] == "no labelled pixel (all are #000000, which is ignored)"
    assert not mask_path(Path("labels"), "a").exists()


def test_another_color_of_a_class_is_read_anew(folder):
    add("a.png", [[SKY, ROAD]])
    index(facts(folder))
    classes = [{"name": "road", "color": "#804080"}, {"name": "sky", "color": "#808080"}]
    assert images.read_mask(index(facts(folder, classes=classes))["mask"][0]).tolist() == [[1, 0]]
    classes[1]["color"] = "#808081"
    with pytest.raises(InputError, match=r"#808080 \(1 pixels, nearest #808081\)"):
        index(facts(folder, classes=classes))


def test_a_mask_of_smoothed_colors_is_no_mask(tmp_path):
    ramp = np.arange(33 * 33, dtype=np.uint32).reshape(33, 33)
    Image.fromarray(np.stack([ramp % 256, ramp // 256, ramp % 7], axis=-1).astype(np.uint8)).save(tmp_path / "a.png")
    content = read_file("colors", str(tmp_path / "a.png"))
    assert content.what == "1089 colours, so many that it can't be a mask" and "smoothed" in content.remedy


def test_the_check_names_the_setting_for_colors(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    assert "masks_are: colors" in read_file("mask", str(tmp_path / "a.png")).remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [*FACTS["classes"], {"name": "wall", "color": "#808080"}]}, "sky and wall are all #808080"),
        ({"ignored_color": "#804080"}, "road and ignored_color are all #804080"),
        ({"masks_are": "labels", "ignored_color": None}, "classes.0: sky has no label"),
        ({"masks_are": None, "classes": [{**row, "label": n} for n, row in enumerate(FACTS["classes"])]},
         "ignored_color is for masks_are: colors"),
        ({"masks_are": "rgb"}, "masks_are = 'rgb'"),
        ({"ignored_color": "black"}, "want '#' and six hexadecimal digits"),
        ({"mask_suffix": ".jpg"}, "mask_suffix = '.jpg': want an end in .png, .tif or .tiff"),
        ({"ignored_label": 1}, "label 1 is also the data set's ignored label"),
        ({"classes": [{"name": str(n), "color": f"#0000{n:02x}"} for n in range(256)], "ignored_color": None},
         "256 classes leave no label for ignored pixels"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_right(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        facts(tmp_path, **changes)


BINARY = {
    "masks_are": None, "ignored_color": None,
    "classes": [{"label": 0, "name": "ground", "color": "#000000"},
                {"label": 255, "name": "flood", "color": "#0000ff"}],
}  # fmt: skip


def test_masks_of_0_and_255_need_no_ignored_label(folder):
    found = facts(folder, **BINARY)
    add("a.png", Image.fromarray(np.array([[0, 255]], np.uint8)))
    table = index(found)
    assert table["mask"].tolist() == ["masks/a.png"] and "source" not in table  # read as they are
    assert LabelSpace.read("label_space.json").ignored == 1  # what the filter writes
    assert LabelSpace.read("label_space.json").to_train(np.array([0, 255, 1], np.uint8)).tolist() == [0, 1, 255]
    add("b.png", Image.fromarray(np.array([[0, 1]], np.uint8)))  # not "ignored": no mask may hold it
    with pytest.raises(InputError, match=r"b.png: label\(s\) \[1\] not in the class table"):
        index(found)


def grey(value, mode="L"):
    return Image.new(mode, (2, 1), value)


def test_tiff_labels_become_png_labels(folder):
    found = facts(folder, **BINARY, mask_suffix=".tif")
    add("a.tif", Image.fromarray(np.array([[0, 255]], np.uint8)), compression="tiff_lzw")
    palette = Image.fromarray(np.array([[255, 0]], np.uint8))
    palette.putpalette(bytes(range(256)) * 3)
    add("b.tif", palette)
    assert [images.read_mask(path).tolist() for path in index(found)["mask"]] == [[[0, 255]], [[255, 0]]]
    add("c.tif", grey(3))
    with pytest.raises(InputError, match=r"1 problem\(s\) in 3 pairs.*\n  masks/c.tif: label\(s\) \[3\]"):
        index(found)


@pytest.mark.parametrize(
    ("image", "options", "what"),
    [
        (grey(0), {"save_all": True, "append_images": [grey(1)]}, "2 pages"),
        (grey(0, "I;16"), {}, "16 bits a channel"),
        (grey(0, "F"), {}, "32 bits a channel"),
        (grey(0), {"compression": "jpeg"}, "a TIFF with lossy compression"),
        (grey(0), {"tiffinfo": {274: 6}}, "an orientation"),
        (grey(0, "1"), {}, "mode 1"),
        (grey(0, "CMYK"), {}, "mode CMYK"),
        (grey(0, "RGB"), {}, "colours (mode RGB)"),
    ],
)
def test_tiff_files_that_hold_no_labels(tmp_path, image, options, what):
    path = tmp_path / "a.tif"
    image.save(path, **options)
    assert read_file("mask", str(path)).what.startswith(what)


def test_a_tiff_in_which_white_is_zero_would_be_read_inverted(tmp_path):
    path = tmp_path / "a.tif"
    grey(3).save(path)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        assert image.tag_v2[262] == 1
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01")  # tag 262, short, one value, 1
    content[at + 8] = 0
    path.write_bytes(content)
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == [[252, 252]]  # not what the file holds
    assert read_file("mask", str(path)).what.startswith("a TIFF in which white is 0")


def test_a_format_survives_json():
    space = LabelSpace((3, 7), ("a", "b"), ("a", "b"), ((1, 2, 3), (4, 5, 6)), 0)
    for found in (MaskFormat.of_labels(space), MaskFormat.of_labels(space, False), MaskFormat.of_colors(space, VOID)):
        assert MaskFormat.of_json(json.loads(json.dumps(found.to_json()))) == found
