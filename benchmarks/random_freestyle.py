"""A FreestyleNet with random weights and masks, of Stable Diffusion 1.4's size or a small one."""

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from plain_freestyle import PlainAttnProcessor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from freemask.generation.freestyle.loading import shipped_tokenizer
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.schedulers import make_scheduler

SIZES = {  # UNet's and VAE's channels, UNet's and VAE's blocks per level, text width and layers, image side [pixels]
    "sd14": {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "blocks": 2, "text": (768, 12), "side": 512},
    "tiny": {"unet": (32, 64, 64, 64), "vae": (32, 32, 32, 32), "blocks": 1, "text": (64, 1), "side": 64},
    "small": {"unet": (64, 128, 256, 256), "vae": (32, 64, 64, 64), "blocks": 1, "text": (128, 2), "side": 256},
}


def build_unet(sizes: dict) -> UNet2DConditionModel:
    """Stable Diffusion 1.x's UNet: three levels with attention, one without."""
    return UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=sizes["unet"],
        layers_per_block=sizes["blocks"],
        attention_head_dim=8,  # diffusers' name for the number of heads
        cross_attention_dim=sizes["text"][0],
    )


def build_pipeline(sizes: dict, device: str, dtype: torch.dtype) -> FreestylePipeline:
    """The pipeline with random weights."""
    torch.manual_seed(0)
    width, layers = sizes["text"]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=sizes["vae"],
        layers_per_block=sizes["blocks"],
    )
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    parts = [vae.eval(), CLIPTextModel(text).eval(), shipped_tokenizer(), build_unet(sizes).eval()]
    pipeline = FreestylePipeline(*parts, make_scheduler("plms"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device, dtype)


def draw_masks(words: dict[int, str], count: int, classes: int, side: int) -> np.ndarray:
    """Masks (count, side, side) uint8 of blocks, with so many classes each."""
    random = np.random.default_rng(0)
    blocks = []
    for _ in range(count):
        chosen = random.choice(sorted(words), size=classes, replace=False).astype(np.uint8)
        blocks.append(chosen[random.permutation(np.arange(256) % classes).reshape(16, 16)])
    return np.stack(blocks).repeat(side // 16, 1).repeat(side // 16, 2)


def unet_flops(sizes: dict) -> float:
    """Floating-point operations of one UNet call for one image, counted on tensors without content."""
    with torch.device("meta"):
        unet = build_unet(sizes)
        unet.set_attn_processor(PlainAttnProcessor())
        side = sizes["side"] // 8
        with FlopCounterMode(display=False) as counter:
            unet(torch.empty(1, 4, side, side), torch.empty(1), torch.empty(1, 77, sizes["text"][0]))
    return counter.get_total_flops()
