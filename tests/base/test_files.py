"""Atomic files, tables, masks."""

import errno
import os
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from freemask.errors import InputError
from freemask.files import check_sha256, digest, sha256, sweep, write_atomic
from freemask.images import ORIENTATION, jpeg_bytes, png_bytes, read_mask, shown_size
from freemask.tables import read_table, write_table


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "table.tsv"
    write_atomic(path, b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.tsv"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_names_the_file(tmp_path, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=rf"{os.strerror(code)}.*table.tsv'"):
        write_table(tmp_path / "table.tsv", pd.DataFrame({"mask_id": ["a"]}))
    assert not list(tmp_path.iterdir())


def test_tables_keep_ids_as_text_and_floats_exactly(tmp_path):
    path = tmp_path / "t.tsv"
    value = float(np.float32(1) / np.float32(3))
    write_table(path, pd.DataFrame({"mask_id": ["007", "NA"], "hardness": [value, 2.0]}))
    back = read_table(path, ["mask_id", "hardness"])
    assert back.mask_id.tolist() == ["007", "NA"]
    assert np.float32(back.hardness[0]) == np.float32(value)


def test_missing_columns_and_files_are_named(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="t.tsv: column 'seed' is missing"):
        read_table(path, ["a", "seed"])
    with pytest.raises(InputError, match="no such table"):
        read_table(tmp_path / "other.tsv", ["a"])


def test_a_line_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n1\t2\n\n3\n")
    with pytest.raises(InputError, match="t.tsv, line 4: 1 fields, want 2"):
        read_table(path, ["a"], only=True)
    path.write_text("a\tb\n1\t\n")
    assert read_table(path, ["a", "b"]).b.isna().tolist() == [True]


@pytest.mark.parametrize("mode", ["RGB", "I;16", "LA"])
def test_masks_of_other_modes_are_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(InputError, match="want one 8-bit channel"):
        read_mask(path)


def test_truncated_masks_are_refused(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(png_bytes(np.arange(64, dtype=np.uint8).reshape(8, 8))[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_mask(path)


def test_encoders_give_the_same_bytes_and_keep_the_comment(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    first, again = jpeg_bytes(image, 95, "stamp"), jpeg_bytes(image, 95, "stamp")
    assert first == again
    (tmp_path / "a.jpg").write_bytes(first)
    assert Image.open(tmp_path / "a.jpg").info["comment"] == b"stamp"


def test_an_exif_orientation_counts_for_the_size(tmp_path):
    exif = Image.Exif()
    for orientation, size in ((1, (30, 20)), (6, (20, 30))):
        exif[ORIENTATION] = orientation
        Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
        with Image.open(tmp_path / "a.jpg") as image:
            assert shown_size(image) == size


def test_a_digest_or_its_first_digits_must_agree(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    whole = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    for expected in (whole, whole[:8], whole.upper(), "", None):
        assert check_sha256(path, expected, "do something") == whole == sha256(path)
    with pytest.raises(InputError, match=f"a.bin: SHA-256 is {whole}, want 00; do something"):
        check_sha256(path, "00", "do something")
    with pytest.raises(InputError, match="b.bin: No such file"):
        check_sha256(tmp_path / "b.bin", whole, "do something")


def test_digests_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_sweeping_takes_what_dead_processes_left_and_nothing_else(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host, dead = socket.gethostname(), child.stdout.strip()
    left = tmp_path / f".43.jpg.{host}@{dead}.abc.tmp"
    kept = [tmp_path / f".43.jpg.{host}@{os.getppid()}.abc.tmp", tmp_path / f".44.jpg.elsewhere@{dead}.abc.tmp"]
    for path in (left, *kept):
        path.touch()
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    os.utime(kept[1], (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == kept[:1]
