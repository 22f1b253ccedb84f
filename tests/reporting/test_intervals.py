"""Bootstrap intervals of gains, by hand where a resample can only give a few numbers, and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from freemask.errors import InputError
from freemask.reporting import intervals
from freemask.reporting.intervals import IMAGES, IMAGES_AND_SEEDS, NOT_KEPT, SameImages, gain_interval, resampled_ious
from freemask.segmentation.areas import NAME, Areas, write_areas


def areas(intersection, union) -> Areas:
    """Areas of rows of images and columns of classes."""
    intersection, union = np.array(intersection), np.array(union)
    names = np.array([f"image {row}" for row in range(len(union))])
    return Areas(names, np.arange(union.shape[1]), intersection, union, union)


def test_a_resample_is_the_iou_of_the_drawn_images():
    """Against counting image by image; two images, one of which lacks the second class."""
    one = areas([[1, 0], [3, 2]], [[4, 0], [8, 2]])
    found = resampled_ious(one)
    drawn = np.random.default_rng(0).integers(2, size=(intervals.RESAMPLES, 2))
    for rows, iou in zip(drawn[:40], found[:40], strict=True):
        union = one.union[rows].sum(0)
        expected = [100 * a / b if b else math.nan for a, b in zip(one.intersection[rows].sum(0), union, strict=True)]
        np.testing.assert_array_equal(iou, expected)
    assert set(found[:, 0]) == {25.0, 100 * 4 / 12, 37.5}


def test_windows_of_an_image_are_drawn_together():
    """Three windows, two of one image: the IoU of that image, of the other, or of both."""
    names = np.array(["a__y00000_x00000", "b__y00000_x00000", "a__y00000_x00448"])
    union = np.full((3, 1), 10)
    found = resampled_ious(Areas(names, np.arange(1), np.array([[1], [9], [4]]), union, union))
    assert set(found[:, 0]) == {25.0, 90.0, 100 * 14 / 30}


def test_a_gain_that_every_image_has_is_certain():
    before, after = ({0: resampled_ious(areas([[a], [a + 4]], [[10], [10]]))[:, 0]} for a in (1, 3))
    found = gain_interval(before, after)
    assert (found.low, found.high, found.over) == (20, 20, IMAGES)
    turned = gain_interval(after, before)
    assert (turned.low, turned.high) == (-20, -20)


def test_it_is_the_percentile_bootstrap_of_paired_images():
    """Where all images are as large, IoU is a mean over images; scipy's interval, within what chance leaves."""
    random = np.random.default_rng(5)
    base = random.integers(20, 60, (300, 1))
    better = base + random.integers(-10, 20, (300, 1))
    sides = [resampled_ious(areas(side, np.full((300, 1), 100)))[:, 0] for side in (base, better)]
    found = gain_interval({0: sides[0]}, {0: sides[1]})
    expected = stats.bootstrap(((better - base)[:, 0],), np.mean, method="percentile", rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.15)
    assert found.high - found.low == pytest.approx(2 * 1.96 * (better - base).std() / math.sqrt(300), rel=0.1)


def test_three_train_seeds_widen_it_by_students_interval():
    """Gains 1, 2, 6 with the same images: mean 3, standard deviation sqrt(7), 4.3027 of a t distribution's table."""
    before = {seed: np.full(intervals.RESAMPLES, 40.0) for seed in (0, 1, 2, 9)}
    after = {seed: np.full(intervals.RESAMPLES, 40.0 + gain) for seed, gain in {0: 1, 1: 2, 2: 6, 7: 90}.items()}
    found = gain_interval(before, after)
    chance = 4.3027 * math.sqrt(7) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((3 - chance, 3 + chance), abs=1e-3)
    assert found.over == IMAGES_AND_SEEDS
    # images alone: the middle 95 % of -1 or 1, whichever is drawn, beside the mean gain
    coin = np.where(np.arange(intervals.RESAMPLES) % 2, 1.0, -1.0)
    found = gain_interval(before, {seed: after[seed] + coin for seed in (0, 1, 2)})
    assert (found.low, found.high) == pytest.approx((3 - math.hypot(1, chance), 3 + math.hypot(1, chance)), abs=1e-3)
    # a class without an IoU in seed 2: mean 1.5, deviation sqrt(0.5), 12.706 of the table, over the two others
    classes = {
        seed: np.stack([after[seed], np.full(1000, math.nan) if seed == 2 else after[seed]], 1) for seed in range(3)
    }
    found = gain_interval({seed: np.full((1000, 2), 40.0) for seed in range(3)}, classes)
    np.testing.assert_allclose(found.high, [3 + chance, 1.5 + 12.706 * math.sqrt(0.5) / math.sqrt(2)], atol=1e-3)
    del after[2]
    found = gain_interval(before, after)
    assert (found.low, found.high, found.over) == (1.5, 1.5, IMAGES)


@pytest.mark.parametrize(("seeds", "of_images"), [(3, 0.0), (5, 0.0), (3, 1.0), (5, 1.0), (5, 4.0)])
def test_it_holds_the_true_gain_as_often_as_it_says(seeds, of_images):
    """Normal chance of seeds, and of images `of_images` times as large in the mean of all seeds; the true gain is 0."""
    random = np.random.default_rng(4)
    before = dict.fromkeys(range(seeds), np.zeros(intervals.RESAMPLES))
    resampled = random.normal(size=intervals.RESAMPLES)
    held = []
    for _ in range(1500):
        drawn = of_images / math.sqrt(seeds) * (random.normal() + resampled)
        found = gain_interval(before, {seed: drawn + random.normal() for seed in range(seeds)})
        held.append(found.low <= 0 <= found.high)
    assert 0.935 < np.mean(held) < 0.99, np.mean(held)


def test_without_areas_or_a_common_seed_there_is_no_interval():
    numbers = np.ones(intervals.RESAMPLES)
    assert gain_interval({0: numbers, 1: None}, {0: numbers, 1: numbers}).over == NOT_KEPT
    found = gain_interval({0: numbers}, {1: numbers})
    assert math.isnan(found.low) and not found.over


def test_a_class_that_few_images_show_has_no_interval():
    """One of 20 images isn't drawn in 36 % of the resamples, any of 8 in 0.03 %."""
    union = np.zeros((20, 3), int)
    union[:1, 0], union[:8, 1] = 10, 10
    before, after = (resampled_ious(areas(union * share // 10, union)) for share in (2, 5))
    found = gain_interval({0: before}, {0: after})
    np.testing.assert_array_equal(found.low, [math.nan, 30, math.nan])
    np.testing.assert_array_equal(found.high, [math.nan, 30, math.nan])


def test_evaluations_of_other_images_are_not_paired(tmp_path):
    images = SameImages()
    for name, rows in (("a", [[5], [5]]), ("b", [[5], [5], [5]])):
        folder = tmp_path / name
        write_areas(folder / NAME, areas(rows, [[10]] * len(rows)))
        (folder / "per_class_iou.tsv").write_text("label\tname\tiou\tacc\n0\tsky\t50\t50\n")
    assert images.read(tmp_path / "none/per_class_iou.tsv") is None
    assert len(images.read(tmp_path / "a/per_class_iou.tsv").mask_ids) == 2
    with pytest.raises(
        InputError, match="a/per_class_iou.tsv and .*b/per_class_iou.tsv: evaluated on different images"
    ):
        images.read(tmp_path / "b/per_class_iou.tsv")
