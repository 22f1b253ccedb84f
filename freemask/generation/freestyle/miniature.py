"""The miniature generator: FreestyleNet's parts at a size that trains in minutes and ships in 8 MB."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from freemask.generation.freestyle.pipeline import FreestylePipeline, make_scheduler
from freemask.generation.freestyle.prompt import TOKENS, clip_tokenizer

LATENT_CHANNELS = 8
TEXT_WIDTH = 24  # CLIP's 49,408 tokens take most of the text encoder: 24 wide they are 2.4 MB in half precision


def build_miniature(image_size: int, seed: int) -> FreestylePipeline:
    """A FreestylePipeline with random weights for square images (sides in multiples of 8): v-prediction."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=image_size,
    )
    text_encoder = build_text_encoder(tokenizer)
    unet = UNet2DConditionModel(
        sample_size=image_size // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(48, 96),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return FreestylePipeline(vae, text_encoder, tokenizer, unet, make_scheduler("plms", "v_prediction"))


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text encoder, one layer of it and narrow."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
