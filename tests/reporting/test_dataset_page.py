"""The page about a data set: findings of files that can't be used and of pairs that look wrong, in one file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import toy_chain
from command_line import run_script

from freemask import files, images
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import ANY_LABELS, MaskFormat
from freemask.reporting.dataset_page import fit, fit_edges

COLORS = ["#6ab4f0", "#b4785a", "#787878", "#2e7d32", "#1565c0", "#ff3d00", "#ffffff"]


@pytest.fixture
def data(tmp_path) -> Path:
    """Two splits of toy scenes; class 7 is in no mask."""
    random = np.random.default_rng(0)
    for split, number in (("train", 10), ("val", 4)):
        for position in range(number):
            mask = toy_chain.draw_mask(random, 64, 85, ship=position % 4 == 1)
            files.write_atomic(tmp_path / split / f"m{position}.png", images.png_bytes(mask))
            picture = images.jpeg_bytes(toy_chain.paint(mask, random), 95)
            files.write_atomic(tmp_path / split / f"m{position}.jpg", picture)
    labels = [*toy_chain.CLASSES, 7]
    names = [*(name for name, _ in toy_chain.CLASSES.values()), "<b>bold</b>"]
    rgb = tuple(tuple(bytes.fromhex(color[1:])) for color in COLORS)
    LabelSpace(tuple(labels), tuple(names), tuple(names), rgb, 0).write(tmp_path / "label_space.json")
    return tmp_path


def look(data: Path) -> str:
    """Make the page."""
    space = LabelSpace.read(data / "label_space.json")
    splits = {split: [str(data / split)] * 2 for split in ("train", "val")}
    run_script("look_at_dataset", title="Toy", splits=json.dumps(splits), image_suffix=".jpg", mask_suffix=".png",
               mask_format=json.dumps(MaskFormat.of_labels(space).to_json()), label_space=data / "label_space.json",
               pictures=4, cache_dir=data / "check", page=data / "look.html")  # fmt: skip
    return (data / "look.html").read_text()


def found(page: str) -> dict[str, str]:
    """The findings: what -> where."""
    return dict(re.findall(r'<tr class="finding"><td>(.*?)</td><td>(.*?)</td></tr>', page))


def test_a_good_data_set(data):
    page = look(data)
    nothing = "&lt;b&gt;bold&lt;/b&gt;"
    assert found(page) == {f"{split}: no pixel of 1 class(es)": nothing for split in ("train", "val")}
    assert re.findall(r"<tr><td>(\d+ x \d+)</td><td class=\"number\">(\d+)", page) == [
        ("85 x 64", "10"),
        ("85 x 64", "4"),
    ]
    row = re.search(r"<td>sky</td><td>sky</td>(.*?)</tr>", page, re.DOTALL)[1]
    assert re.findall(r'class="number">(\d+)<', row) == ["10", "4"]  # images that show it


def test_it_needs_no_other_file(data):
    page = look(data)
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert len(sources) == 2 * (4 + 1 + 3 + 1)  # val has one left beside its worst
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", page) and "<b>" not in page


def test_what_is_wrong_stands_on_top(data):
    """A cut image and a mask without image don't stop the page; the rest is of the other pairs."""
    train = data / "train"
    (train / "m0.jpg").write_bytes((train / "m0.jpg").read_bytes()[:300])
    (train / "m1.jpg").unlink()
    for end in ("jpg", "png"):  # the same pair in both splits
        (data / f"val/again.{end}").write_bytes((train / f"m2.{end}").read_bytes())
    (train / "m3.png").write_bytes(images.png_bytes(np.full((64, 85), 4, np.uint8)))
    scarce = np.zeros((64, 85), np.uint8)
    scarce[:3], scarce[3:6] = 1, 2
    (train / "m4.png").write_bytes(images.png_bytes(scarce))
    page = look(data)
    findings = found(page)
    assert findings["train: files that can&#39;t be used (2)"] == f"{train}/m1.png, {train}/m0.jpg"
    assert findings["val: images of the same bytes"] == f"{data}/val/again.jpg = {train}/m2.jpg"
    assert findings["train: masks of a single class"] == "m3"
    assert findings["train: masks with less than 10% labelled"] == "m4"
    assert "<td>mask without an image</td>" in page and "truncated or damaged" in page
    assert page.index("What the check finds") < page.index("truncated or damaged") < page.index("<h2>Classes")
    shown = page[page.index("<h3>train") : page.index("<h3>val")]
    assert "<figcaption>m0, " not in shown and "<figcaption>m" in shown


def test_mirrored_and_exchanged_masks_are_noticed(data):
    for path in (data / "val").glob("*.png"):
        path.write_bytes(images.png_bytes(images.read_mask(path)[:, ::-1]))
    masks = sorted((data / "train").glob("*.png"))
    content = [path.read_bytes() for path in masks]
    for path, other in zip(masks, content[3:] + content[:3], strict=True):
        path.write_bytes(other)
    findings = found(look(data))
    assert findings["val: masks that fit their images better mirrored"].count("m") >= 2
    (doubt,) = [where for what, where in findings.items() if what.startswith("train: median fit")]
    assert "belong together?" in doubt


def test_fit_by_hand():
    """A step of 8 between two columns: the mean contrast is 8 / 3 of 3 columns; a border there has 8, elsewhere 0."""
    grey = np.repeat([[0.0, 0, 8, 8]], 4, axis=0).astype(np.float32)
    labels = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    assert fit_edges(grey, labels, 0).ratio == pytest.approx(3)
    assert fit_edges(grey, np.repeat([[1, 2, 2, 2]], 4, axis=0), 0) == (0, "")  # mirrored it has no border there
    assert fit_edges(grey, np.repeat([[1, 1, 0, 0]], 4, axis=0), 0)[1] == ""  # beside ignored pixels: no border
    assert np.isnan(fit_edges(grey, np.ones((4, 4)), 0).ratio)


def test_a_tile_is_compared_in_its_middle(tmp_path):
    """Squares of 40 pixels in a tile of 3000: at 96 pixels over all, 1.3 to a pixel, no edge is left."""
    random = np.random.default_rng(0)
    mask = np.kron(random.integers(1, 4, (75, 75)), np.ones((40, 40), int)).astype(np.uint8)
    image, labels = str(tmp_path / "a.jpg"), str(tmp_path / "a.png")
    files.write_atomic(image, images.jpeg_bytes(np.stack([80 * mask] * 3, -1), 90))
    files.write_atomic(labels, images.png_bytes(mask))
    right = fit((image, labels), ANY_LABELS).ratio
    files.write_atomic(labels, images.png_bytes(np.roll(mask, 20, axis=(0, 1))))
    assert right > 1.5 > 1.2 > fit((image, labels), ANY_LABELS).ratio
