"""Pipelines from and to diffusers folders, safetensors only."""

import contextlib
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from freemask.errors import InputError
from freemask.files import current_umask, link, read_json, sha256, write_atomic
from freemask.generation.freestyle.pipeline import TOKENIZER, FreestylePipeline
from freemask.generation.generators import networks
from freemask.generation.prompt import TOKENS
from freemask.generation.schedulers import other_scheduler

Kind = TypeVar("Kind", bound=DiffusionPipeline)
NETWORKS = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "unet": UNet2DConditionModel}
COPIED = 50_000_000  # bytes; larger files are linked


def load_pipeline(folder: str | Path, dtype: torch.dtype = torch.float32) -> FreestylePipeline:
    """Load a diffusers folder made by save_pipeline or prepare_generator; its fp16 variant for half precision.

    Raises: InputError where it isn't one, its weights are damaged, or it has no tokenizer.
    """
    return load_folder(FreestylePipeline, folder, dtype)


def load_folder(
    kind: type[Kind], folder: str | Path, dtype: torch.dtype, networks: Mapping[str, type] = NETWORKS, **others: Any
) -> Kind:
    """Load a diffusers folder, strictly, as a pipeline of a kind. Its scheduler is PLMS.

    Args: networks: their classes, by folder; others: further arguments of the pipeline.
    Raises: InputError where it isn't one, its weights are damaged, or it has no tokenizer.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").exists():
        raise InputError(f"{folder}: no model_index.json, so not a diffusers pipeline; check the generator's path")
    try:
        parts = {name: load_network(network, folder / name, dtype) for name, network in networks.items()}
        scheduler = other_scheduler("plms", read_json(folder / "scheduler" / "scheduler_config.json"))
        pipeline = kind(**parts, **others, tokenizer=load_tokenizer(folder), scheduler=scheduler)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: weights can't be loaded ({error}); restore or convert them again") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load a pipeline folder's tokenizer.

    Raises: InputError where the folder has none; transformers would silently make a wrong one.
    """
    found = {path.name for path in (folder / "tokenizer").glob("*")}
    if "tokenizer.json" not in found and not found >= {"vocab.json", "merges.txt"}:
        raise InputError(
            f"{folder}: no tokenizer (tokenizer.json, or vocab.json and merges.txt); copy the one that belongs to its "
            f"text encoder there, which is {TOKENIZER} for Stable Diffusion 1.x and generators trained here"
        )
    return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


@functools.cache
def shipped_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer (49,408 tokens), which converted and newly built pipelines use."""
    return load_tokenizer(TOKENIZER.parent)


def build_text_encoder(**sizes: int) -> CLIPTextModel:
    """CLIP's text encoder of these sizes for its tokenizer, with random weights."""
    tokenizer = shipped_tokenizer()
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=TOKENS, **special, **sizes))


def load_network(kind: type, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """Load one network, strictly: from_pretrained alone gives random values to weights that the file lacks."""
    variant = "fp16" if dtype is torch.float16 and next(folder.glob("*.fp16.safetensors"), None) else None
    if not variant:
        _refuse_other_weights(folder)
    safe = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    model, report = kind.from_pretrained(folder, torch_dtype=dtype, variant=variant, **safe)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = [str(key) for key in report[what] if "position_ids" not in str(key)]
        if keys:
            raise InputError(
                f"{folder}: {len(keys)} {what.replace('_', ' ')} ({', '.join(keys[:4])}); "
                "the weights don't fit config.json: restore or convert them again"
            )
    return model


def _refuse_other_weights(folder: Path) -> None:
    """Raises: InputError where a network's folder has weights, but none in safetensors at full precision."""
    names = [path.name for path in sorted(folder.glob("*"))]
    half = [name for name in names if name.endswith(".fp16.safetensors")]
    pickled = [name for name in names if name.endswith((".bin", ".ckpt", ".pt"))]
    if any(name.endswith(".safetensors") and name not in half for name in names):
        return
    if half:
        new = half[0].replace(".fp16.", ".")
        raise InputError(
            f"{folder}: holds weights in half precision only, as a variant: rename {half[0]} to {new}, or fetch the "
            "pipeline without variant=fp16"
        )
    if pickled:
        raise InputError(
            f"{folder}: holds pickled weights only ({pickled[0]}), which may run code when they are loaded; fetch "
            ".safetensors, or load the pipeline where you trust it and save it with save_pretrained"
        )


def save_pipeline(pipeline: FreestylePipeline, folder: Path) -> None:
    """Save a pipeline folder, in half precision."""
    for name in ("vae", "text_encoder", "unet"):
        module = copy.deepcopy(getattr(pipeline, name)).to("cpu", torch.float16)
        module.save_pretrained(folder / name)
    save_rest(pipeline, folder)


def save_rest(pipeline: FreestylePipeline, folder: Path) -> None:
    """Save tokenizer, scheduler and, last, model_index.json: an interrupted save isn't taken for a pipeline."""
    pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    pipeline.save_config(folder)


def weights_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file of a pipeline, by its path in the folder.

    A variant "fp16" is left out: it holds the same weights, rounded as loading in half precision rounds them.
    """
    full = [path for path in sorted(folder.glob("*/*.safetensors")) if ".fp16." not in path.name]
    return {str(path.relative_to(folder)): sha256(path) for path in full}


def adopt_pipeline(source: Path, folder: Path, load: Callable[[Path, torch.dtype], DiffusionPipeline]) -> None:
    """Check a diffusers folder, then copy or link its networks and tokenizer into another folder.

    Files above COPIED become hard links where they can be made, which take no space and outlive the source.

    Args: load: loads pipelines of this kind (a Generator's load).
    Raises: InputError where the folder isn't a pipeline, or its weights don't fit or aren't finite.
    """
    pipeline = load(source, torch.bfloat16)  # half the memory; finite numbers don't overflow
    for name, network in networks(pipeline).items():
        for key, value in network.named_parameters():
            if not torch.isfinite(value).all():
                raise InputError(f"{source}: {name}: {key} holds NaN or infinity; fetch or train the weights again")
    for name in (*networks(pipeline), "tokenizer"):
        for path in sorted((source / name).glob("*")):
            if path.suffix in (".json", ".txt", ".safetensors") and ".fp16." not in path.name:
                target = folder / name / path.name
                if path.stat().st_size >= COPIED:
                    link(path.resolve(), target)
                else:
                    write_atomic(target, path.read_bytes())
    if getattr(pipeline, "scheduler", None) is not None:
        pipeline.scheduler.save_pretrained(folder / "scheduler")
    pipeline.save_config(folder)


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder that replaces the given one when the block ends without error; otherwise nothing changes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # left by a killed run
        shutil.rmtree(left)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        yield made
        made.chmod(0o777 & ~current_umask())
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
