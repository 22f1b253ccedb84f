"""Raw data compared with the record of their index; equal images."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from freemask.data import changes as library
from freemask.data.changes import FIRST, compare, write_record
from freemask.data.check import Checked, Content, Report, duplicates, equal_images, read_file

RECORD, STATE = Path("train.files.json"), Path("train.state")
PATHS = ["a.png", "b.png", "c.png", "d.png"]


def state_of(path: str, kind: str = "image") -> Checked:
    status, digest = os.stat(path), hashlib.sha256(Path(path).read_bytes()).hexdigest()
    content = Content() if kind == "image" else read_file(kind, path)
    return Checked(kind, path, status.st_size, status.st_mtime_ns, digest, content)


def record() -> None:
    write_record(RECORD, [(state_of(one), state_of(other)) for one, other in zip(PATHS[::2], PATHS[1::2], strict=True)],
                 STATE)  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in PATHS:
        Path(path).write_text(path)
    assert not str(compare(None, PATHS, STATE)) and STATE.read_text() == FIRST
    record()
    assert not str(compare(RECORD, PATHS, STATE)) and STATE.read_text() == FIRST


def other_bytes(path: str, text: str) -> None:
    """Write other bytes at another time: a coarse clock may give both writes one."""
    Path(path).write_text(text)
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("change", "paths", "said"),
    [
        (lambda: other_bytes("a.png", "A.png"), PATHS, "1 changed (a.png)"),  # of the same size
        (lambda: other_bytes("b.png", "b.p"), PATHS, "1 changed (b.png)"),  # truncated
        (lambda: Path("e.png").write_text("e"), [*PATHS, "e.png"], "1 new (e.png)"),
        (lambda: Path("c.png").unlink(), PATHS[:2] + PATHS[3:], "1 gone (c.png)"),
        (lambda: Path("d.png").rename("D.png"), [*PATHS[:3], "D.png"], "1 new (D.png), 1 gone (d.png)"),
    ],
)
def test_what_changed_is_named_until_it_is_indexed(files, change, paths, said):
    change()
    assert str(compare(RECORD, paths, STATE)) == said
    noticed = STATE.read_text()
    assert noticed != FIRST
    before = STATE.stat().st_mtime_ns
    assert str(compare(RECORD, paths, STATE)) == said and STATE.stat().st_mtime_ns == before  # not written again
    write_record(RECORD, [(state_of(path), state_of(path)) for path in paths], STATE)  # indexed
    assert str(compare(RECORD, paths, STATE)) == "" and STATE.read_text() == noticed


def test_a_change_taken_back_is_none(files):
    other_bytes("a.png", "A.png")
    compare(RECORD, PATHS, STATE)
    other_bytes("a.png", "a.png")
    assert not str(compare(RECORD, PATHS, STATE)) and STATE.read_text() == FIRST


@pytest.mark.parametrize("kind", ["mask", "colors"])
def test_a_mask_saved_again_with_the_same_labels_is_no_change(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    values = np.zeros((6, 5, 3) if kind == "colors" else (6, 5), np.uint8)

    def save(**options) -> Checked:
        Image.fromarray(values).save("m.png", **options)
        return state_of("m.png", kind)

    Path("i.jpg").write_text("an image")
    compare(None, ["i.jpg", "m.png"], STATE)
    write_record(RECORD, [(state_of("i.jpg"), save())], STATE)
    size = os.stat("m.png").st_size
    save(compress_level=0)
    assert os.stat("m.png").st_size != size
    assert str(compare(RECORD, ["i.jpg", "m.png"], STATE)) == "" and STATE.read_text() == FIRST
    known = RECORD.read_text()
    assert str(compare(RECORD, ["i.jpg", "m.png"], STATE)) == "" and RECORD.read_text() == known  # not read again
    values[2, 3] = 1
    save()
    assert str(compare(RECORD, ["i.jpg", "m.png"], STATE)) == "1 changed (m.png)"
    values = values.reshape(5, 6, *values.shape[2:])  # the same bytes in another shape
    values[...] = 0
    save()
    assert str(compare(RECORD, ["i.jpg", "m.png"], STATE)) == "1 changed (m.png)"


def test_two_changes_one_after_the_other_are_two_states(files):
    seen = {FIRST}
    for text in ("A.png", "B.png", "B"):
        other_bytes("a.png", text)
        compare(RECORD, PATHS, STATE)
        seen.add(STATE.read_text())
    assert len(seen) == 4


def test_a_touched_file_is_read_once(files, monkeypatch):
    read, original = [], library.sha256
    monkeypatch.setattr(library, "sha256", lambda path: read.append(path) or original(path))
    os.utime("a.png", (5, 5))
    for _ in range(2):
        assert not str(compare(RECORD, PATHS, STATE)) and read == ["a.png"]
    assert STATE.read_text() == FIRST


def test_a_link_that_leads_nowhere_any_more_is_a_change(files):
    Path("a.png").unlink()
    Path("a.png").symlink_to("nowhere")
    assert str(compare(RECORD, PATHS, STATE)) == "1 changed (a.png)"


@pytest.mark.parametrize("make", [lambda path: os.symlink("nowhere", path), os.mkfifo])
def test_a_file_that_could_not_be_read_is_noticed_when_it_can(files, make):
    """Its record has no digest, and neither has a file of another size before it is read. A pipe isn't opened."""
    lost = Checked("image", "a.png", 0, 0, "", Content())
    write_record(RECORD, [(lost, state_of("b.png"))], STATE)
    Path("a.png").unlink()
    make("a.png")
    assert not str(compare(RECORD, PATHS[:2], STATE)) and STATE.read_text() == FIRST
    Path("a.png").unlink()
    Path("a.png").write_text("put back")
    assert str(compare(RECORD, PATHS[:2], STATE)) == "1 changed (a.png)" and STATE.read_text() != FIRST


def test_equal_images_of_one_split_and_of_two():
    index = pd.DataFrame({"image": ["a", "b", "c"], "image_sha256": ["1", "2", "1"]})
    train = pd.DataFrame({"image": ["x", "y", "z"], "image_sha256": ["2", "2", "3"]})
    assert equal_images(index, train).to_numpy().tolist() == [["c", "a", "same"], ["b", "x", "train"]]
    assert equal_images(train).to_numpy().tolist() == [["y", "x", "same"]]
    assert equal_images(index.iloc[:2]).empty


def test_an_image_saved_in_another_way_is_known_by_its_mask():
    columns = ["image", "image_sha256", "mask_sha256"]
    train = pd.DataFrame([["a.png", "1", "m"], ["b.png", "2", "sky"]], columns=columns)
    index = pd.DataFrame([["a.jpg", "3", "m"], ["c.jpg", "4", "sky"], ["b.png", "2", "sky"]], columns=columns)
    found = [[Checked("", "", 0, 0, "", Content(counts=counts))] * 2 for counts in ("0:1 1:5 2:3", "1:9", "1:9")]
    report = Report(files=found)
    found = duplicates(index, report, {"train": train, "val": index[:0]})
    assert found.to_numpy().tolist() == [["b.png", "b.png", "train"], ["a.jpg", "a.png", "train (mask)"]]
