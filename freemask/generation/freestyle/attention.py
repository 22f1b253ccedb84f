"""Rectified cross-attention: a class's tokens are visible only to the pixels of that class.

Source: FreestyleNet, section 3.2. The boolean masks are made once per batch and resolution. Every cross-attention layer
passes the mask of its resolution to scaled_dot_product_attention.
"""

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from freemask.errors import InputError

# Number of query pixels (h * w) -> (B, 1, h * w, 77) bool, True = visible. The number identifies a level of the UNet,
# for images of any shape, since every level has fewer pixels than the one above.
Visibility = dict[int, torch.Tensor]


def nearest(labels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize labels (B, H, W) to (B, height, width) like the reference: label[floor(i * H / height)]."""
    rows = torch.arange(height, device=labels.device) * labels.shape[1] // height
    columns = torch.arange(width, device=labels.device) * labels.shape[2] // width
    return labels[:, rows][:, :, columns]


def visibility(labels: torch.Tensor, token_labels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which text tokens each query pixel sees.

    A token of label -1 (start, end, padding, free words) is visible to all pixels, so no row is empty. Tokens of a
    class that vanishes at a small resolution are visible to none. Ignored pixels see the tokens of label -1 only.

    Args: labels: (B, H, W) integer raw labels; token_labels: (B, 77) integer; height, width: [query pixels].
    Returns: (B, 1, height * width, 77) bool, the 1 broadcasting over heads.
    """
    pixels = nearest(labels.long(), height, width).flatten(1)
    shared = (token_labels < 0)[:, None, :]
    return ((pixels[:, :, None] == token_labels[:, None, :]) | shared)[:, None]


def resolutions(unet: UNet2DConditionModel, height: int, width: int) -> list[tuple[int, int]]:
    """The (height, width) that queries have in the UNet for latents of height x width, largest first."""
    sizes = []
    for _level in range(len(unet.config.block_out_channels)):
        sizes.append((height, width))
        height, width = (height + 1) // 2, (width + 1) // 2  # rounding of a convolution with stride 2, padding 1
    return sizes


def visibilities(labels: torch.Tensor, token_labels: torch.Tensor, sizes: list[tuple[int, int]]) -> Visibility:
    """`visibility` at every resolution of the UNet, keyed by the number of query pixels."""
    return {height * width: visibility(labels, token_labels, height, width) for height, width in sizes}


class RectifiedAttnProcessor:
    """diffusers attention processor of cross-attention layers; takes `visibility` through cross_attention_kwargs."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        visibility: Visibility | None = None,
    ) -> torch.Tensor:
        """Attend from (B, h * w, C) pixels to (B, 77, C') tokens; without `visibility`, plain attention."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = self._heads(attn.to_q(hidden_states), attn.heads)
        key, value = (self._heads(layer(context), attn.heads) for layer in (attn.to_k, attn.to_v))
        visible = None
        if encoder_hidden_states is not None and visibility is not None:
            visible = visibility[hidden_states.shape[1]]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=attn.scale)
        attended = attended.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](attended))

    @staticmethod
    def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
        """(B, N, heads * d) to (B, heads, N, d)."""
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def rectify(unet: UNet2DConditionModel) -> None:
    """Give every attention layer of a UNet the rectified processor.

    Self-attention layers get it too, since diffusers passes cross_attention_kwargs to both; they ignore the masks.

    Raises: InputError for a UNet with attention that Stable Diffusion 1.x doesn't have.
    """
    for name, layer in unet.named_modules():
        if not isinstance(layer, Attention):
            continue
        extras = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "add_k_proj")
        used = [extra for extra in extras if getattr(layer, extra, None) is not None]
        if used or layer.residual_connection or layer.rescale_output_factor != 1:
            raise InputError(
                f"UNet layer {name} has {used or 'a residual'}, which Stable Diffusion 1.x doesn't have; use its UNet"
            )
    unet.set_attn_processor(RectifiedAttnProcessor())
