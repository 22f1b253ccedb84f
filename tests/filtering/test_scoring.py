"""Class-wise mean loss and margin codes against plain implementations."""

import math

import numpy as np
import pytest
import torch

from freemask.data.label_space import LabelSpace
from freemask.filtering.filters import ScoredMask, margin
from freemask.filtering.scoring import margin_codes, thresholds
from freemask.segmentation.inference import pixel_loss
from freemask.selection.hardness import class_wise_mean


def test_pixel_loss_by_hand():
    logits = torch.tensor([[[[0.0, 5.0]], [[math.log(3.0), 5.0]]]])  # (1, 2, 1, 2)
    train = torch.tensor([[[1, 255]]], dtype=torch.uint8)
    loss = pixel_loss(logits, train)
    assert abs(loss[0, 0, 0].item() - math.log(4 / 3)) < 1e-6  # -log(3 / (1 + 3))
    assert loss[0, 0, 1].item() == 0


def test_codes_say_at_which_alphas_the_released_comparison_filters():
    generator = torch.Generator().manual_seed(1)
    class_loss = torch.tensor([0.3, 0.017, 2.5], dtype=torch.float64)
    limits = thresholds(class_loss)
    train = torch.randint(0, 3, (40, 50), generator=generator).to(torch.uint8)
    loss = torch.rand((40, 50), generator=generator) * 4 * class_loss[train.long()].float()
    train[0, :10] = 255
    # on the grid itself, and one float32 step to either side
    for column, k in enumerate((1, 20, 25, 30)):
        value = torch.tensor(class_loss[2].item() * float(f"{0.05 * k:.2f}"))
        train[1:4, column] = 2
        loss[1:4, column] = torch.stack([value, torch.nextafter(value, value * 2), torch.nextafter(value, value * 0)])
    codes = margin_codes(loss, train, limits)
    for k in range(1, 256):
        alpha = float(f"{k * 0.05:.2f}")
        for label in range(3):
            here = train == label
            released = loss[here] > class_loss[label].item() * alpha
            assert torch.equal(codes[here] >= k, released), (k, label)
    assert (codes[train == 255] == 0).all()


def released_filter(logits, train, mean, alpha):
    """preprocess/filter.py, restated: pixel by pixel, from logits (K, H, W) to train ids with 255 where filtered."""
    loss = torch.nn.CrossEntropyLoss(ignore_index=255, reduction="none")(logits[None], train.long()[None])[0]
    filtered = train.clone()
    for y in range(train.shape[0]):
        for x in range(train.shape[1]):
            label = train[y, x].item()
            if label != 255 and loss[y, x] > mean[label] * alpha:
                filtered[y, x] = 255
    return filtered


@pytest.mark.parametrize("alpha", [0.05, 1.0, 1.25, 1.5, 2.0, 12.75])
def test_filtered_masks_are_the_released_ones_on_the_same_logits(alpha):
    """Bit for bit, through margin map and filter, for a label space whose raw labels aren't its train ids."""
    generator = torch.Generator().manual_seed(7)
    names = ("a", "b", "c")
    space = LabelSpace((10, 20, 200), names, names, ((0, 0, 0),) * 3, ignored=255)
    logits = torch.randn((2, 3, 24, 31), generator=generator) * 2
    train = torch.randint(0, 3, (2, 24, 31), generator=generator).to(torch.uint8)
    train[:, :3, :5] = 255
    losses = pixel_loss(logits, train)
    pixels = np.array([(train == label).sum().item() for label in range(3)])
    sums = np.array([losses[train == label].double().sum().item() for label in range(3)])
    mean = class_wise_mean(sums, pixels)
    codes = margin_codes(losses, train, thresholds(torch.tensor(mean)))
    for number in range(2):
        raw = space.to_raw(train[number].numpy())
        expected = released_filter(logits[number], train[number], mean.tolist(), alpha)
        filtered = margin(ScoredMask(raw, codes[number].numpy(), alpha, ignored=255))
        assert np.array_equal(space.to_train(filtered), expected.numpy())
        assert (filtered != raw).any() or alpha > 6


def test_codes_saturate_and_a_class_without_loss_is_always_filtered():
    limits = thresholds(torch.tensor([1.0, 0.0], dtype=torch.float64))
    loss = torch.tensor([100.0, 12.75, 12.8, 1e-30, 0.0])
    train = torch.tensor([0, 0, 0, 1, 1], dtype=torch.uint8)
    assert margin_codes(loss, train, limits).tolist() == [255, 254, 255, 255, 0]
