"""Figures: from tables to PNG and PDF, the same bytes every time; the contact sheet's choice and colors."""

import numpy as np
import pandas as pd
import pytest
import toy_chain
from command_line import load, run_script
from cyclopts import CycloptsError

from freemask import files, images, tables
from freemask.data.label_space import LabelSpace
from freemask.data.masks import LabelCounts
from freemask.errors import InputError
from freemask.reporting import charts, figures, pictures, sheets
from freemask.reporting.choice import Shown, choose_masks
from freemask.reporting.class_gains import over_control
from freemask.segmentation.outputs import read_confusion, read_scalars, spread, write_confusion

SPACE = LabelSpace((1, 2), ("sky", "ship"), ("sky", "ship"), ((10, 20, 30), (200, 100, 0)), ignored=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return toy_chain.make(tmp_path_factory.mktemp("world"))


def improved(classes: int) -> pd.DataFrame:
    gain = np.linspace(20, -5, classes)
    table = pd.DataFrame({"label": range(1, classes + 1), "name": [f"class {i}" for i in range(classes)]})
    table = table.assign(real=50.0, joint=50 + gain, gain=gain, seeds=2, gain_seed_0=gain - 1, gain_seed_1=gain + 1)
    return table.assign(reported_gain=[12.0] + [np.nan] * (classes - 1))


def test_every_figure_is_the_same_bytes_twice(world):
    tables.write_table(world / "most_improved.tsv", improved(12))
    for name, options in {
        "plot_most_improved": {"most_improved": world / "most_improved.tsv", "top": 10, "title": "World"},
        "plot_class_loss": {"class_loss": world / "class_loss.tsv"},
        "plot_filtered_share": {
            "class_shares": [world / "shares.tsv"] * 2,
            "set_names": ["alpha 1.25", "alpha 2"],
            "shard_shares": [world / "shards.tsv"] * 2,
        },
        "plot_hardness": {"hardness": world / "hardness.tsv", "plans": world / "plan.tsv", "plan_names": "hardness"},
    }.items():
        made = []
        for run in ("first", "second"):
            paths = [world / run / f"{name}.{suffix}" for suffix in ("png", "pdf")]
            run_script(name, figures=paths, **options)
            made.append([path.read_bytes() for path in paths])
        assert made[0] == made[1], name
        assert toy_chain.is_image(world / "first" / f"{name}.png")
        assert made[0][1].startswith(b"%PDF")


def test_training_curves_follow_a_resumed_run(tmp_path):
    for folder, steps in (("20260101_000000", (1, 2, 3)), ("20260102_000000", (3, 4))):
        (tmp_path / folder / "vis_data").mkdir(parents=True)
        lines = [f'{{"loss": {step / len(steps)}, "lr": 0.1, "step": {step}}}' for step in steps]
        lines.append('{"mIoU": 40.0, "step": 4}')
        (tmp_path / folder / "vis_data" / "scalars.json").write_text("\n".join(lines) + '\n{"loss": 1, "st')
    curve = read_scalars(tmp_path)
    assert curve.step.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(curve.loss, [1 / 3, 2 / 3, 3 / 2, 2])  # the resumed run's step 3 counts
    training = {"work": tmp_path, "regimes": "real 1", "training_names": "real seed-0", "figures": tmp_path / "a.png"}
    run_script("plot_training", models="small", **training)
    with pytest.raises(InputError, match="1 --regimes, 2 --models and 1 --training-names for 1 --work"):
        run_script("plot_training", models=["a", "b"], **training)
    assert toy_chain.is_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="no scalars.json"):
        read_scalars(tmp_path / "20260101_000000")


def test_training_curves_have_a_panel_per_model_value_and_regime():
    loss, validations = pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0]}), pd.DataFrame({"step": [2], "mIoU": [40.0]})
    found = {
        ("a", "loss"): {("real", 1): [("real", loss)] * 2, ("joint", 2): [("j", loss), ("k", loss), ("j", loss)]},
        ("a", "mIoU"): {("joint", 2): [("j", validations)]},
    }
    figure = charts.curves(found)
    assert [len(axes.lines) for axes in figure.axes] == [2, 3, 0, 1]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["a\nloss", "a\nmIoU [%]"]
    real, joint = figure.axes[:2]
    assert {line.get_color() for line in real.lines} == {figures.REGIME_COLORS["real", 1]}
    assert joint.lines[0].get_color() == figures.REGIME_COLORS["joint", 2]
    assert [[line.get_linestyle() for line in axes.lines] for axes in (real, joint)] == [["-"] * 2, ["-", "--", "-"]]
    styles = zip(joint.get_legend().get_texts(), joint.get_legend().get_lines(), strict=True)
    assert [(text.get_text(), line.get_linestyle()) for text, line in styles] == [("j", "-"), ("k", "--")]
    assert real.get_legend() is None  # one experiment
    found["a", "loss"]["joint", 2] = [(name, loss) for name in "abcde"]  # more than there are styles
    joint = charts.curves(found).axes[1]
    assert joint.get_legend() is None and {line.get_linestyle() for line in joint.lines} == {"-"}


def test_confusion_by_hand(tmp_path):
    """Class a: 6 of 8 pixels right, 2 taken for b; b: all right; c is in no mask."""
    counts = np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0]])
    confusion = load("plot_confusion")
    share = confusion.shares(counts)
    np.testing.assert_allclose(share, [[75, 25, 0], [0, 100, 0], [np.nan] * 3])
    assert confusion.most_confused(share, 2) == [0, 1]
    space = LabelSpace((3, 7, 9), ("a", "b", "b"), ("a", "b", "b"), ((0, 0, 0),) * 3, ignored=0)
    write_confusion(tmp_path / "c.tsv", counts, space)
    assert (tmp_path / "c.tsv").read_text().splitlines()[:2] == ["label\tname\t3\t7\t9", "3\ta\t6\t2\t0"]
    names, read = read_confusion(tmp_path / "c.tsv")
    assert names == ["a", "b", "b"] and read.dtype == np.int64 and np.array_equal(read, counts)
    axes = confusion.draw(["a", "b", "c"], counts, "t").axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "75"), ((1, 0), "25"), ((1, 1), "100")
    }  # fmt: skip
    run_script("plot_confusion", confusion=[tmp_path / "c.tsv"] * 2, improved="joint", figures=tmp_path / "c.png")
    assert toy_chain.is_image(tmp_path / "c.png")
    (tmp_path / "d.tsv").write_text("label\tname\t3\n7\tb\t1\n")
    with pytest.raises(InputError, match="d.tsv: columns aren't the labels"):
        run_script("plot_confusion", confusion=[tmp_path / "c.tsv", tmp_path / "d.tsv"], improved="joint",
                   figures=tmp_path / "d.png")  # fmt: skip


def test_of_many_classes_the_confused_ones_are_shown():
    """Of 171 classes, 40 is taken for 100 and 160, 7 for 8; class 170 is in no mask."""
    counts = np.diag([100] * 170 + [0])
    counts[40, [100, 160]], counts[7, 8] = [30, 20], 25
    confusion = load("plot_confusion")
    assert confusion.most_confused(confusion.shares(counts), 5) == [7, 8, 40, 100, 160]
    axes = confusion.draw([f"class {one}" for one in range(171)], counts, "t").axes[0]
    assert axes.get_title(loc="left") == "t: 30 of 171 classes, those with the largest confusions"
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "141 others"
    assert len(axes.get_yticklabels()) == 30
    rows = [label.get_text() for label in axes.get_yticklabels()]
    row = rows.index("class 40")
    assert sorted(text.get_text() for text in axes.texts if text.get_position()[1] == row) == ["13", "20", "67"]


def test_images_to_show_are_spread_evenly():
    assert spread(8, 4, "val.tsv") == [1, 3, 5, 7]
    assert spread(3, 1, "val.tsv") == [1]
    assert spread(2000, 4, "val.tsv") == [250, 750, 1250, 1750]
    with pytest.raises(InputError, match=r"val.tsv: 3 image\(s\), but evaluation.pictures is 4"):
        spread(3, 4, "val.tsv")


def test_the_sheet_of_predictions_shows_them_beside_the_truth(world, tmp_path):
    masks = sorted((world / "masks").glob("*.png"))
    table = pd.DataFrame({"image": [world / "images" / f"{p.stem}.jpg" for p in masks], "mask": masks})
    tables.write_table(tmp_path / "val.tsv", table)
    truth = [images.read_mask(masks[position]) for position in (3, 9)]
    for number, mask in enumerate(truth):
        files.write_atomic(tmp_path / f"a{number}.png", images.png_bytes(np.full_like(mask, 1)))
        files.write_atomic(tmp_path / f"b{number}.png", images.png_bytes(np.full_like(mask, 9)))
    options = {"val": tmp_path / "val.tsv", "baseline": "real", "improved": "joint", "title": "World",
               "label_space": world / "label_space.json", "train_seed": 0, "figure": tmp_path / "sheet.png",
               "baseline_predictions": [tmp_path / "a0.png", tmp_path / "a1.png"]}  # fmt: skip
    run_script("plot_predictions", improved_predictions=[tmp_path / "b0.png", tmp_path / "b1.png"], **options)
    sheet = images.read_image(tmp_path / "sheet.png")
    height, width = truth[0].shape  # 64 x 85: shown twice as large
    top, step = 24 + 46 + 26, 2 * width + 6
    assert sheet.shape[1] == 2 * 24 + 4 * step - 6
    colors = LabelSpace.read(world / "label_space.json").colorize(truth[0])
    shown = sheet[top : top + 2 * height, 24 + step : 24 + step + 2 * width]
    assert np.array_equal(shown[::2, ::2], colors)
    for column, color in ((2, (0x6A, 0xB4, 0xF0)), (3, (0xFF, 0x3D, 0x00))):
        part = sheet[top : top + 2 * height, 24 + column * step : 24 + column * step + 2 * width]
        assert (part == color).all()
    with pytest.raises(InputError, match="2 --baseline-predictions for 1 --improved-predictions"):
        run_script("plot_predictions", improved_predictions=[tmp_path / "b0.png"], **options)


def test_many_classes_break_into_panels():
    figure, axes, slices = figures.class_panels(150, width=5)
    assert len(axes) == 4
    assert [part.stop - part.start for part in slices] == [38, 38, 38, 36]
    assert len(figures.class_panels(12, width=5)[1]) == 1


@pytest.mark.parametrize("classes", [12, 150])
def test_class_loss_has_a_bar_and_a_place_in_the_histogram_for_every_class(classes):
    loss = np.random.default_rng(0).gamma(2, 0.4, classes)
    table = pd.DataFrame({"name": [f"class {i}" for i in range(classes)], "pixels": 100, "class_loss": loss})
    figure = load("plot_class_loss").draw(table)
    *bars, histogram = figure.axes
    assert sum(len(axes.patches) for axes in bars) == classes
    assert sum(patch.get_height() for patch in histogram.patches) == classes
    assert histogram.get_title(loc="left") == f"Histogram of the {classes} classes"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"median class: {np.median(loss):.2f}", f"mean over pixels: {loss.mean():.2f}"
    ]  # fmt: skip


def test_filtered_shares_have_a_point_per_set_and_class_and_a_bar_per_shard():
    def share(*filtered):
        table = pd.DataFrame({"label": [1, 2, 7], "name": ["sky", "road", "ship"], "pixels": [100, 50, 0]})
        return table.assign(filtered=[*filtered, 0]).eval("share = filtered / pixels")

    shares = {"alpha 1": share(10, 20), "alpha 2": share(0, 10)}
    parts = pd.DataFrame({"shard": [1, 2, 1, 2], "pixels": [100, 100, 100, 0], "filtered": [5, 15, 25, 0]})
    figure = load("plot_filtered_share").draw(shares, dict.fromkeys(shares, parts))
    axes, below = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "sky"]  # most filtered first; no ship
    points = [part.get_offsets().tolist() for part in axes.collections if len(part.get_offsets()) > 1]
    assert points == [[[40, 0], [10, 1]], [[20, 0], [0, 1]]]
    bars = [part.get_offsets().tolist() for part in below.collections]
    assert bars == [[[15, row], [15, row]] for row in (0, 1)]  # 30 of 200 pixels, 15 of 100
    assert [label.get_text() for label in below.get_yticklabels()] == ["alpha 1", "alpha 2"]
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["alpha 1: 20.0% of all pixels", "alpha 2: 6.7% of all pixels"]
    assert len(load("plot_filtered_share").draw(shares).axes) == 1


def test_most_improved_shows_the_top_and_leaves_out_classes_without_a_gain():
    table = improved(6)
    table.loc[5, ["joint", "gain", "gain_seed_0", "gain_seed_1"]] = np.nan
    table.loc[4, ["gain_seed_1", "seeds"]] = np.nan, 1
    plot = load("plot_most_improved")
    axes = plot.draw(over_control(table), top=9, title="t").axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*(f"class {i}" for i in range(4)), "class 4 (1 of 2 seeds)"]
    assert axes.get_xlabel() == "gain in IoU over real [points], n = 2 train seeds\nno IoU: class 5"


def test_most_improved_draws_the_gain_over_the_control():
    """Bars are gain_over_control with its interval; crosses the gain over real images, which is larger here."""
    gain = [6.0, 5.0, 4.0]
    more = {"seeds": 1, "low": 1.0, "high": 9.0, "interval": "images", "seed_1": gain}
    table = improved(3).drop(columns="reported_gain").assign(control=30.0, gain_over_control=gain)
    table = table.assign(**{f"gain_over_control_{end}": value for end, value in more.items()})
    plot = load("plot_most_improved")
    axes = plot.draw(over_control(table), top=2, title="t").axes[0]
    assert [bar.get_width() for container in axes.containers for bar in container if bar.get_width()] == [6, 5]
    crosses = axes.collections[-1].get_offsets()[:, 0]
    np.testing.assert_allclose(crosses, table.gain[:2])
    assert axes.get_xlabel().startswith(
        "gain in IoU over real at twice the schedule [points], n = 1 train seed\n1 more"
    )


def draw_sheet(world, figure, rows=3):
    run_script("plot_contact_sheet", synthetic=world / "train.tsv", masks=world / "masks.tsv", title="World",
               index=world / "index.tsv", label_space=world / "label_space.json", rows=rows, columns=2,
               figure=figure)  # fmt: skip


def test_the_sheet_is_the_same_bytes_twice_and_shows_small_images_large(world):
    for name in ("first.png", "second.png"):
        draw_sheet(world, world / name)
    assert (world / "first.png").read_bytes() == (world / "second.png").read_bytes()
    sheet = images.read_image(world / "first.png")
    assert sheet.shape[1] == 2 * 24 + 5 * (192 + 6) - 6  # 64 pixels shown three times as large


def test_the_sheet_shows_the_mask_after_the_filter(world):
    table = tables.read_table(world / "train.tsv", ["image", "mask", "margin", "stamp", "filter", "alpha", "filtered"])
    space = LabelSpace.read(world / "label_space.json")
    for row in table.index[:4]:
        own = table.iloc[[row]]
        shown = Shown("", own["mask"].iloc[0], own.image.iloc[0], np.array([]), own)
        _, plain, filtered, _ = load("plot_contact_sheet").tiles(shown, space)
        labelled = (plain != space.ignored_color).any(-1).sum()
        white = ((filtered == space.filtered_color).all(-1) & (plain != filtered).any(-1)).sum()
        assert white / labelled == pytest.approx(own.filtered.iloc[0]) and white > 0


def test_masks_are_chosen_by_hand():
    # pixels: 1 (10 in all) and 7 (30) are rare, 2 (265) is not; mask 0 holds most of 1 but isn't usable
    counts = LabelCounts.parse(["1:8 2:92", "1:2 2:98", "7:30 2:60", "2:15"])
    usable = np.array([False, True, True, True])
    assert choose_masks(counts, usable, rows=2) == [1, 2]
    # second round: 1 and 7 are in no mask that is left, so the largest of 2
    assert choose_masks(counts, usable, rows=9) == [1, 2, 3]
    assert choose_masks(counts, np.zeros(4, bool), rows=2) == []


def test_colors_of_filtered_and_ignored_pixels():
    mask, filtered = np.array([[1, 2, 2, 0]], np.uint8), np.array([[1, 2, 0, 0]], np.uint8)
    painted = pictures.colorize_filtered(mask, filtered, SPACE)
    assert painted[0].tolist() == [[10, 20, 30], [200, 100, 0], [255, 255, 255], [0, 0, 0]]


def test_small_pictures_grow_by_whole_pixels_and_large_ones_shrink():
    sizes = [sheets.tile_size(side, side) for side in (64, 48, 160, 200, 512)]
    assert sizes == [(192, 192), (192, 192), (160, 160), (200, 200), (256, 256)]
    assert sheets.tile_size(64, 85) == (128, 170) and sheets.tile_size(512, 683) == (192, 256)
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    grown = sheets.tile(picture, (4, 4), smooth=True)
    assert np.array_equal(grown, picture.repeat(2, 0).repeat(2, 1))


def test_long_captions_are_cut():
    tile = np.zeros((160, 160, 3), np.uint8)
    row = sheets.Row([tile] * 5, "a caption " * 80)
    sheet = sheets.draw_sheet([row], ["a heading"] * 5, sheets.legend([1, 2], SPACE), "title")
    last = 24 + 4 * (160 + 6)  # left edge of the last tile
    assert (sheet[150:170, last + 80] == 0).all()
    assert (sheet[:, last + 160 + 2 :] == 255).all()  # the margin beside it


def test_bad_figure_input_is_refused(world, tmp_path):
    with pytest.raises(InputError, match=r"--class-shares: 2 file\(s\), but 1 name\(s\)"):
        run_script(
            "plot_filtered_share", class_shares=[world / "shares.tsv"] * 2, set_names="a", figures=tmp_path / "a.png"
        )
    with pytest.raises(InputError, match=r"--plans: 1 file\(s\), but 2 name\(s\)"):
        run_script("plot_hardness", hardness=world / "hardness.tsv", plans=world / "plan.tsv", plan_names=["a", "b"],
                   figures=tmp_path / "a.png")  # fmt: skip
    with pytest.raises(InputError, match=r"a.svg: figures are written as .png or .pdf"):
        run_script("plot_class_loss", class_loss=world / "class_loss.tsv", figures=tmp_path / "a.svg")
    table = improved(2).assign(gain=np.nan)
    tables.write_table(tmp_path / "none.tsv", table)
    with pytest.raises(InputError, match="no class has a gain"):
        run_script("plot_most_improved", most_improved=tmp_path / "none.tsv", title="a", figures=tmp_path / "a.png")
    with pytest.raises(CycloptsError, match='"0" for --top'):
        run_script("plot_most_improved", most_improved=tmp_path / "none.tsv", top=0, title="a",
                   figures=tmp_path / "a.png")  # fmt: skip
    with pytest.raises(CycloptsError, match='"0" for --rows'):
        draw_sheet(world, tmp_path / "s.png", rows=0)
    with pytest.raises(InputError, match="no such image"):
        images.read_image(tmp_path / "none.jpg")
    assert not list(tmp_path.glob("*.png"))
