"""Warnings where they arise, and as the report reads them; numbers worked by hand."""

import pandas as pd
import pytest
from command_line import run_script

from freemask import tables
from freemask.data.label_space import LabelSpace
from freemask.filtering.shards import filter_warnings
from freemask.reporting.warnings import of_colors
from freemask.selection.class_loss import class_loss_warnings

SPACE = LabelSpace((1, 2, 3), ("sky", "car", "sign"), ("s", "c", "i"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), ignored=0)


def shares(*filtered: int) -> pd.DataFrame:
    """100 pixels of each class, of which so many are filtered."""
    return pd.DataFrame({"label": SPACE.ids, "name": SPACE.names, "pixels": 100, "filtered": filtered})


@pytest.mark.parametrize(
    ("filtered", "said"),
    [
        ((40, 50, 60), ""),
        ((97, 90, 80), "the filter takes 89% of the pixels"),
        ((10, 20, 81), "the filter takes most pixels of 1 class(es): sign (81%)"),
        ((0, 0, 0), ""),
    ],
)
def test_a_filter_that_takes_most_pixels(filtered, said):
    found = filter_warnings(shares(*filtered))
    assert len(found) == bool(said) and said in "".join(found)


def test_a_scorer_that_guesses():
    """The limit: ln 3 = 1.0986 nats; a class without pixels has no loss."""
    table = pd.DataFrame({"name": SPACE.names, "pixels": [5, 5, 0], "class_loss": [1.09, 1.1, 9.0]})
    (warning,) = class_loss_warnings(table)
    assert "knows 1 class(es) no better than a guess (1.10 nats): car (1.10)" in warning
    assert class_loss_warnings(table.assign(class_loss=0.5)) == []


def test_colors_that_look_alike():
    colors = ((0, 0, 0), (1, 2, 3), (1, 2, 3), (4, 5, 6))
    space = LabelSpace((1, 2, 3, 4), ("bag", "road", "tower", "sky"), ("a", "b", "c", "d"), colors, ignored=0)
    assert of_colors(space) == [
        "1 color(s) stand for several classes each: road = tower",
        "black, which looks like ignored pixels, is the color of bag",
    ]
    assert of_colors(SPACE) == []


def test_logs_and_report_say_the_same(tmp_path, capsys):
    SPACE.write(tmp_path / "space.json")
    losses = pd.DataFrame({"label": SPACE.ids, "name": "as it was", "pixels": 5, "class_loss": [0.1, 2.0, 0.2]})
    ious = pd.DataFrame({"label": SPACE.ids, "name": "as it was", "iou": [50, 0, "nan"], "acc": 1.0})
    for name, table in {"loss": losses, "iou": ious, "wild": shares(97, 90, 80), "good": shares(1, 2, 3)}.items():
        tables.write_table(tmp_path / f"{name}.tsv", table)
    equal = pd.DataFrame({"image": ["b.png"], "equal_to": ["a.png"], "split": ["val"]})
    tables.write_table(tmp_path / "test.duplicates.tsv", equal)
    tables.write_table(tmp_path / "val.duplicates.tsv", equal[:0])
    run_script("list_warnings", class_loss=tmp_path / "loss.tsv", scorer_ious=tmp_path / "iou.tsv",
               class_shares=[tmp_path / "wild.tsv", tmp_path / "good.tsv"], set_names=["wild", "good"],
               duplicates=[tmp_path / f"{split}.duplicates.tsv" for split in ("val", "test")],
               label_space=tmp_path / "space.json", dataset="world", table=tmp_path / "warnings.tsv",
               html=tmp_path / "warnings.html")  # fmt: skip
    found = tables.read_table(tmp_path / "warnings.tsv", ["of", "warning"])
    assert found.of.tolist() == ["scorer", "scorer", "wild", "test images"]
    assert found.warning[3] == "1 image(s) are validation images as well: b.png = a.png"
    assert "car (2.00)" in found.warning[0] and found.warning[1] == "the scorer's IoU is 0 for 1 class(es): car"
    page = (tmp_path / "warnings.html").read_text()
    assert all(warning.split(";")[0] in page for warning in found.warning)


def test_gathering_class_losses_warns(tmp_path, capfd):
    SPACE.write(tmp_path / "space.json")
    (tmp_path / "index.tsv").write_text("mask_id\na\n")
    (tmp_path / "1.tsv").write_text("mask_id\tsums\na\t1:2:0.5 2:2:9.0\n")
    run_script("gather_class_loss", index=tmp_path / "index.tsv", shards=[tmp_path / "1.tsv"],
               label_space=tmp_path / "space.json", class_loss=tmp_path / "loss.tsv")  # fmt: skip
    assert "loss.tsv: the scorer knows 1 class(es) no better than a guess" in "".join(capfd.readouterr())
