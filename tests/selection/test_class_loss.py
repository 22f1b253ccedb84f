"""Sums of loss per image and class, cut into shards and added up again."""

import numpy as np
import pandas as pd
import pytest

from freemask import files, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.parallel import shard_number
from freemask.selection import class_loss, folds

SPACE = LabelSpace((3, 9), ("sky", "ship"), ("sky", "ship"), ((0, 0, 0), (1, 1, 1)), 0)


def test_sums_by_hand():
    loss = np.array([[0.5, 0.25], [2.0, 7.0]], np.float32)
    train = np.array([[0, 0], [1, 255]], np.uint8)
    assert class_loss.image_sums(loss, train, SPACE) == "3:2:0.75 9:1:2.0"
    assert class_loss.image_sums(loss, np.full((2, 2), 255, np.uint8), SPACE) == ""


def test_sums_equal_a_plain_loop_and_read_back_exactly():
    random = np.random.default_rng(0)
    loss = random.gamma(1, 1, (37, 23)).astype(np.float32)
    train = random.choice(np.array([0, 1, 255], np.uint8), loss.shape)
    total = [0.0, 0.0]
    for value, label in zip(loss.ravel().tolist(), train.ravel().tolist(), strict=True):
        if label != 255:
            total[label] += value
    entries = [entry.split(":") for entry in class_loss.image_sums(loss, train, SPACE).split()]
    assert [float(entry[2]) for entry in entries] == total
    assert [int(entry[1]) for entry in entries] == [(train == 0).sum(), (train == 1).sum()]


def write(folder, number, count):
    """An index and its shards; losses of which a plain sum depends on the order."""
    random = np.random.default_rng(5)
    ids = [f"m{position}" for position in range(number)]
    sums = {one: f"3:{position + 1}:{random.uniform(0, 1) * 10.0 ** random.integers(-12, 12)!s} 9:1:0.1"
            for position, one in enumerate(ids)}  # fmt: skip
    lines = [f"{one}\t{one}.jpg\t{one}.png" for one in ids]
    (folder / "index.tsv").write_text("\n".join(["mask_id\timage\tmask", *lines]) + "\n")
    paths = [folder / f"{part}-of-{count}.tsv" for part in range(1, count + 1)]
    for path in paths:
        rows = class_loss.shard_rows(tables.read_table(folder / "index.tsv", ["mask_id"]), path.stem)
        tables.write_table(path, rows[["mask_id"]].assign(sums=rows.mask_id.map(sums)))
    return paths


@pytest.mark.parametrize("number", [1, 32, 33, 200])
def test_any_number_of_shards_gives_the_same_sum(tmp_path, number):
    tables = [class_loss.gather_sums([tmp_path / "index.tsv"], write(tmp_path, number, count), SPACE)
              for count in (1, 2, 3, 7, 12)]  # fmt: skip
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].pixels.tolist() == [number * (number + 1) // 2, number]
    assert tables[0].class_loss[1] == pytest.approx(0.1 * number / (number + 1e-5), rel=1e-15)


def test_shards_that_do_not_belong_are_refused(tmp_path):
    paths = write(tmp_path, 100, 3)
    index = tmp_path / "index.tsv"
    with pytest.raises(InputError, match=r"2-of-3.tsv: holds m32 where .*index.tsv has m0; make all shards again"):
        class_loss.gather_sums([index], paths[1:], SPACE)
    with pytest.raises(InputError, match=r"2-of-3.tsv: holds m32 where"):
        class_loss.gather_sums([index], [paths[1], paths[0], paths[2]], SPACE)
    with pytest.raises(InputError, match=r"3-of-3.tsv: holds nothing where .* has m64"):
        files.write_atomic(paths[2], b"mask_id\tsums\n")
        class_loss.gather_sums([index], paths, SPACE)
    write(tmp_path, 100, 3)
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-40]))
    with pytest.raises(InputError, match=r"1-of-3.tsv: holds m96 beyond the rows"):
        class_loss.gather_sums([index], paths, SPACE)


@pytest.mark.parametrize("sums", ["3:1", "4:1:0.5", "3:1:nan", "3:1:-2.0", "x"])
def test_broken_sums_are_refused(tmp_path, sums):
    (path,) = write(tmp_path, 1, 1)
    tables.write_table(path, pd.DataFrame({"mask_id": ["m0"], "sums": [sums]}))
    with pytest.raises(InputError, match=r"1-of-1.tsv: the sums of m0"):
        class_loss.gather_sums([tmp_path / "index.tsv"], [path], SPACE)


@pytest.mark.parametrize("item", ["0-of-2", "3-of-2", "1", "a-of-b"])
def test_a_shard_that_is_none_is_refused(tmp_path, item):
    with pytest.raises(InputError, match=f"shard '{item}'"):
        shard_number(item)


def test_the_losses_of_folds_add_up_to_those_of_all_images(tmp_path):
    """The same sums, cut into three folds of two shards each."""
    shards = write(tmp_path, 100, 1)
    whole = class_loss.gather_sums([tmp_path / "index.tsv"], shards, SPACE)
    index, sums = tables.read_table(tmp_path / "index.tsv", ["mask_id"]), tables.read_table(shards[0], ["sums"])
    indexes, parts = [], []
    for fold in ("1-of-3", "2-of-3", "3-of-3"):
        train, held = folds.split(index, fold)
        assert sorted([*train.mask_id, *held.mask_id]) == sorted(index.mask_id) and len(held) in (33, 34)
        indexes.append(tmp_path / f"{fold}.held.tsv")
        tables.write_table(indexes[-1], held)
        for part in ("1-of-2", "2-of-2"):
            parts.append(tmp_path / f"{fold}.{part}.tsv")
            tables.write_table(parts[-1], class_loss.shard_rows(sums.loc[held.index], part))
    assert class_loss.gather_sums(indexes, parts, SPACE).equals(whole)
    with pytest.raises(InputError, match="5 shards of 3 indexes"):
        class_loss.gather_sums(indexes, parts[:-1], SPACE)
    with pytest.raises(InputError, match=r"2-of-3.1-of-2.tsv: holds m1 where .*1-of-3.held.tsv has m0"):
        class_loss.gather_sums(indexes, [*parts[2:4], *parts[:2], *parts[4:]], SPACE)


def test_windows_of_an_image_stay_together():
    """They overlap, so one that is trained on would give the others away."""
    index = pd.DataFrame({"mask_id": [f"m{i}__y00000_x{x:05d}" for i in range(6) for x in (0, 448)]})
    train, held = folds.split(index, "2-of-3")
    assert held.mask_id.str[:2].tolist() == ["m1", "m1", "m4", "m4"] and len(train) == 8


def test_more_folds_than_half_the_images_are_refused():
    with pytest.raises(InputError, match=r"class_loss.folds = 3, but there are 5 training images; choose fewer"):
        folds.split(pd.DataFrame({"mask_id": list("abcde")}), "1-of-3")
