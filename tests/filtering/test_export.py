"""A synthetic set as files that other programs read: all of it, filtered, linked, and once."""

import errno
import json
import os
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy_chain
import yaml
from command_line import run_script

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.filtering import export
from freemask.filtering.sets import mask_filters, read_filtered


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return toy_chain.make(tmp_path_factory.mktemp("world"))


def run(world: Path, folder: Path, synthetic: Path | None = None) -> list[dict]:
    """Export the toy set; returns its metadata."""
    inputs = {"synthetic": synthetic or world / "train.tsv", "class_shares": world / "shares.tsv"}
    made = {"metadata": folder / "metadata.jsonl", "card": folder / "README.md", "classes": folder / "classes.tsv"}
    known = {"label_space": world / "label_space.json", "title": "World", "settings": '{"filter": {"alpha": "1.25"}}'}
    run_script("export_synthetic_set", **inputs, **known, **made)
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [path for kind in ("images", "annotations") for path in (folder / kind).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_it_holds_what_trainings_see(world, tmp_path):
    rows = run(world, tmp_path / "set")
    table = tables.read_table(world / "train.tsv", ["image", "mask"])
    space = LabelSpace.read(world / "label_space.json")
    assert len(rows) == len(table) > 12
    for row, known, mask_filter in zip(rows, table.itertuples(), mask_filters(table), strict=True):
        image, mask = (tmp_path / "set" / row[f"{kind}_file_name"] for kind in ("image", "mask"))
        assert os.path.samefile(image, known.image)
        assert image.stem == mask.stem == f"{row['mask_id']}-{row['seed']}"
        filtered = read_filtered(known.mask, mask_filter, space)
        assert np.array_equal(images.read_mask(mask), filtered)
        square = images.read_mask(known.mask)
        assert row["filtered"] == pytest.approx((filtered != square).sum() / (square != 0).sum(), abs=1e-6)
        present = sorted(set(np.unique(square)) - {0})  # also of a class that the filter took altogether
        assert row["words"] == [toy_chain.CLASSES[label][0] for label in present]
    assert any(row["filtered"] > 0 for row in rows)


def test_readers_find_their_files(world, tmp_path):
    """ADE20K's and FiftyOne's readers pair files by name; Hugging Face's datasets take those that the card names."""
    rows = run(world, tmp_path)
    names = [sorted(path.stem for path in (tmp_path / kind).iterdir()) for kind in (export.IMAGES, export.MASKS)]
    assert names[0] == names[1] and len(set(names[0])) == len(rows)
    _, head, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    (split,) = yaml.safe_load(head)["configs"][0]["data_files"]
    assert split["split"] == "train"
    listed = ["metadata.jsonl", *(row[f"{kind}_file_name"] for row in rows for kind in ("image", "mask"))]
    assert all(any(fnmatch(path, pattern) for pattern in split["path"]) for path in listed)
    assert yaml.safe_load(head)["size_categories"] == ["n<1K"]
    assert "| 9 | ship | ship |" in text and "alpha: '1.25'" in text
    columns = ["label", "name", "word", "color"]
    assert LabelSpace.of_table(tables.read_table(tmp_path / "classes.tsv", columns), 0, "classes.tsv") == (
        LabelSpace.read(world / "label_space.json")
    )


def test_a_resumed_export_writes_what_is_missing_and_no_more(world, tmp_path):
    run(world, tmp_path)
    before = stamps(tmp_path)
    lost = next((tmp_path / export.MASKS).iterdir())
    content = lost.read_bytes()
    lost.write_bytes(b"cut off")
    stray = tmp_path / export.IMAGES / f".a.png.{files.writer()[::-1]}@1.tmp"  # of a killed process elsewhere
    stray.touch()
    os.utime(stray, (0, 0))
    for name in ("metadata.jsonl", "README.md"):  # Snakemake removes outputs of a failed job
        (tmp_path / name).unlink()
    run(world, tmp_path)
    after = stamps(tmp_path)
    assert lost.read_bytes() == content
    assert {path for path in after if after[path] != before.get(path)} == {str(lost)}
    assert after.keys() == before.keys()


def test_another_set_leaves_nothing_of_the_first(world, tmp_path):
    run(world, tmp_path)
    smaller = pd.read_csv(world / "train.tsv", sep="\t", dtype=str).drop(columns="rows").head(3)
    tables.write_table(tmp_path / "smaller.tsv", smaller)
    assert len(run(world, tmp_path, tmp_path / "smaller.tsv")) == 3
    assert len(stamps(tmp_path)) == 6


def test_large_sets_are_spread_over_folders(world, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "FLAT", 5)
    rows = run(world, tmp_path)
    folders = {Path(row["image_file_name"]).parent.name for row in rows}
    assert len(folders) > 1 and all(len(name) == 2 for name in folders)
    assert len(stamps(tmp_path)) == 2 * len(rows)


def test_images_of_somebody_else_stay(world, tmp_path):
    theirs = tmp_path / export.IMAGES / "ADE_train_00000001.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(InputError, match="aren't an export's; give another folder"):
        run(world, tmp_path)
    assert theirs.exists()


def test_another_disk_gets_copies(world, tmp_path, monkeypatch):
    def no_link(source: str, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", no_link)
    rows = run(world, tmp_path)
    source = tables.read_table(world / "train.tsv", ["image"]).image[0]
    copy = tmp_path / rows[0]["image_file_name"]
    assert copy.read_bytes() == Path(source).read_bytes() and not os.path.samefile(copy, source)
    before = stamps(tmp_path)
    run(world, tmp_path)
    assert stamps(tmp_path) == before
