"""Images cut into windows: what covers them, what of them counts, and what is left of the memory that a whole takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_script

from freemask import files, images, tables
from freemask.data.windows import Span, Windows, spans
from freemask.errors import InputError

LABELS = json.dumps({"values": [[label, label] for label in range(251)], "ignored": 0, "colors": False})
WINDOWS = '{"size": 32, "overlap": 8}'


def test_spans_by_hand():
    """Windows of 10 that overlap by 4 begin at 0, 6, ...; the last one ends with the axis."""
    assert spans(20, Windows(10, 4)) == [Span(0, 10, 0, 8), Span(6, 16, 8, 13), Span(10, 20, 13, 20)]
    assert spans(16, Windows(10, 4)) == [Span(0, 10, 0, 8), Span(6, 16, 8, 16)]
    assert spans(10, Windows(10, 4)) == [Span(0, 10, 0, 10)]
    assert spans(7, Windows(10, 4)) == [Span(0, 7, 0, 7)]
    assert [span.begin for span in spans(30, Windows(10, 0))] == [0, 10, 20]


@pytest.mark.parametrize("length", [31, 32, 33, 100, 127])
def test_cores_cover_an_axis_once(length):
    found = spans(length, Windows(32, 16))
    assert [found[0].core_begin, found[-1].core_end] == [0, length]
    assert all(a.core_end == b.core_begin for a, b in zip(found, found[1:], strict=False))
    assert all(one.begin <= one.core_begin < one.core_end <= one.end for one in found)


@pytest.fixture
def tile(tmp_path) -> Path:
    """A tile of 100 x 70 with every label of 1 to 250, and one smaller than a window, its lower half ignored."""
    random = np.random.default_rng(0)
    for name, (height, width) in {"large": (70, 100), "small": (20, 24)}.items():
        mask = random.integers(1, 250, (height, width), np.uint8)
        mask[height // 2 :] = 0 if name == "small" else mask[height // 2 :]
        files.write_atomic(tmp_path / f"raw/{name}.png", images.png_bytes(mask))
        picture = random.integers(0, 255, (height, width, 3), np.uint8)
        files.write_atomic(tmp_path / f"raw/{name}_rgb.png", images.png_bytes(picture))
    return tmp_path


def index(tile: Path, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image and mask of each window."""
    run_script("index_dataset", images=tile / "raw", masks=tile / "raw", image_suffix="_rgb.png", mask_suffix=".png",
               split=split, mask_format=LABELS, windows=WINDOWS, windows_dir=tile / "windows" / split,
               index=tile / f"{split}.tsv")  # fmt: skip
    table = tables.read_table(tile / f"{split}.tsv", ["mask_id", "image", "mask", "image_sha256", "mask_sha256"])
    assert [files.sha256(path) for path in table["mask"]] == table.mask_sha256.tolist()
    pairs = zip(table.image, table["mask"], strict=True)
    return dict(zip(table.mask_id, ((images.read_image(a), images.read_mask(b)) for a, b in pairs), strict=True))


def test_windows_hold_what_the_whole_holds(tile):
    found = index(tile, "train")
    assert len(found) == 3 * 4 + 1
    image, mask = found["large__y00024_x00048"]
    assert np.array_equal(mask, images.read_mask(tile / "raw/large.png")[24:56, 48:80])
    assert np.array_equal(image, images.read_image(tile / "raw/large_rgb.png")[24:56, 48:80])
    assert found["small__y00000_x00000"][1].shape == (20, 24)


def test_each_pixel_is_evaluated_once(tile):
    """The labels of all windows, laid back, are the whole mask, and no pixel is labelled twice."""
    whole = images.read_mask(tile / "raw/large.png").astype(int)
    sums, times = np.zeros_like(whole), np.zeros_like(whole)
    for name, (_, mask) in index(tile, "val").items():
        if name.startswith("large"):
            y, x = int(name[8:13]), int(name[15:20])
            sums[y : y + 32, x : x + 32] += mask
            times[y : y + 32, x : x + 32] += mask != 0
    assert np.array_equal(sums, whole) and (times == 1).all()


def test_a_second_cut_writes_nothing_and_drops_what_has_no_label(tile):
    files.write_atomic(tile / "raw/small.png", images.png_bytes(np.zeros((20, 24), np.uint8)))
    found = index(tile, "train")
    assert not any(name.startswith("small") for name in found)
    before = {path: path.stat().st_mtime_ns for path in (tile / "windows").rglob("*.png")}
    index(tile, "train")
    assert {path: path.stat().st_mtime_ns for path in (tile / "windows").rglob("*.png")} == before


def test_an_id_that_is_too_long_for_its_windows_is_refused(tile):
    """Plans refuse longer ids, after the scorer's training."""
    for end in (".png", "_rgb.png"):
        (tile / f"raw/large{end}").rename(tile / f"raw/{'x' * 136}{end}")
    with pytest.raises(InputError, match="ids of its windows would have more than 150 bytes; rename it"):
        index(tile, "train")


def test_a_large_tile_takes_little_memory(tmp_path):
    """5000 x 5000 pixels, 75 MB decoded."""
    mask = np.repeat(np.repeat(np.arange(1, 26, dtype=np.uint8).reshape(5, 5), 1000, 0), 1000, 1)
    files.write_atomic(tmp_path / "raw/t.png", images.png_bytes(mask))
    files.write_atomic(tmp_path / "raw/t_rgb.jpg", images.jpeg_bytes(np.stack([mask] * 3, -1), 90))
    line = ["--images", tmp_path / "raw", "--masks", tmp_path / "raw", "--image-suffix", "_rgb.jpg",
            "--mask-suffix", ".png", "--windows", '{"size": 1000, "overlap": 0}', "--windows-dir", tmp_path / "w",
            "--index", tmp_path / "train.tsv", "--mask-format", LABELS]  # fmt: skip
    code = (
        "import re, runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__');"
        # ru_maxrss counts the parent's
        " print(re.search('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[1])"
    )
    script = Path(__file__).parents[2] / "scripts/index_dataset.py"
    ran = subprocess.run([sys.executable, "-c", code, script, *line], check=True, capture_output=True, text=True)
    assert len(tables.read_table(tmp_path / "train.tsv", ["mask_id"])) == 25
    assert int(ran.stdout.split()[-1]) < 2**20  # KiB: 1 GiB
