"""Raw labels, train ids, colours; strictness."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from mmseg.datasets import ADE20KDataset, COCOStuffDataset

from freemask.data.label_space import IGNORE_INDEX, LabelSpace
from freemask.errors import InputError
from freemask.workflow.dataset_settings import read_dataset

SPACE = LabelSpace((3, 7, 104), ("sky", "road", "ship"), ("sky", "road", "ship"), ((1, 2, 3),) * 3, ignored=0)


def test_raw_to_train_and_back():
    raw = np.array([[3, 104], [0, 7]], np.uint8)
    train = SPACE.to_train(raw)
    assert train.tolist() == [[0, 2], [IGNORE_INDEX, 1]]
    assert (SPACE.to_raw(train) == raw).all()


def test_an_undefined_label_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"harbour: label\(s\) \[9\]"):
        SPACE.to_train(np.array([[3, 9]], np.uint8), "harbour")


def test_ignored_pixels_are_black_or_grey_where_a_class_is_nearly_black():
    assert SPACE.colorize(np.array([[0, 3]], np.uint8)).tolist() == [[[64, 64, 64], [1, 2, 3]]]
    other = dataclasses.replace(SPACE, colors=tuple((200, 200, green) for _, green, _ in SPACE.colors))
    assert other.colorize(np.array([[0]], np.uint8)).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3\tsky\tsky\t#0000ff", "more than one line"),
        ("300\tx\tx\t#0000ff", "want a whole number in 0..255"),
        ("0\tx\tx\t#0000ff", "also the data set's ignored label"),
        ("4\tx\t\t#0000ff", "has no word"),
        ("4\tnan\tx\t#0000ff", "has no name"),
        ("4\tx\tx\tblue", "want #rrggbb"),
        ("4\tx\tx\t#00zzff", "want #rrggbb"),
    ],
)
def test_bad_class_tables(tmp_path, line, message):
    path = tmp_path / "classes.tsv"
    path.write_text(f"label\tname\tword\tcolor\n3\tsky\tsky\t#0000ff\n{line}\n")
    with pytest.raises(InputError, match=message):
        LabelSpace.of_class_table(path, ignored=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label\tname\tword\tcolor\n1\tTür\tTür\t#0000ff\n".encode("latin-1"), "not UTF-8 .a byte 0xfc.*iconv"),
        ("label\tname\tword\tcolor\n".encode("utf-16"), "not UTF-8"),  # Excel's "Unicode text"
        (b"label name  word color\n1 sky sky #0000ff\n", "separated by spaces, want tabs"),
        (b"label,name,word,color\n1,sky,sky,#0000ff\n", "separated by commas, want tabs"),
        (b"label;name;word;color\n1;sky;sky;#0000ff\n", "separated by semicolons, want tabs"),
        ("\ufefflabel\tname\tword\tcolor\r\n1\tTür\tTür\t#0000ff\r\n".encode(), ""),  # Excel's UTF-8
    ],
)
def test_tables_as_other_programs_write_them(tmp_path, content, message):
    path = tmp_path / "classes.tsv"
    path.write_bytes(content)
    if not message:
        assert LabelSpace.of_class_table(path, ignored=0).names == ("Tür",)
        return
    with pytest.raises(InputError, match=rf"classes.tsv: .*{message}"):
        LabelSpace.of_class_table(path, ignored=0)


FACTS = """title: Harbour
root: data/harbour
images: {train: a, val: b}
masks: {train: c, val: d}
image_suffix: .jpg
mask_suffix: .png
ignored_label: 255
mask_size: 64
"""


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ('[{label: 10, name: sea, color: "#2060a0"}, {label: 9, name: s, word: ship, color: "#c02020"}]', ""),
        ('[{label: 10, name: sea, color: "#2060a0"}, {label: 10, name: s, color: "#c02020"}]', "label 10 stands on"),
        ('[{label: 255, name: sea, color: "#2060a0"}]', "label 255 is also the data set's ignored label"),
        ('[{label: 300, name: sea, color: "#2060a0"}]', r"harbour.yaml: classes.0.label = 300"),
        ('[{label: 1, name: sea, color: red}]', r"harbour.yaml: classes.0.color = 'red': want .#"),
        ('[{label: 1, color: "#2060a0"}]', r"harbour.yaml: classes.0: 'name' is a required property"),
        ("[]", r"harbour.yaml: classes = \[\]"),
    ],
)  # fmt: skip
def test_a_data_set_may_list_its_classes_itself(tmp_path, classes, error):
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/schemas").symlink_to(Path("config/schemas").resolve())
    (tmp_path / "config/datasets/harbour.yaml").write_text(f"{FACTS}classes: {classes}\n")
    if error:
        with pytest.raises(InputError, match=error):
            read_dataset("harbour", {}, tmp_path)
        return
    facts = read_dataset("harbour", {}, tmp_path)
    label_space = facts["label_space"]
    assert (label_space.ids, label_space.words) == ((10, 9), ("sea", "ship"))


def test_a_label_space_is_written_and_read(tmp_path):
    path = tmp_path / "label_space.json"
    space = LabelSpace.of_class_table("config/datasets/ade20k.tsv", 0)
    space.write(path)
    assert LabelSpace.read(path) == space
    path.write_text("[]")
    with pytest.raises(InputError, match="label_space.json: not a label space"):
        LabelSpace.read(path)


@pytest.mark.parametrize(
    ("row", "ignored", "message"),
    [
        ("9\tgull\tgull\t#010203", 0, "label 9 stands on more than one line"),
        ("300\tgull\tgull\t#010203", 0, "label 300, want a whole number"),
        ("x\tgull\tgull\t#010203", 0, "label 'x', want a whole number|label '9'"),
        ("7\tgull\tgull\t#010203", 9, "label 9 is also"),
        ("7\tgull\t\t#010203", 0, "label 7 has no word"),
        ("7\tgull\tgull\tred", 0, "color 'red'"),
        ("7\tgull\tgull\t#010203", 300, "ignored_label = 300"),
    ],
)
def test_class_tables_that_are_refused(tmp_path, row, ignored, message):
    path = tmp_path / "classes.tsv"
    path.write_text(f"label\tname\tword\tcolor\n9\tship\tship\t#ff3d00\n{row}\n")
    with pytest.raises(InputError, match=message):
        LabelSpace.of_class_table(path, ignored)


def test_a_class_table_without_a_class_is_refused(tmp_path):
    (tmp_path / "classes.tsv").write_text("label\tname\tword\tcolor\n")
    with pytest.raises(InputError, match="classes.tsv: no class"):
        LabelSpace.of_class_table(tmp_path / "classes.tsv", 0)
    with pytest.raises(InputError, match="gone.tsv: no such table"):
        LabelSpace.of_class_table(tmp_path / "gone.tsv", 0)


def test_ade20k_is_1_to_150_and_0_is_ignored():
    facts = yaml.safe_load(Path("config/datasets/ade20k.yaml").read_text())
    label_space = LabelSpace.of_class_table(facts["classes"], facts["ignored_label"])
    assert label_space.ids == tuple(range(1, 151)) and label_space.ignored == 0
    raw = np.arange(151, dtype=np.uint8)
    assert label_space.to_train(raw).tolist() == [IGNORE_INDEX, *range(150)]  # mmsegmentation's reduce_zero_label
    assert list(label_space.names) == [name.strip() for name in ADE20KDataset.METAINFO["classes"]]


def test_coco_stuffs_raw_ids_become_mmsegmentations_train_ids_and_no_other():
    facts = yaml.safe_load(Path("config/datasets/cocostuff164k.yaml").read_text())
    label_space = LabelSpace.of_class_table(facts["classes"], facts["ignored_label"])
    assert len(label_space) == 171 and sorted(label_space.ids) == list(label_space.ids) and label_space.ignored == 255
    raw = np.array([*label_space.ids, 255], np.uint8)
    assert label_space.to_train(raw).tolist() == [*range(171), IGNORE_INDEX]
    assert (label_space.to_raw(label_space.to_train(raw)) == raw).all()
    for unmapped in set(range(255)) - set(label_space.ids):
        with pytest.raises(InputError, match=rf"m.png: label\(s\) \[{unmapped}\] not in the data set's class table"):
            label_space.to_train(np.array([0, unmapped, 255], np.uint8), "m.png")
    assert [name.strip() for name in COCOStuffDataset.METAINFO["classes"]] == list(label_space.names)


def test_coco_stuff_has_no_train_id_for_eleven_raw_ids():
    label_space = LabelSpace.of_class_table("config/datasets/cocostuff164k.tsv", ignored=255)
    assert sorted(set(range(182)) - set(label_space.ids)) == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
