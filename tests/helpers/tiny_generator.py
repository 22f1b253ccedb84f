"""A random FreestylePipeline that generates 32x32 images in milliseconds, and its weights in the original layout."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from freemask.generation.freestyle.checkpoint import Architecture
from freemask.generation.freestyle.loading import shipped_tokenizer
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.freestyle.training import GeneratorTrainer
from freemask.generation.schedulers import make_scheduler

WORDS = {1: "wall", 2: "sky", 7: "swimming pool", 9: "skyscraper"}
# The original's group norms have 32 groups.
ORIGINAL = Architecture(
    widths=(32, 64), layers_per_block=1, heads=2, context=8, text_layers=1, text_heads=2, vae_widths=(32, 32, 64),
    vae_layers_per_block=1, latent_channels=4, image_size=32,
)  # fmt: skip


def tiny_pipeline(prediction_type: str = "epsilon", normalised: bool = False, seed: int = 0) -> FreestylePipeline:
    """Latents of 3 channels at a quarter of the image, two levels of attention."""
    torch.manual_seed(seed)
    statistics = {"latents_mean": [1.0, -2.0, 0.5], "latents_std": [0.5, 2.0, 1.0]} if normalised else {}
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=2,
        mid_block_add_attention=False,
        scaling_factor=0.5,
        **statistics,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    scheduler = make_scheduler("plms", prediction_type)
    pipeline = FreestylePipeline(vae.eval(), CLIPTextModel(text).eval(), shipped_tokenizer(), unet.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def original_layout(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the original's keys, of the sizes in ORIGINAL; written down from the original's modules."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def add(name: str, *shape: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.1
        if bias:
            tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    unet_keys(add)
    vae_keys(add)
    text_keys(add, tensors, generator)
    return tensors


def unet_keys(add) -> None:
    """UNetModel: model_channels 32, channel_mult [1, 2], one residual block, attention at the first level."""
    root = "model.diffusion_model."
    add(f"{root}time_embed.0", 128, 32)
    add(f"{root}time_embed.2", 128, 128)
    add(f"{root}input_blocks.0.0", 32, 4, 3, 3)
    blocks = [("input_blocks.1", 32, 32, True), ("input_blocks.3", 32, 64, False), ("output_blocks.0", 128, 64, False)]
    blocks += [("output_blocks.1", 96, 64, False), ("output_blocks.2", 96, 32, True), ("output_blocks.3", 64, 32, True)]
    blocks += [("middle_block", 64, 64, True)]
    for name, inner, outer, attention in blocks:
        residual(add, f"{root}{name}.0", inner, outer)
        if attention:
            transformer(add, f"{root}{name}.1", outer)
    residual(add, f"{root}middle_block.2", 64, 64)
    add(f"{root}input_blocks.2.0.op", 32, 32, 3, 3)
    add(f"{root}output_blocks.1.1.conv", 64, 64, 3, 3)
    add(f"{root}out.0", 32)
    add(f"{root}out.2", 4, 32, 3, 3)


def residual(add, name: str, inner: int, outer: int) -> None:
    add(f"{name}.in_layers.0", inner)
    add(f"{name}.in_layers.2", outer, inner, 3, 3)
    add(f"{name}.emb_layers.1", outer, 128)
    add(f"{name}.out_layers.0", outer)
    add(f"{name}.out_layers.3", outer, outer, 3, 3)
    if inner != outer:
        add(f"{name}.skip_connection", outer, inner, 1, 1)


def transformer(add, name: str, width: int) -> None:
    add(f"{name}.norm", width)
    add(f"{name}.proj_in", width, width, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, context in (("attn1", width), ("attn2", 8)):
        add(f"{block}.{attention}.to_q", width, width, bias=False)
        add(f"{block}.{attention}.to_k", width, context, bias=False)
        add(f"{block}.{attention}.to_v", width, context, bias=False)
        add(f"{block}.{attention}.to_out.0", width, width)
    add(f"{block}.ff.net.0.proj", 8 * width, width)
    add(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        add(f"{block}.{norm}", width)
    add(f"{name}.proj_out", width, width, 1, 1)


def vae_keys(add) -> None:
    """The original's AutoencoderKL: ch 32, ch_mult [1, 1, 2], one residual block, attention in the middle only."""
    root = "first_stage_model."
    for side, blocks, first, last in (
        ("encoder", [("down.0", 32, 32), ("down.1", 32, 32), ("down.2", 32, 64)], (32, 3), (8, 64)),
        ("decoder", [("up.2", 64, 64), ("up.1", 64, 32), ("up.0", 32, 32)], (64, 4), (3, 32)),
    ):
        add(f"{root}{side}.conv_in", *first, 3, 3)
        for name, inner, outer in blocks:
            for number in range(1 if side == "encoder" else 2):  # the decoder has one block more
                resnet(add, f"{root}{side}.{name}.block.{number}", inner if number == 0 else outer, outer)
        sampler = (
            ("down.0.downsample", "down.1.downsample") if side == "encoder" else ("up.2.upsample", "up.1.upsample")
        )
        for name in sampler:
            width = 64 if name == "up.2.upsample" else 32
            add(f"{root}{side}.{name}.conv", width, width, 3, 3)
        for number in (1, 2):
            resnet(add, f"{root}{side}.mid.block_{number}", 64, 64)
        add(f"{root}{side}.mid.attn_1.norm", 64)
        for layer in ("q", "k", "v", "proj_out"):
            add(f"{root}{side}.mid.attn_1.{layer}", 64, 64, 1, 1)
        add(f"{root}{side}.norm_out", last[1])
        add(f"{root}{side}.conv_out", *last, 3, 3)
    add(f"{root}quant_conv", 8, 8, 1, 1)
    add(f"{root}post_quant_conv", 4, 4, 1, 1)


def resnet(add, name: str, inner: int, outer: int) -> None:
    add(f"{name}.norm1", inner)
    add(f"{name}.conv1", outer, inner, 3, 3)
    add(f"{name}.norm2", outer)
    add(f"{name}.conv2", outer, outer, 3, 3)
    if inner != outer:
        add(f"{name}.nin_shortcut", outer, inner, 1, 1)


def text_keys(add, tensors, generator) -> None:
    """CLIPTextModel's keys as they were when Stable Diffusion 1.4 was saved."""
    root = "cond_stage_model.transformer.text_model."
    tensors[f"{root}embeddings.position_ids"] = torch.arange(77)[None]
    tensors[f"{root}embeddings.token_embedding.weight"] = torch.randn(49408, 8, generator=generator)
    tensors[f"{root}embeddings.position_embedding.weight"] = torch.randn(77, 8, generator=generator)
    layer = f"{root}encoder.layers.0"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        add(f"{layer}.self_attn.{name}", 8, 8)
    add(f"{layer}.mlp.fc1", 32, 8)
    add(f"{layer}.mlp.fc2", 8, 32)
    for name in (f"{layer}.layer_norm1", f"{layer}.layer_norm2", f"{root}final_layer_norm"):
        add(name, 8)


def schedule_buffers() -> dict[str, torch.Tensor]:
    """What DDPM registers beside the weights (float32), of which alphas_cumprod is compared."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    cumulative = (1 - betas).cumprod(0)
    names = "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod"
    names += " log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance"
    names += " posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2"
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names.split())
    return {name: (cumulative if name == "alphas_cumprod" else betas).float() for name in names.split()}


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """End a generator training in this block like a killed one: after the step of that number, before it is noted."""
    after_step = GeneratorTrainer._after_step

    def killed(trainer, *arguments):
        if trainer.step == step:
            raise KeyboardInterrupt
        after_step(trainer, *arguments)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GeneratorTrainer, "_after_step", killed)
        yield
