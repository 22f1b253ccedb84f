"""Filters that read the scorer's predictions, and the kinds of pixels that a filter takes."""

import numpy as np
import packed
import pytest
import torch

from freemask import images, packs
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.filtering import kinds
from freemask.filtering.filters import ScoredMask, relabel
from freemask.filtering.scoring import margin_map, margin_png, thresholds
from freemask.filtering.sets import MaskFilter
from freemask.generation.failures import SHARE, painted

SPACE = LabelSpace((1, 2, 7), ("sky", "road", "ship"), ("sky", "road", "ship"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 0)
LOSS = torch.tensor([[0.05, 0.2, 0.2, 0.2]])
TRAIN = torch.tensor([[0, 0, 0, 255]], dtype=torch.uint8)
PREDICTION = torch.tensor([[2, 2, 1, 1]], dtype=torch.uint8)
CONFIDENCE = torch.tensor([[250, 250, 228, 250]], dtype=torch.uint8)  # 229.5 is 90 %
LIMITS = thresholds(torch.tensor([0.1, 0.1, 0.1]))


def test_relabel_by_hand():
    """Trusted, filtered with a confident prediction, filtered without one, ignored."""
    codes, labels, confidence = np.moveaxis(
        margin_map(LOSS, TRAIN, PREDICTION, CONFIDENCE, limits=LIMITS, label_space=SPACE), -1, 0
    )
    mask = np.array([[1, 1, 1, 0]], np.uint8)
    assert relabel(ScoredMask(mask, codes, 1.25, 0, labels, confidence)).tolist() == [[1, 7, 0, 0]]


def test_predictions_survive_their_pack(tmp_path):
    stored = margin_map(LOSS, TRAIN, PREDICTION, CONFIDENCE, limits=LIMITS, label_space=SPACE)
    path = f"{tmp_path}/maps/a-42.png"
    with packs.Writer(tmp_path / "maps") as writer:
        writer.add("a-42.png", "stamp", margin_png(stored))
    (place,) = packs.find([path], ["stamp"])
    mask = np.array([[1, 1, 1, 0]], np.uint8)
    assert MaskFilter(path, place, "relabel", 1.25).apply(mask, 0).tolist() == [[1, 7, 0, 0]]
    assert np.array_equal(images.read_layers(path, packs.read(place)), stored)


def test_a_map_without_predictions_is_refused(tmp_path):
    path = f"{tmp_path}/maps/a-42.png"
    packed.pack({path: np.zeros((1, 4), np.uint8)}, ["stamp"])
    (place,) = packs.find([path], ["stamp"])
    with pytest.raises(InputError, match=r"a-42.png: mode L, want three 8-bit channels"):
        MaskFilter(path, place, "relabel", 1.25).apply(np.zeros((1, 4), np.uint8), 0)


def test_kinds_by_hand():
    """A square of 20x20 with a stripe on its right, a dot, and a failure in a corner."""
    mask = np.ones((20, 20), np.uint8)
    mask[:, 15:] = 2
    mask[9, 6] = 7
    mask[19, 0] = 0
    instead = mask.copy()
    instead[0, 0:3] = 2
    found = kinds.kinds_of(mask, instead, ignored=0)
    assert found[0, :4].tolist() == [0, 0, 0, 3]  # failure, rest
    assert found[5, 10:20].tolist() == [3, 3, 3, 2, 2, 2, 2, 3, 3, 3]  # two pixels on either side
    assert found[19, 0] == -1
    assert found[9, 3:8].tolist() == [3, 2, 2, 1, 2]  # around the dot, one pixel of 400
    changed = found == 0
    shares = kinds.shares_of_kinds(kinds.count_kinds(found, changed)).set_index("kind")
    assert shares.filtered.tolist() == [3, 0, 0, 0] and shares.share["failure"] == 1.0
    assert shares.pixels.sum() == 399 and shares.of_filtered["failure"] == 1.0


def test_a_faulty_generator_fails_in_a_quarter_of_the_regions_and_always_in_the_same_ones():
    mask = np.repeat(np.array([1, 2, 7, 0], np.uint8), 4).reshape(4, 4)
    failed = [painted(mask, "m", seed, SPACE) for seed in range(2000)]
    assert all(np.array_equal(one, painted(mask, "m", seed, SPACE)) for seed, one in enumerate(failed[:20]))
    shares = np.mean([(one != mask).any(axis=1) for one in failed], axis=0)
    assert np.allclose(shares[:3], SHARE, atol=0.03) and shares[3] == 0
    assert any((painted(mask, "m", seed, SPACE) != painted(mask, "n", seed, SPACE)).any() for seed in range(20))
