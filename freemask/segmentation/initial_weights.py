"""Initial weights of backbones: read in other projects' layouts, and compared with the loaded backbone.

mmengine loads them with strict=False and ignores what doesn't fit; training would then start from noise.
"""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmseg
import torch
from mmengine.runner import CheckpointLoader
from torch import nn

from freemask import files
from freemask.errors import InputError
from freemask.parallel import some
from freemask.weights import load_safely

State = dict[str, torch.Tensor]
# Layouts, by mmsegmentation's own converters: SegFormer's release, timm's (and DeiT's), Swin's release.
CONVERTERS = {"mit": "mit2mmseg", "vit": "vit2mmseg", "swin": "swin2mmseg"}
# In the file, not in the backbone: the classifier and its norm; Swin's attention masks are computed.
CLASSIFIER = re.compile(r"(head|fc)\.|norm\.(weight|bias)$|.*\.attn_mask$")
# In the backbone, not in the file: Swin's norms of the four outputs, which classification doesn't have; an index.
OWN = re.compile(r"norm[0-3]\.(weight|bias)$|.*\.relative_position_index$")
RESIZED = re.compile(r"pos_embed$|.*\.relative_position_bias_table$")  # interpolated to the crop and window size


def verify(file: str, sha256: str | None) -> None:
    """Check a file of initial weights before a model is built.

    Args:
        file: Path, with a layout's prefix ("mit:") or without.
        sha256: The file's digest or its first hex digits; None: not checked.
    Raises: InputError where it is missing, another file, or an address.
    """
    path = re.sub(rf"^({'|'.join(CONVERTERS)}):", "", file)
    if re.match(r"https?://", path):
        raise InputError(f"{path}: an address; fetch it (snakemake --cores 1 fetch_weights) and give the file's path")
    if not Path(path).is_file():
        raise InputError(
            f"{path}: no such file of initial weights; fetch it, or correct initial_weights in models.yaml"
        )
    if sha256:
        files.check_sha256(path, sha256, "fetch it again, or correct initial_weights in models.yaml")


def without_initial_weights(model: Any) -> Any:
    """A model config that loads no initial weights, for a model whose weights are loaded whole."""
    if model.get("pretrained"):
        model.pretrained = None
    if "Pretrained" in str(model.backbone.get("init_cfg")):
        model.backbone.init_cfg = None
    return model


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_file(filename: str, map_location: Any = None) -> Any:
    """Replaces mmengine's loader of local files, which executes what a file holds if it can't load it otherwise."""
    return load_safely(filename)


@CheckpointLoader.register_scheme(prefixes=[f"{layout}:" for layout in CONVERTERS])
def load_from_other_layout(filename: str, map_location: Any = None) -> State:
    """Read "mit:<path>", "vit:<path>" or "swin:<path>" as a state_dict in mmsegmentation's layout.

    Raises: InputError where keys of the layout are missing, or all are.
    """
    layout, _, path = filename.partition(":")
    state = _state(load_safely(path))
    try:
        converted = dict(_converter(CONVERTERS[layout])(state))
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not weights in the layout {layout!r} ({error!r}); check initial_weights") from None
    if converted.keys() <= state.keys():  # a converter passes on unknown keys
        raise InputError(f"{path}: not weights in the layout {layout!r}; correct `convert` or leave it out")
    return converted


def _converter(name: str) -> Callable[[State], State]:
    """The function of a converter that ships with mmsegmentation as a script."""
    path = Path(mmseg.__file__).parent / f".mim/tools/model_converters/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"convert_{name.removesuffix('2mmseg')}")


def _state(checkpoint: dict[str, Any]) -> State:
    """The state_dict in a checkpoint, by the keys that the projects use."""
    for key in ("state_dict", "model"):
        checkpoint = checkpoint.get(key, checkpoint)
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in checkpoint.items()}


def refuse_unused(backbone: nn.Module, file: str) -> None:
    """Compare a backbone with its file of initial weights, key by key.

    Raises: InputError naming the file for a key that one side lacks (except a classifier's), another shape, or a tensor
        of the backbone that isn't the file's.
    """
    given, held = _state(CheckpointLoader.load_checkpoint(file, "cpu", logger="silent")), backbone.state_dict()
    differing = [
        key
        for key in held.keys() & given.keys()
        if not RESIZED.match(key) and not torch.equal(held[key].cpu(), given[key].to(held[key].dtype).cpu())
    ]
    faults = {
        "it has, but the backbone lacks,": [key for key in given if key not in held and not CLASSIFIER.match(key)],
        "it lacks": [key for key in held if key not in given and not OWN.match(key)],
        "didn't arrive:": sorted(differing),
    }
    for fault, keys in faults.items():
        if keys:
            raise InputError(
                f"{file}: initial weights that don't fit the backbone: {fault} {some(keys)}; check initial_weights "
                "(path, url, convert) in models.yaml"
            )
