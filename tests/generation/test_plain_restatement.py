"""The UNet's pass against the original's way, re-stated in plain loops: layouts that the recorded arrays don't have.

Not square, regions that vanish at the lowest resolution, ignored pixels, words of several tokens, a label twice worded.
"""

import functools

import numpy as np
import pytest
import torch
from test_freestyle_parity import PER_CALL, unet, words  # noqa: F401 - fixtures

from freemask.generation.freestyle.attention import rectify, resolutions, visibilities
from freemask.generation.freestyle.loading import shipped_tokenizer
from freemask.generation.prompt import make_prompt, present_labels

SIDES = [(32, 32), (24, 40), (20, 36)]  # latents; an eighth of the image
SKYSCRAPER, POOL, SCREEN, OTHER_SCREEN, SKY = 49, 110, 131, 142, 3  # 3 tokens, 2, 1, 1 and 1


def layout(height: int, width: int) -> np.ndarray:
    """Labels (8 height, 8 width): sky over ignored ground, towers, screens, and a pool of 3x3 pixels."""
    labels = np.zeros((8 * height, 8 * width), np.uint8)
    labels[: 4 * height] = SKY
    labels[height : 7 * height, 2 * width : 3 * width] = SKYSCRAPER
    labels[5 * height : 6 * height, 4 * width : 5 * width] = SCREEN
    labels[5 * height : 6 * height, 6 * width : 7 * width] = OTHER_SCREEN
    labels[7 * height + 1 : 7 * height + 4, 7 * width + 1 : 7 * width + 4] = POOL
    return labels


class PlainProcessor:
    """Scores in full, blocked ones the most negative finite number, the mask built pixel by pixel."""

    def __init__(self, sizes, labels=None, owners=None):
        """owners: the label of each of the 77 tokens, None where all see it; no labels: no mask."""
        self.sizes, self.labels, self.owners = {h * w: (h, w) for h, w in sizes}, labels, owners
        self.seen = functools.cache(self.build)  # loops over 300,000 cells

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        text = encoder_hidden_states
        context = hidden_states if text is None else text
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        width, outputs = query.shape[-1] // attn.heads, []
        for head in range(attn.heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / width**0.5
            if text is not None and self.labels is not None:
                scores = scores.masked_fill(~self.seen(scores.shape[1]), -torch.finfo(scores.dtype).max)
            outputs.append(scores.softmax(-1) @ value[..., part])
        return attn.to_out[0](torch.cat(outputs, -1))

    def build(self, pixels: int) -> torch.Tensor:
        height, width = self.sizes[pixels]
        whole_height, whole_width = self.labels.shape
        rows = []
        for y in range(height):
            for x in range(width):
                label = int(self.labels[y * whole_height // height, x * whole_width // width])
                rows.append([owner is None or owner == label for owner in self.owners])
        return torch.tensor(rows)


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_one_batched_pass_is_the_two_plain_ones(unet, words, height, width):  # noqa: F811
    labels = layout(height, width)
    sizes = resolutions(unet, height, width)
    prompt = make_prompt(present_labels(labels, 0), words, shipped_tokenizer())
    lowest = labels[np.ix_(*(np.arange(n) * 8 * side // n for n, side in zip(sizes[-1], (height, width), strict=True)))]
    assert POOL in labels and POOL not in lowest and 0 in lowest
    tokens = {SKY: 1, SKYSCRAPER: 3, POOL: 2, SCREEN: 1, OTHER_SCREEN: 1}  # as the original has them typed in
    owners = [None] + [label for label in sorted(tokens) for _ in range(tokens[label])]
    owners += [None] * (77 - len(owners))
    generator = torch.Generator().manual_seed(0)
    noise, context = (torch.randn(shape, generator=generator) for shape in ((1, 4, height, width), (2, 77, 64)))
    masks = visibilities(
        torch.from_numpy(np.stack([labels] * 2)),
        torch.from_numpy(np.stack([np.full(77, -1), prompt.token_labels])),
        sizes,
    )
    with torch.no_grad():
        kwargs = {"visibility": masks}
        found = unet(torch.cat([noise] * 2), 500, context, cross_attention_kwargs=kwargs).sample
        try:
            unet.set_attn_processor(PlainProcessor(sizes))
            plain = [unet(noise, 500, context[:1]).sample]
            unmasked = unet(noise, 500, context[1:]).sample
            unet.set_attn_processor(PlainProcessor(sizes, labels, owners))
            plain.append(unet(noise, 500, context[1:]).sample)
            shifted = [None, *owners[:-1]]
            unet.set_attn_processor(PlainProcessor(sizes, labels, shifted))
            off = unet(noise, 500, context[1:]).sample
        finally:
            rectify(unet)
    assert (found - torch.cat(plain)).abs().max() < PER_CALL
    for wrong in (unmasked, off):  # so that the comparison has teeth
        assert (found[1:] - wrong).abs().max() > 1000 * PER_CALL
