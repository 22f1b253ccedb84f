"""Pipelines from and to folders: safetensors only; where no tokenizer is shipped, the installed vocabulary's."""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError

from freemask.errors import InputError
from freemask.files import sha256
from freemask.freestyle.pipeline import FreestylePipeline
from freemask.freestyle.prompt import clip_tokenizer


def load_pipeline(folder: str | Path, dtype: torch.dtype = torch.float32) -> FreestylePipeline:
    """Load a diffusers folder made by save_pipeline or prepare_generator; its fp16 variant for half precision.

    Raises: InputError where it isn't one, or its weights are damaged.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").exists():
        raise InputError(f"{folder}: no model_index.json, so not a diffusers pipeline; check the generator's path")
    given = {} if (folder / "tokenizer").is_dir() else {"tokenizer": clip_tokenizer()}
    if dtype is torch.float16 and next(folder.glob("unet/*.fp16.safetensors"), None):
        given["variant"] = "fp16"
    try:
        pipeline = FreestylePipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, **given
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: weights can't be loaded ({error}); restore or convert them again") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: FreestylePipeline, folder: Path) -> None:
    """Save in half precision, without the tokenizer (it is CLIP's, for everyone the same)."""
    for name in ("vae", "text_encoder", "unet"):
        module = copy.deepcopy(getattr(pipeline, name)).to("cpu", torch.float16)
        module.save_pretrained(folder / name)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    pipeline.save_config(folder)  # writes model_index.json last: an interrupted save isn't taken for a pipeline


def weights_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file of a pipeline, by its path in the folder: what makes an image besides settings.

    An fp16 variant is the same weights rounded, as loading in half precision rounds them, so it doesn't count.
    """
    full = [path for path in sorted(folder.glob("*/*.safetensors")) if ".fp16." not in path.name]
    return {str(path.relative_to(folder)): sha256(path) for path in full}
