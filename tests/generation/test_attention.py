"""Rectified attention: who sees what, by hand and against a plain loop; odd and non-square sizes."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from freemask.errors import InputError
from freemask.generation.freestyle.attention import nearest, rectify, resolutions, visibilities, visibility


def tiny_unet(**options) -> UNet2DConditionModel:
    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**settings | options).eval()


def test_layout_is_the_references():
    """label[floor(i * side / r)]: 5 to 3 takes 0, 1, 3; 6 to 4 takes 0, 1, 3, 4."""
    labels = torch.arange(30).view(1, 5, 6)
    assert nearest(labels, 3, 4).tolist() == [[[0, 1, 3, 4], [6, 7, 9, 10], [18, 19, 21, 22]]]


def test_who_sees_what_by_hand():
    """Classes 3 | 5 side by side, 7 in one corner; 0 is ignored; tokens: start, 3, 5, 5, 7, end, padding..."""
    labels = torch.tensor([[[7, 3, 5, 5], [3, 3, 0, 5]]], dtype=torch.uint8)
    token_labels = torch.full((1, 77), -1)
    token_labels[0, 1:5] = torch.tensor([3, 5, 5, 7])
    seen = visibility(labels, token_labels, 2, 4)
    assert seen.shape == (1, 1, 8, 77) and seen.dtype == torch.bool
    assert seen[0, 0, :, 0].all() and seen[0, 0, :, 5:].all()  # start, end, padding
    three, five, seven, none = [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]
    assert seen[0, 0, :, 1:5].int().tolist() == [seven, three, five, five, three, three, none, five]
    small = visibility(labels, token_labels, 1, 2)  # takes columns 0 and 2 of row 0: class 3 vanishes
    assert small[0, 0, :, 1:5].int().tolist() == [seven, five]


def test_two_labels_of_one_word_stay_apart():
    labels = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    token_labels = torch.full((1, 77), -1)
    token_labels[0, 1:3] = torch.tensor([1, 2])  # "screen screen"
    assert visibility(labels, token_labels, 1, 2)[0, 0, :, 1:3].int().tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (9, 7), (8, 20)])
def test_every_level_finds_its_mask(size):
    """Square, non-square and odd sizes; every token visible equals no mask, and a real mask changes the result."""
    unet = tiny_unet()
    rectify(unet)
    torch.manual_seed(1)
    x, context = torch.randn(2, 4, *size), torch.randn(2, 77, 12)
    labels = torch.from_numpy(np.random.default_rng(0).integers(1, 3, (2, 8 * size[0], 8 * size[1]), dtype=np.uint8))
    sizes = resolutions(unet, *size)
    assert len({height * width for height, width in sizes}) == len(sizes)
    free = torch.full((2, 77), -1)
    bound = free.clone()
    bound[:, 1], bound[:, 2] = 1, 2

    def predict(token_labels):
        masks = None if token_labels is None else visibilities(labels, token_labels, sizes)
        with torch.no_grad():
            return unet(x, 10, context, cross_attention_kwargs={"visibility": masks}).sample

    torch.testing.assert_close(predict(free), predict(None), atol=1e-5, rtol=0)
    assert (predict(bound) - predict(None)).abs().max() > 1e-3


def test_plain_attention_is_diffusers():
    unet = tiny_unet()
    torch.manual_seed(1)
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 12)
    with torch.no_grad():
        before = unet(x, 10, context).sample
        rectify(unet)
        torch.testing.assert_close(unet(x, 10, context).sample, before, atol=1e-6, rtol=0)


def test_processor_equals_masked_softmax():
    """One layer against the plain statement: blocked scores get the most negative finite value, then softmax."""
    unet = tiny_unet()
    rectify(unet)
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    torch.manual_seed(2)
    pixels, context = torch.randn(2, 6, 8), torch.randn(2, 77, 12)
    seen = torch.rand(2, 1, 6, 77) < 0.3
    seen[..., 0] = True
    with torch.no_grad():
        query, key, value = layer.to_q(pixels), layer.to_k(context), layer.to_v(context)
        expected = []
        for head in range(layer.heads):
            part = slice(head * 8 // layer.heads, (head + 1) * 8 // layer.heads)
            scores = query[..., part] @ key[..., part].transpose(1, 2) * layer.scale
            scores = scores.masked_fill(~seen[:, 0], torch.finfo(scores.dtype).min)
            expected.append(scores.softmax(-1) @ value[..., part])
        expected = layer.to_out[0](torch.cat(expected, -1))
        found = layer(pixels, encoder_hidden_states=context, visibility={6: seen})
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_batch_is_its_images():
    """A batch with two layouts gives each image what it gets alone: masks don't mix."""
    unet = tiny_unet()
    rectify(unet)
    torch.manual_seed(3)
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 12)
    labels = torch.randint(1, 3, (2, 64, 64), dtype=torch.uint8)
    token_labels = torch.full((2, 77), -1)
    token_labels[0, 1:3], token_labels[1, 1:3] = torch.tensor([1, 2]), torch.tensor([2, 1])

    def predict(which):
        masks = visibilities(labels[which], token_labels[which], resolutions(unet, 8, 8))
        with torch.no_grad():
            return unet(x[which], 10, context[which], cross_attention_kwargs={"visibility": masks}).sample

    alone = torch.cat([predict(slice(0, 1)), predict(slice(1, 2))])
    torch.testing.assert_close(predict(slice(0, 2)), alone, atol=1e-5, rtol=0)


def test_gradients_flow_through_the_masks():
    unet = tiny_unet().train()
    rectify(unet)
    context = torch.randn(1, 77, 12, requires_grad=True)
    token_labels = torch.full((1, 77), -1)
    token_labels[0, 1] = 9  # a class of no pixel: a column nobody sees
    masks = visibilities(torch.ones(1, 64, 64, dtype=torch.uint8), token_labels, resolutions(unet, 8, 8))
    unet(torch.randn(1, 4, 8, 8), 10, context, cross_attention_kwargs={"visibility": masks}).sample.sum().backward()
    assert context.grad[0, 1].abs().max() == 0 and context.grad[0, 0].abs().max() > 0


def test_foreign_attention_is_refused():
    unet = tiny_unet(
        down_block_types=("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    )
    with pytest.raises(InputError, match=r"UNet layer down_blocks.0.attentions.0 has .*use its UNet"):
        rectify(unet)
