"""Differences between arms, against hand-worked numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

from freemask.data.label_space import LabelSpace
from freemask.files import write_json
from freemask.reporting import evidence, quality
from freemask.segmentation.areas import Areas, write_areas
from freemask.segmentation.outputs import write_ious

SPACE = LabelSpace((1, 2), ("sky", "ship"), ("sky", "ship"), ((0, 0, 0), (1, 1, 1)), 0)


def write_arm(folder, seed, right, images=40):
    """An evaluation in which every image has 100 pixels of each class, of which `right` are found."""
    folder = folder / f"seed-{seed}"
    intersection = np.tile(right, (images, 1))
    truth = np.full((images, 2), 100)
    areas = Areas(np.array([f"m{i}" for i in range(images)]), np.array([1, 2]), intersection, truth, truth)
    write_ious(folder / "per_class_iou.tsv", SPACE, areas.iou(), areas.iou())
    write_areas(folder / "image_areas.npz", areas)
    write_json(folder / "metrics.json", {"mIoU": float(areas.iou().mean())})


@pytest.fixture
def arms(tmp_path):
    for seed in (0, 1, 2):
        write_arm(tmp_path / "real", seed, [60, 20])
        write_arm(tmp_path / "joint", seed, [62, 30])
    write_arm(tmp_path / "worse", 1, [40, 20])
    rows = pd.DataFrame({"experiment": ["real", "joint", "worse"], "train_seeds": [(0, 1, 2), (0, 1, 2), (1,)]})
    return evidence.read_arms(tmp_path, rows)


def test_differences_by_hand(arms):
    asked = {
        "gain": {"differences": [["joint", "real", "above"], ["worse", "real"]]},
        "later": {"differences": [["joint", "real-9x"]]},
    }
    found = evidence.differences(asked, arms, rare=np.array([False, True]))
    gain, worse, later = found.to_dict("records")
    assert (gain["difference"], gain["low"], gain["high"]) == pytest.approx((6, 6, 6))
    assert (gain["rare"], gain["rare_low"], gain["seeds"], gain["result"]) == pytest.approx((10, 10, 3, "above"))
    assert (worse["difference"], worse["seeds"], worse["result"]) == pytest.approx((-10, 1, "below"))
    assert (later["seeds"], later["result"], gain["paper"], worse["paper"]) == (0, "not run", "above", "")


def test_another_world_stands_beside_and_supports_an_advice_or_not(arms):
    asked = {"gain": {"differences": [["joint", "real"], ["worse", "real"], ["joint", "worse"]]}}
    found = evidence.differences(asked, arms, rare=np.array([False, True]))
    other = found.assign(difference=[-1.0, 4.0, 2.0], low=-2.0, result=["below", "not run", "open"], seeds=[3, 0, 1])
    both = evidence.beside(found, pd.concat([other[::-1], other]))  # a difference that two questions ask for
    assert both.other_difference.tolist()[::2] == [-1, 2] and both.other_result.isna().tolist() == [False, True, False]
    assert both[found.columns].equals(found)
    mean = both.iloc[0]  # of 6 [6, 6] and -1 [-2, 6]: the distances are 0 and 1, 0 and 7, halved
    assert (mean.both_difference, mean.both_low, mean.both_high) == pytest.approx((2.5, 2, 6))
    assert (mean.both_rare, mean.both_result) == (pytest.approx(10), "above") and both.both_difference.isna()[1]
    advice = evidence._advice(both, "Train jointly.", ("joint", "real", "above"))
    assert advice["number"] == "joint over real: +2.5 [+2.0, +6.0] points, rare +10.0 [+10.0, +10.0], both worlds"
    assert advice["supported"]
    advice = evidence._advice(both, "?", ("worse", "real", "above"))
    assert advice["number"].endswith(", this world") and not advice["supported"]
    assert not evidence._advice(both, "?", ("joint", "worse", "open"))["supported"]
    barely = both.iloc[0].copy()
    barely[["both_difference", "both_low"]] = -0.01
    advice = evidence._advice(barely.to_frame().T, "?", ("joint", "real", "open"))
    assert advice["number"].startswith("joint over real: +0.0 [-0.0, +6.0]")
    of_rare = [evidence._advice(both, "?", ("joint", "real", "above", wanted)) for wanted in ("above", "open")]
    assert [one["supported"] for one in of_rare] == [True, False]
    axes = evidence.forest(both).axes[0]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"][::2] == [-1, 2]


def test_classes_come_rarest_first(arms):
    classes = pd.DataFrame({"label": [1, 2], "name": ["sky", "ship"], "pixels": [900, 100]})
    table = evidence.class_gains(arms["joint"], arms["real"], classes)
    assert table.name.tolist() == ["ship", "sky"]
    assert table.gain.tolist() == pytest.approx([10, 2]) and table.share.tolist() == [0.1, 0.9]
    assert table.low.tolist() == pytest.approx([10, 2])
    axes = evidence.by_frequency(table).axes[0]
    assert [label.get_text().split() for label in axes.get_yticklabels()] == [["ship", "10", "%"], ["sky", "90", "%"]]


def test_the_kernel_distance_of_one_distribution_is_none_and_grows_with_the_shift():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(300, 8)), random.normal(size=(300, 8))
    same, near, far = (quality.kernel_distance(first, second + shift) for shift in (0, 0.3, 1.0))
    assert abs(same) < 0.1 < near < far
    one, other = np.array([[1.0, 0], [0, 2]]), np.array([[1.0, 1], [2, 0]])
    # k = (x.y / 2 + 1)^3; within: k(1,2) = 1 and k = 8; across: 3.375, 8, 8, 1
    assert quality.kernel_distance(one, other) == pytest.approx(1 + 8 - 2 * (3.375 + 8 + 8 + 1) / 4)


def test_mean_iou_by_hand():
    truth, predicted = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 1]])
    assert quality.mean_iou([(truth, predicted)], classes=3) == pytest.approx(50)
