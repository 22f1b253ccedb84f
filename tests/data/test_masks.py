"""Pairs of files, nearest resizing, label counts."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import run_script
from cyclopts import CycloptsError
from PIL import Image

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import LabelCounts, count_labels, files_of, match_files, resize_nearest, write_mask
from freemask.errors import InputError

CLASSES = "label\tname\tword\tcolor\n1\tsky\tsky\t#80c0ff\n2\troad\troad\t#808080\n7\tship\tship\t#c02020\n"


@pytest.fixture
def folders(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.tsv").write_text(CLASSES)
    LabelSpace.of_class_table(tmp_path / "classes.tsv", 0).write(tmp_path / "label_space.json")
    return tmp_path


def add(folder, mask_id, labels, image=True):
    if image:
        (folder / "images" / f"{mask_id}.jpg").write_bytes(b"not opened here")
    Image.fromarray(np.array(labels, np.uint8)).save(folder / "masks" / f"{mask_id}.png")


def index(folder):
    run_script("index_dataset", images=folder / "images", masks=folder / "masks", image_suffix=".jpg",
                mask_suffix=".png", index=folder / "index.tsv")  # fmt: skip
    return tables.read_table(folder / "index.tsv", ["mask_id", "image", "mask"])


def resize(folder, size=2, threads=1):
    run_script("resize_masks", index=folder / "index.tsv", label_space=folder / "label_space.json",
                mask_size=size, masks_dir=folder / "square", masks=folder / "masks.tsv", threads=threads)  # fmt: skip
    return tables.read_table(folder / "masks.tsv", ["mask_id", "mask", "counts"])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_index_differs_where_a_file_of_the_same_name_does(folders, threads):
    def make():
        run_script("index_dataset", images=folders / "images", masks=folders / "masks", image_suffix=".jpg",
                   mask_suffix=".png", index=folders / "index.tsv", threads=threads)  # fmt: skip
        return (folders / "index.tsv").read_bytes()

    add(folders, "a", [[1, 2]])
    add(folders, "b", [[1]])
    before = make()
    row = tables.read_table(folders / "index.tsv", ["image_sha256", "mask_sha256"]).iloc[0]
    mask = folders / "masks" / "a.png"
    assert (row.image_sha256, row.mask_sha256) == (files.sha256(folders / "images" / "a.jpg"), files.sha256(mask))
    os.utime(mask, (1, 1))  # another clone
    assert make() == before
    add(folders, "a", [[2, 1]])
    assert make() != before
    add(folders, "a", [[1, 2]])
    assert make() == before
    (folders / "images" / "b.jpg").write_bytes(b"not open3d here")  # of the same size
    assert make() != before
    mask.unlink()
    mask.symlink_to("nowhere")  # check_dataset names it, with all others
    make()
    assert tables.read_table(folders / "index.tsv", ["mask_sha256"]).mask_sha256.isna()[0]


def test_pairs_are_sorted_and_keep_leading_zeros(folders):
    for mask_id in ("010", "002"):
        add(folders, mask_id, [[1]])
    table = index(folders)
    assert table.mask_id.tolist() == ["002", "010"]
    assert table.image.tolist() == [str(folders / "images" / f"{i}.jpg") for i in ("002", "010")]
    assert table["mask"].tolist() == [str(folders / "masks" / f"{i}.png") for i in ("002", "010")]


def test_suffixes_may_be_more_than_an_extension_and_folders_nested(tmp_path):
    (tmp_path / "a" / "aachen").mkdir(parents=True)
    (tmp_path / "b" / "aachen").mkdir(parents=True)
    (tmp_path / "a" / "aachen" / "x_1_left.png").touch()
    (tmp_path / "a" / "aachen" / "._x_1_left.png").touch()  # what macOS leaves behind
    (tmp_path / "b" / "aachen" / "x_1_labels.png").touch()
    (tmp_path / "b" / "aachen" / "x_1_color.png").touch()
    pairs, unpaired = match_files(tmp_path / "a", tmp_path / "b", "_left.png", "_labels.png")
    assert [mask_id for mask_id, *_ in pairs] == ["x_1"] and not unpaired


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize("end", ["_labelTrainIds.png", "_color.png", "-color.png", ".instances.png", "_gtFine_a.png"])
def test_label_files_of_another_convention_are_recognised(tmp_path, end):
    touch(tmp_path / "a", "1.jpg", "2.jpg")
    touch(tmp_path / "b", "1.png", "2.png", f"1{end}", f"2{end}")
    pairs, [(path, what, remedy)] = match_files(tmp_path / "a", tmp_path / "b", ".jpg", ".png")
    assert path == str(tmp_path / "b") and what.startswith(f"2 files <id>{end} beside files <id>.png")
    assert f"ignored_suffixes: [{end}]" in remedy
    again, unpaired = match_files(tmp_path / "a", tmp_path / "b", ".jpg", ".png", [end])
    assert [Path(mask).name for *_, mask in again] == ["1.png", "2.png"] and again == pairs and not unpaired
    others, unpaired = match_files(tmp_path / "a", tmp_path / "b", ".jpg", end)
    assert [Path(mask).name for *_, mask in others] == [f"1{end}", f"2{end}"] and not unpaired


def test_a_suffix_that_fits_no_image_is_answered_by_the_one_that_does(tmp_path):
    touch(tmp_path / "a", "0001TP_0.png", "0001TP_1.png")
    touch(tmp_path / "b", "0001TP_0_L.png", "0001TP_1_L.png")
    pairs, [(_, what, remedy)] = match_files(tmp_path / "a", tmp_path / "b", ".png", ".png")
    assert not pairs and what == "2 files <id>_L.png, and no <id>.png of the same ids"
    assert "mask_suffix: _L.png;" in remedy
    touch(tmp_path / "c", "mask_0.png")
    _, [(_, what, _)] = match_files(tmp_path / "a", tmp_path / "c", ".png", ".png")
    assert what == "no image has a mask: images have ids like '0001TP_0', masks ids like 'mask_0'"


def test_accents_that_systems_store_differently_pair(tmp_path):
    touch(tmp_path / "a", "caf\u00e9.jpg", "cafe.jpg")
    touch(tmp_path / "b", "cafe\u0301.png", "cafe.png")
    pairs, unpaired = match_files(tmp_path / "a", tmp_path / "b", ".jpg", ".png")
    assert [key for key, *_ in pairs] == ["cafe", "caf\u00e9"] and not unpaired


@pytest.mark.parametrize("target", [".", "..", "../b"])
def test_a_folder_in_itself_is_refused(tmp_path, target):
    touch(tmp_path / "a", "1.jpg")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/back").symlink_to(tmp_path / "a")
    (tmp_path / "a/again").symlink_to(target)
    with pytest.raises(InputError, match=r"a/again\S*: a link to a folder that holds it, .*; take it out"):
        match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png", ids_from="path")


@pytest.mark.parametrize("folder", ["@eaDir", "__MACOSX", ".ipynb_checkpoints"])
def test_folders_of_systems_hold_no_images(tmp_path, folder):
    touch(tmp_path / "a", "1.jpg", "1.png", "Thumbs.db", ".DS_Store", "._1.jpg")
    touch(tmp_path / "a" / folder, "1.jpg", "1.png")
    assert len(match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png")[0]) == 1


@pytest.mark.parametrize("image, mask", [(".png", "_mask.png"), ("_rgb.png", ".png"), (".PNG", "_mask.png")])
def test_images_and_masks_in_one_folder_with_one_extension(tmp_path, image, mask):
    touch(tmp_path / "a", f"1{image}", f"1{mask}", f"2{image}", f"2{mask.upper()}")
    pairs, unpaired = match_files(tmp_path / "a", tmp_path / "a", image, mask)
    found = [(key, Path(one).name, Path(other).name) for key, one, other in pairs]
    assert found == [("1", f"1{image}", f"1{mask}"), ("2", f"2{image}", f"2{mask.upper()}")] and not unpaired


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    """Tests may run as root, whom permissions don't stop: the system's answer is given here."""
    touch(tmp_path / "a", "1.jpg", "1.png")
    touch(tmp_path / "a" / "deep", "2.jpg")
    list_folder = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"a/deep: can't be listed \(Permission denied\); make it readable"):
        match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png")


@pytest.mark.parametrize(
    "name, message",
    [
        (b"caf\xe9.jpg", r"a/caf\\udce9.jpg: a file name that isn't UTF-8"),
        (b"a\tb.jpg", "a control character"),
        (b"a\nb.jpg", "a control character"),
        ("a\x85b.jpg".encode(), "a control"),
        ("a\u2028b.jpg".encode(), "a control"),
        (b"x" * 151 + b".jpg", "an id of 151 bytes"),
        (b"nan.jpg", "rename it"),
    ],
)
def test_names_that_tables_cannot_hold_are_refused(tmp_path, name, message):
    touch(tmp_path / "a", "1.png", "2\u3000\u00e4.jpg")  # a space and a letter are fine
    (tmp_path / "a" / os.fsdecode(name)).touch()
    with pytest.raises(InputError, match=message):
        match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png")


def test_image_without_mask_and_the_reverse_are_errors(folders):
    for number in range(8):
        (folders / "images" / f"{number}.jpg").touch()
    add(folders, "7", [[1]])
    add(folders, "lonely", [[1]], image=False)
    stands = (
        r"8 file\(s\) stand alone: \S*0.jpg \(image without a mask\), .*4.jpg \(image without a mask\) \(and 3 more\);"
    )
    with pytest.raises(InputError, match=rf"{stands} put <id>.png into \S*masks or take the image out"):
        index(folders)
    assert not (folders / "index.tsv").exists()
    for number in range(7):
        (folders / "images" / f"{number}.jpg").unlink()
    with pytest.raises(
        InputError, match=r"1 file\(s\) stand alone: \S*lonely.png \(mask without an image\); put <id>.jpg"
    ):
        index(folders)


def test_empty_and_missing_folders_and_twin_ids_are_errors(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    with pytest.raises(InputError, match="no such folder of images"):
        match_files(tmp_path / "none", tmp_path / "a", ".jpg", ".png")
    with pytest.raises(InputError, match="holds no image that ends in '.jpg'"):
        match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png")
    for folder in ("a", "a/deep"):
        (tmp_path / folder / "1.jpg").touch()
    with pytest.raises(InputError, match="id '1' stands for"):
        match_files(tmp_path / "a", tmp_path / "a", ".jpg", ".png")


def test_ids_from_paths_tell_files_of_one_name_apart(folders):
    for patient in ("p1", "p2/left"):
        for name in ("images", "masks"):
            (folders / name / patient).mkdir(parents=True)
        add(folders, f"{patient}/slice_1", [[1, 2]])
    add(folders, "slice_1", [[7]])
    with pytest.raises(InputError, match=r"id 'slice_1' stands for .*; rename one, or write `ids_from: path`"):
        index(folders)
    run_script("index_dataset", images=folders / "images", masks=folders / "masks", image_suffix=".jpg",
               mask_suffix=".png", ids_from="path", index=folders / "index.tsv")  # fmt: skip
    table = resize(folders)
    assert table.mask_id.tolist() == ["p1__slice_1", "p2__left__slice_1", "slice_1"]
    assert [Path(path).stem for path in table["mask"]] == table.mask_id.tolist()  # one folder, no subfolders
    assert table.counts.tolist() == ["1:2 2:2", "1:2 2:2", "7:4"]


def test_ids_from_paths_may_not_meet_either(tmp_path):
    for name in ("a/b/c__d.png", "a/b__c/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"id 'b__c__d' stands for .*; rename one$"):
        match_files(tmp_path / "a", tmp_path / "a", ".png", ".png", ids_from="path")


def test_images_and_masks_in_different_subfolders_do_not_pair(tmp_path):
    touch(tmp_path / "a", "1.jpg")
    (tmp_path / "a/p1").mkdir()
    touch(tmp_path / "a/p1", "2.jpg")
    (tmp_path / "b/p2").mkdir(parents=True)
    touch(tmp_path / "b", "1.png")
    touch(tmp_path / "b/p2", "2.png")
    pairs, unpaired = match_files(tmp_path / "a", tmp_path / "b", ".jpg", ".png", ids_from="path")
    assert [key for key, *_ in pairs] == ["1"] and [what for _, what, _ in unpaired] == [
        "image without a mask", "mask without an image",
    ]  # fmt: skip


def test_files_of_subfolders_and_other_cases_count(tmp_path):
    for name in ("a.png", "aachen/b.PNG", "aachen/b.json", "aachen/b_color.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for name, _ in files_of(tmp_path, ".png", ["_color.png"])] == ["a", "b"]


def test_nearest_by_hand():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    # centres of rows 0.75, 2.25: rows 0, 2; centres of columns 1, 3
    assert resize_nearest(mask, 2).tolist() == [[1, 3], [9, 11]]
    # rows floor((i + 1/2) * 3 / 5) = 0 0 1 2 2; columns floor((i + 1/2) * 4 / 5) = 0 1 2 2 3
    assert resize_nearest(mask, 5)[[0, 2, 4]].tolist() == [[0, 1, 2, 2, 3], [4, 5, 6, 6, 7], [8, 9, 10, 10, 11]]


def test_nearest_is_pillows_with_which_the_released_code_resizes_masks():
    random = np.random.default_rng(0)
    for height, width in ((512, 683), (256, 256), (1536, 2048), (640, 480), (427, 640), (1, 300)):
        mask = random.integers(0, 256, (height, width), dtype=np.uint8)
        resized = Image.fromarray(mask).resize((512, 512), Image.Resampling.NEAREST)
        assert np.array_equal(resize_nearest(mask, 512), np.asarray(resized))


def test_counts_leave_out_the_ignored_label_and_parse_back():
    mask = np.array([[0, 0, 7], [2, 7, 7]], np.uint8)
    assert count_labels(mask, ignored=0) == "2:1 7:3"
    assert count_labels(np.zeros((2, 2), np.uint8), ignored=0) == ""
    counts = LabelCounts.parse(["2:1 7:3", "", "1:4"])
    assert counts.row.tolist() == [0, 0, 2] and counts.label.tolist() == [2, 7, 1]
    assert counts.sum_by_mask(counts.pixels).tolist() == [4, 0, 4]
    assert counts.sum_by_label([1, 2, 3]) == {1: 4, 2: 1, 3: 0}
    for broken in ("2:1 7", "2;1", "2:x", "300:1", "2:-1", ":5 3"):
        with pytest.raises(InputError, match="counts aren't"):
            LabelCounts.parse(["1:1", broken])


def test_counts_of_many_masks_are_parsed_as_those_of_each():
    texts = [count_labels(np.arange(row % 11)) for row in range(2500)]
    counts = LabelCounts.parse(texts)
    assert counts.masks == 2500 and counts.row.tolist() == [row for row in range(2500) for _ in range(row % 11)]
    assert counts.label.tolist() == [label for row in range(2500) for label in range(row % 11)]
    assert set(counts.pixels) == {1}
    for broken in (0, 1100, 2499):
        with pytest.raises(InputError, match="counts aren't"):
            LabelCounts.parse([*texts[:broken], "1:1 2", *texts[broken + 1 :]])
    assert LabelCounts.parse([]).masks == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_resized_masks_and_counts(folders, threads):
    add(folders, "a", [[1, 1, 0, 0], [1, 1, 0, 0], [7, 7, 2, 2], [7, 7, 2, 2]])
    add(folders, "b", [[0, 7]])
    index(folders)
    table = resize(folders, threads=threads)
    assert table.counts.tolist() == ["1:1 2:1 7:1", "7:2"]
    assert table.mask_sha256.tolist() == [files.sha256(path) for path in table["mask"]]
    assert images.read_mask(table["mask"][0]).tolist() == [[1, 0], [7, 2]]
    assert images.read_mask(table["mask"][1]).tolist() == [[0, 7], [0, 7]]


def test_a_mask_whose_labels_vanish_in_its_square_is_left_out_with_a_warning(folders, capsys):
    """The check accepts it, and hardness, after the scorer's training, would refuse it; of a window nobody can."""
    add(folders, "a", [[0, 1], [0, 0], [0, 0], [0, 0]])  # its rows 1 and 3 are taken
    index(folders)
    with pytest.raises(InputError, match="no mask is left; give a larger mask_size"):
        resize(folders)
    add(folders, "b", [[1, 0]])
    index(folders)
    table = resize(folders)
    assert table.mask_id.tolist() == ["b"] and table.counts.tolist() == ["1:2"]
    said = "1 of 2 masks have no labelled pixel at 2x2, so no image is made of them: a\n"
    assert capsys.readouterr().err.endswith(f"warning: {folders / 'masks.tsv'}: {said}")


def test_resizing_again_writes_nothing_again_and_repairs_damage(folders):
    add(folders, "a", [[1, 2]])
    add(folders, "b", [[2, 7]])
    index(folders)
    table = resize(folders)
    before = [files.Path(path).stat().st_mtime_ns for path in table["mask"]]
    files.Path(table["mask"][1]).write_bytes(b"cut off")
    resize(folders)
    after = [files.Path(path).stat().st_mtime_ns for path in table["mask"]]
    assert after[0] == before[0] and after[1] != before[1]
    assert images.read_mask(table["mask"][1]).tolist() == [[2, 7], [2, 7]]
    assert write_mask(table["mask"][0], np.array([[2]], np.uint8)) is True
    assert write_mask(table["mask"][0], np.array([[2]], np.uint8)) is False


def test_every_unusable_mask_is_named_and_no_table_written(folders):
    add(folders, "a", [[1, 2, 2, 99]])  # 99 would vanish at 2x2
    add(folders, "b", [[1]])
    (folders / "masks" / "b.png").write_bytes(b"")
    add(folders, "c", [[1]])
    Image.new("RGB", (2, 2)).save(folders / "masks" / "c.png")
    add(folders, "d", [[1]])
    index(folders)
    with pytest.raises(InputError) as error:
        resize(folders)
    text = str(error.value)
    assert text.startswith("3 of 4 masks can't be used")
    assert "a.png: label(s) [99]" in text and "b.png: cannot be read" in text and "c.png: mode RGB" in text
    assert not (folders / "masks.tsv").exists()
    with pytest.raises(CycloptsError, match='"0" for --mask-size'):
        resize(folders, size=0)
    with pytest.raises(CycloptsError, match='"0" for --threads'):
        resize(folders, threads=0)
