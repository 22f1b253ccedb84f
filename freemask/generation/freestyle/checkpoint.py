"""Original FreestyleNet checkpoints (LDM keys: model.diffusion_model.*, first_stage_model.*, ...) to diffusers folders.

Works offline: diffusers' single-file converters rename the keys, and the architecture is defined here. Every key of
the file must have its place in a model, and every parameter of a model its key.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPTextModel

from freemask.errors import InputError
from freemask.files import check_sha256, write_json
from freemask.generation.freestyle.loading import build_text_encoder, save_rest, shipped_tokenizer
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.schedulers import make_scheduler
from freemask.parallel import some
from freemask.weights import load_safely

logger = logging.getLogger(__name__)
Tensors = dict[str, torch.Tensor]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
# Keys beside the weights: the noise levels (computed again, alphas_cumprod compared), the text encoder's positions
# 0..76, and the EMA copy of the UNet (model_ema), which FreestyleNet doesn't use.
BESIDE = re.compile(
    r"(betas|alphas_cumprod(_prev)?|(sqrt|log)_(one_minus_|recip_|recipm1_)?alphas_cumprod|posterior_variance|"
    r"posterior_log_variance_clipped|posterior_mean_coef[12]|lvlb_weights|logvar|scale_factor|model_ema\..*|"
    r"cond_stage_model\.transformer\.(text_model\.)?embeddings\.position_ids)"
)


@dataclass(frozen=True)
class Architecture:
    """Sizes of a Stable Diffusion 1.x model, 1.4's by default.

    widths, vae_widths: Channels per level.
    context: Width of the text's hidden states.
    """

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    heads: int = 8
    context: int = 768
    text_layers: int = 12
    text_heads: int = 12
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    latent_channels: int = 4
    image_size: int = 512


STABLE_DIFFUSION_1_4 = Architecture()


def convert_checkpoint(
    source: str | Path,
    folder: str | Path,
    expected_sha256: str | None = None,
    half: bool = False,
    architecture: Architecture = STABLE_DIFFUSION_1_4,
) -> None:
    """Convert an original checkpoint (.ckpt, .pt or .safetensors) to a diffusers pipeline folder in float32.

    Args: expected_sha256: digest of the file (None: any); half: write the variant "fp16" as well; architecture: sizes
        of the networks.
    Raises: InputError for another digest, a damaged file, keys missing or left over, or other noise levels.
    """
    source, folder = Path(source), Path(folder)
    found = check_sha256(source, expected_sha256, "the download is damaged or another file; fetch it again")
    tensors = read_checkpoint(source)
    check_keys(tensors)
    pipeline = FreestylePipeline(
        vae=convert_vae(tensors, architecture),
        text_encoder=convert_text_encoder(tensors, architecture),
        tokenizer=shipped_tokenizer(),
        unet=convert_unet(tensors, architecture),
        scheduler=make_scheduler("plms"),
    )
    (folder / "model_index.json").unlink(missing_ok=True)
    for name in ("vae", "text_encoder", "unet"):
        network = getattr(pipeline, name)
        network.save_pretrained(folder / name)
        if half:
            beyond = [key for key, value in network.half().state_dict().items() if not value.isfinite().all()]
            _refuse(f"of the {name} don't fit half precision", beyond)  # up to 65,504
            network.save_pretrained(folder / name, variant="fp16")
    write_json(folder / "conversion.json", {"source": source.name, "sha256": found, "fp16": half})
    save_rest(pipeline, folder)


def read_checkpoint(path: Path) -> Tensors:
    """Read the tensors of a checkpoint without executing anything in it.

    Raises: InputError for a damaged file, or one that holds more than weights.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path}: damaged ({error}); fetch it again") from None
    content = load_safely(path, mmap=True)
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise InputError(f"{path}: holds no state_dict of tensors; give the generator's checkpoint")
    return dict(tensors)


def check_keys(tensors: Tensors) -> None:
    """Refuse keys that belong to no part, and noise levels other than Stable Diffusion's."""
    strange = [key for key in tensors if not key.startswith((UNET, VAE, TEXT)) and not BESIDE.fullmatch(key)]
    if strange:
        raise InputError(f"checkpoint: {len(strange)} keys belong to no part of Stable Diffusion 1.x: {some(strange)}")
    if any(key.startswith("model_ema.") for key in tensors):
        logger.warning("the checkpoint's EMA copy of the UNet isn't used, as in FreestyleNet")
    levels, ours = tensors.get("alphas_cumprod"), make_scheduler("plms").alphas_cumprod
    if levels is not None and (levels.shape != ours.shape or not torch.allclose(levels.float(), ours, rtol=1e-4)):
        raise InputError(f"checkpoint: {len(levels)} noise levels that aren't Stable Diffusion 1.x's (alphas_cumprod)")


def convert_unet(tensors: Tensors, architecture: Architecture) -> UNet2DConditionModel:
    """The UNet, float32, from keys model.diffusion_model.*."""
    levels = len(architecture.widths)
    with torch.device("meta"):  # no random weights, which take time
        unet = UNet2DConditionModel(
            sample_size=architecture.image_size // 2 ** (len(architecture.vae_widths) - 1),
            in_channels=architecture.latent_channels,
            out_channels=architecture.latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            block_out_channels=architecture.widths,
            layers_per_block=architecture.layers_per_block,
            attention_head_dim=architecture.heads,  # diffusers' name for the number of heads, here
            cross_attention_dim=architecture.context,
        )
    part = _part(tensors, UNET)
    return _filled(unet, convert_ldm_unet_checkpoint(part, unet.config), part)


def convert_vae(tensors: Tensors, architecture: Architecture) -> AutoencoderKL:
    """The autoencoder, float32, from keys first_stage_model.*; scaling factor 0.18215."""
    levels = len(architecture.vae_widths)
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=architecture.vae_widths,
            layers_per_block=architecture.vae_layers_per_block,
            latent_channels=architecture.latent_channels,
            sample_size=architecture.image_size,
            scaling_factor=0.18215,
        )
    part = _part(tensors, VAE)
    return _filled(vae, convert_ldm_vae_checkpoint(part, vae.config), part)


def convert_text_encoder(tensors: Tensors, architecture: Architecture) -> CLIPTextModel:
    """CLIP's text model, float32, from keys cond_stage_model.transformer.*."""
    model = build_text_encoder(
        hidden_size=architecture.context,
        intermediate_size=4 * architecture.context,
        projection_dim=architecture.context,
        num_hidden_layers=architecture.text_layers,
        num_attention_heads=architecture.text_heads,
    )
    part = {key: tensor for key, tensor in _part(tensors, TEXT).items() if not BESIDE.fullmatch(key)}
    converted = convert_ldm_clip_checkpoint(part)
    if not any(key.startswith("text_model.") for key in model.state_dict()):  # transformers >= 5.6 flattened it
        converted = {key.removeprefix("text_model."): tensor for key, tensor in converted.items()}
    return _filled(model, converted, part)


def _part(tensors: Tensors, prefix: str) -> Tensors:
    found = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if not found:
        raise InputError(f"checkpoint: no key begins with {prefix}; not a whole Stable Diffusion 1.x checkpoint")
    return found


def _filled(model: torch.nn.Module, converted: Tensors, part: Tensors) -> torch.nn.Module:
    """Load converted tensors into a model: every tensor of the part, and every parameter of the model."""
    used = {tensor.untyped_storage().data_ptr() for tensor in converted.values()}
    expected = model.state_dict()
    _refuse("are left over", [key for key, tensor in part.items() if tensor.untyped_storage().data_ptr() not in used])
    _refuse("of the converted model are missing", expected.keys() - converted.keys())
    _refuse("of the converted model are unknown", converted.keys() - expected.keys())
    shapes = [key for key, tensor in converted.items() if tensor.shape != expected[key].shape]
    _refuse("have another shape than Stable Diffusion 1.x", shapes)
    _refuse("hold NaN or infinity", [key for key, tensor in converted.items() if not tensor.isfinite().all()])
    single = {key: tensor.to(torch.float32).contiguous() for key, tensor in converted.items()}
    model.load_state_dict(single, strict=True, assign=True)
    return model.eval()


def _refuse(what: str, keys: Iterable[str]) -> None:
    keys = sorted(keys)
    if keys:
        raise InputError(f"checkpoint: {len(keys)} keys {what}: {some(keys)}; not the file this generator expects")
