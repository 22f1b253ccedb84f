"""FreestyleNet's original checkpoints (the layout of CompVis' latent diffusion) to diffusers models, offline.

Sizes are read from the tensors' shapes; what shapes can't tell is Stable Diffusion 1.x's (HEADS, HEAD_WIDTH, and the
classes' defaults). Names are mapped by diffusers' own converters, which drop what they don't know, so every key is
accounted for here: one that is missing or left over is an error.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as converters
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from freemask.errors import InputError
from freemask.files import sha256
from freemask.freestyle.pipeline import FreestylePipeline, make_scheduler
from freemask.freestyle.prompt import TOKENS, clip_tokenizer

HEADS = 8  # of every attention layer of the UNet; diffusers calls this number attention_head_dim
HEAD_WIDTH = 64  # of CLIP's text encoder
SCALING_FACTOR = 0.18215  # of the latents
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
# Kept in checkpoints, no part of the networks: the noise schedule (which is compared), a constant, the averaged
# weights (FreestyleNet goes on from the ones that aren't averaged).
UNUSED = re.compile(
    r"betas|(sqrt_|sqrt_recip_|sqrt_recipm1_|sqrt_one_minus_|log_one_minus_)?alphas_cumprod|alphas_cumprod_prev"
    r"|posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)|logvar"
    r"|cond_stage_model\.transformer\.text_model\.embeddings\.position_ids|model_ema\..*"
)
State = Mapping[str, torch.Tensor]


class _Ignored:
    """Stands for an object of the training framework in a checkpoint; nothing of it is run or kept."""

    def __init__(self, *arguments, **options):
        pass


def read_state(path: str | Path, expected_sha256: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file or of a checkpoint, which is unpickled with weights_only.

    Raises: InputError for another digest than the expected one, or a file that holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; check the path, docs say where it is published")
    if expected_sha256 and (found := sha256(path)) != expected_sha256:
        raise InputError(f"{path}: SHA-256 is {found}, want {expected_sha256}; download it again or correct the config")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(f"{path}: can't be read as a checkpoint ({error}); download it again") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict of tensors; give FreestyleNet's published .ckpt")
    return state


def _unpickle(path: Path) -> dict:
    """Load with weights_only; classes of the training framework (its callbacks) become inert stand-ins."""
    if not zipfile.is_zipfile(path):
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = [(_Ignored, name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)]
    with torch.serialization.safe_globals(foreign):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def convert(state: State, source: str = "checkpoint") -> FreestylePipeline:
    """The pipeline of a checkpoint.

    Args: state: its tensors; source: how errors call it.
    Raises: InputError naming keys that are missing or left over, tensors of other shapes, or another noise schedule.
    """
    scheduler = make_scheduler("plms")
    schedule = state.get("alphas_cumprod")
    if schedule is not None and not torch.allclose(schedule.float(), scheduler.alphas_cumprod, atol=1e-5):
        raise InputError(f"{source}: alphas_cumprod aren't those of Stable Diffusion 1.x; give a checkpoint of it")
    known = (UNET, VAE, TEXT)
    left_over = [key for key in state if not key.startswith(known) and not UNUSED.fullmatch(key)]
    if left_over:
        raise InputError(f"{source}: left over: {_names(left_over)}; give a Stable Diffusion 1.x checkpoint")
    return FreestylePipeline(
        convert_vae(state, source), convert_text_encoder(state, source), clip_tokenizer(),
        convert_unet(state, source), scheduler,
    )  # fmt: skip


def convert_unet(state: State, source: str = "checkpoint") -> UNet2DConditionModel:
    """The UNet of a checkpoint (keys model.diffusion_model.*); errors as `convert`."""
    config = unet_config(_Shapes(state, UNET, source))
    return _load(UNet2DConditionModel, config, state, UNET, converters.convert_ldm_unet_checkpoint, source)


def convert_vae(state: State, source: str = "checkpoint") -> AutoencoderKL:
    """The autoencoder of a checkpoint (keys first_stage_model.*); errors as `convert`."""
    config = vae_config(_Shapes(state, VAE, source))
    return _load(AutoencoderKL, config, state, VAE, converters.convert_ldm_vae_checkpoint, source)


def convert_text_encoder(state: State, source: str = "checkpoint") -> CLIPTextModel:
    """CLIP's text encoder (keys cond_stage_model.transformer.*); errors as `convert`."""
    config = CLIPTextConfig(**text_config(_Shapes(state, TEXT, source)))

    def rename(tags: dict, _: dict) -> dict:
        # transformers 5.6 took the level "text_model." away: loaded as it is, nothing would fit
        converted = converters.convert_ldm_clip_checkpoint(tags)
        return {key.removeprefix("text_model."): tag for key, tag in converted.items()}

    return _load(CLIPTextModel, config, state, TEXT, rename, source)


class _Shapes(dict):
    """Shapes of one part's tensors by their names without the prefix; a missing one is an InputError."""

    def __init__(self, state: State, prefix: str, source: str):
        super().__init__({key.removeprefix(prefix): tuple(state[key].shape) for key in state if key.startswith(prefix)})
        self.prefix, self.source = prefix, source

    def __missing__(self, key: str) -> tuple[int, ...]:
        raise InputError(f"{self.source}: missing: {self.prefix}{key}; download it again")

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that stand at the group of a pattern, ascending."""
        return sorted({int(match[1]) for key in self if (match := re.match(pattern, key))})

    def any(self, start: str) -> bool:
        """Whether a name starts so."""
        return any(key.startswith(start) for key in self)


def unet_config(shapes: _Shapes) -> dict:
    """The config of a UNet of Stable Diffusion 1.x's design, at any size."""
    levels: list[list[str]] = [[]]
    for number in shapes.numbers(r"input_blocks\.(\d+)\.")[1:]:
        block = f"input_blocks.{number}"
        if shapes.any(f"{block}.0.op."):
            levels.append([])
        else:
            levels[-1].append(block)
    attends = [any(shapes.any(f"{block}.1.") for block in level) for level in levels]
    context = next(key for key in [*shapes, "attn2.to_k.weight"] if key.endswith("attn2.to_k.weight"))
    return {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": [shapes[f"{level[0]}.0.out_layers.3.weight"][0] for level in levels if level],
        "layers_per_block": max(len(level) for level in levels),
        "down_block_types": ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)],
        "cross_attention_dim": shapes[context][1],
        "attention_head_dim": HEADS,
        "sample_size": 64,
    }


def vae_config(shapes: _Shapes) -> dict:
    """The config of an autoencoder of Stable Diffusion 1.x's design, at any size."""
    levels = shapes.numbers(r"encoder\.down\.(\d+)\.") or [0]
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in levels],
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
        "layers_per_block": len(shapes.numbers(r"encoder\.down\.0\.block\.(\d+)\.")),
        "scaling_factor": SCALING_FACTOR,
        "sample_size": 512,
    }


def text_config(shapes: _Shapes) -> dict:
    """The config of CLIP's text encoder, at any size."""
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": len(shapes.numbers(r"text_model\.encoder\.layers\.(\d+)\.")),
        "num_attention_heads": width // HEAD_WIDTH,
        "max_position_embeddings": TOKENS,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def _load(kind: type, config, state: State, prefix: str, rename: Callable[[dict, dict], dict], source: str):
    """Build a model without weights and give it the checkpoint's, each exactly once."""
    with init_empty_weights():
        model = kind(config) if kind is CLIPTextModel else kind(**config)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = [key for key in state if key.startswith(prefix) and not UNUSED.fullmatch(key)]
    # Each tensor goes through the converter as its own number, in its own shape: so we see where each one ends up.
    tags = {name: torch.tensor(number).expand(state[name].shape) for number, name in enumerate(names)}
    try:
        renamed = {key: tag for key, tag in rename(tags, config).items() if tag is not None}
    except KeyError as error:
        raise InputError(f"{source}: missing: {prefix}{error.args[0]}; download it again") from error
    origin = {key: names[int(tag.flatten()[0])] for key, tag in renamed.items() if key in wanted}
    problems = {
        "missing (as diffusers calls it)": sorted(set(wanted) - set(origin)),
        "left over": [name for name in names if name not in set(origin.values())],
        "of another shape": [origin[key] for key in origin if tuple(renamed[key].shape) != wanted[key]],
    }
    found = [f"{what}: {_names(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise InputError(f"{source}: {prefix}*: {'; '.join(found)}; give a Stable Diffusion 1.x checkpoint")
    weights = {key: state[name].reshape(wanted[key]).float() for key, name in origin.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _names(keys: list[str]) -> str:
    """Up to eight names, and how many more there are."""
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
