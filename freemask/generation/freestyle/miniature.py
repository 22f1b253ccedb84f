"""The miniature generator: FreestyleNet's parts at a size that trains in minutes, with weights of 8 MB."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from freemask.data.miniworld.dataset import render_stream
from freemask.generation.freestyle.autoencoder import AutoencoderSettings, encode_stream, train_autoencoder
from freemask.generation.freestyle.loading import build_text_encoder, replaced_folder, shipped_tokenizer
from freemask.generation.freestyle.pairs import LatentPairs
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.schedulers import make_scheduler

LATENT_CHANNELS = 8
TEXT_WIDTH = 24  # CLIP's 49,408 tokens take most of the text encoder: 24 wide they are 2.4 MB in half precision
# Sampling begins with pure noise. At Stable Diffusion's last level (beta_end 0.012) a latent's mean over 16 x 16 still
# shows, so that the model expects it and images come out grey. Source: https://arxiv.org/abs/2305.08891
BETA_END = 0.02


def build_miniature(image_size: int, seed: int) -> FreestylePipeline:
    """A FreestylePipeline with random weights for square images (sides in multiples of 8): v-prediction."""
    torch.manual_seed(seed)
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
    text_encoder = build_text_encoder(
        hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=1, num_attention_heads=2
    )
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
    scheduler = make_scheduler("plms", "v_prediction", beta_end=BETA_END)
    return FreestylePipeline(vae, text_encoder, shipped_tokenizer(), unet, scheduler)


def begin_miniature(
    folder: Path, image_size: int, seed: int, stream: dict, autoencoder: AutoencoderSettings
) -> tuple[FreestylePipeline, LatentPairs, list[tuple[np.ndarray, np.ndarray]]]:
    """Make the miniature with a trained autoencoder (folder/autoencoder, once trained), and its UNet's training data.

    Args: folder: the training's; image_size: side of the images [pixels]; seed: of the random weights and of the
        autoencoder's noise; stream: scenes of the miniature world: scenes, seed, missing.
    Returns: the pipeline, pairs of latents and masks, and the first eight pairs of image and mask.
    """
    images, labels = render_stream(stream["scenes"], stream["seed"], image_size, stream["missing"])
    pipeline = build_miniature(image_size, seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline.vae.to(device)
    finished = folder / "autoencoder"
    if (finished / "config.json").exists():  # of an interrupted training
        pipeline.register_modules(vae=type(pipeline.vae).from_pretrained(finished, use_safetensors=True).to(device))
    else:
        train_autoencoder(pipeline.vae, images, autoencoder, device)
        with replaced_folder(finished) as made:
            pipeline.vae.save_pretrained(made)
    latents = encode_stream(pipeline.encode_images, images, device, seed)
    return pipeline, LatentPairs(latents, labels), list(zip(images[:8], labels[:8], strict=True))
