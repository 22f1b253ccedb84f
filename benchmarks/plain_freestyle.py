"""FreestyleNet's UNet pass as in the original code, restated plainly, for benchmarks/synthesis.py.

Masks are rebuilt in Python in every layer of every call, attention isn't fused, and guidance takes two passes.
"""

import torch

from freemask.generation.freestyle.attention import RectifiedAttnProcessor, rectify
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.prompt import Prompt


class PlainAttnProcessor(RectifiedAttnProcessor):
    """Attention as the original computes it: scores in full, masks made again from the layout at every call."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, layout=None):
        """Attend from (B, h * w, C) to text or to itself; layout: labels (B, H, W) and each image's prompt."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = self._heads(attn.to_q(hidden_states), attn.heads)
        key, value = (self._heads(layer(context), attn.heads) for layer in (attn.to_k, attn.to_v))
        scores = query @ key.transpose(-1, -2) * attn.scale
        if encoder_hidden_states is not None and layout is not None:
            seen = rebuilt_masks(*layout, hidden_states.shape[1]).to(scores.device)
            scores = scores.masked_fill(~seen[:, None], -torch.finfo(scores.dtype).max)
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](attended))


def rebuilt_masks(labels: torch.Tensor, prompts: list[Prompt], pixels: int) -> torch.Tensor:
    """(B, pixels, 77) bool, image by image and token by token, for square images."""
    side = round(pixels**0.5)
    masks = torch.ones(len(prompts), pixels, 77, dtype=torch.bool)
    for image, prompt in enumerate(prompts):
        small = torch.nn.functional.interpolate(labels[image][None, None].float(), (side, side), mode="nearest")
        for token, label in enumerate(prompt.token_labels.tolist()):
            if label >= 0:
                masks[image, :, token] = (small == label).flatten()
    return masks


@torch.no_grad()
def predict_plainly(pipeline: FreestylePipeline, sample, t, context, layout) -> torch.Tensor:
    """What the UNet predicts for both halves of the guidance, (2B, C, h, w), in two passes.

    Args: sample: (B, C, h, w); context: (2B, 77, D), unconditional half first; layout: labels (B, H, W) and prompts.
    """
    empty, full = context.chunk(2)
    pipeline.unet.set_attn_processor(PlainAttnProcessor())
    try:
        unconditional = pipeline.unet(sample, t, empty).sample
        conditional = pipeline.unet(sample, t, full, cross_attention_kwargs={"layout": layout}).sample
    finally:
        rectify(pipeline.unet)
    return torch.cat([unconditional, conditional])
