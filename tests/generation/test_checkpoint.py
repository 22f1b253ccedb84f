"""The original layout to a diffusers folder: every key accounted for, damaged or foreign files refused."""

import sys
import types

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_generator import ORIGINAL, WORDS, original_layout, schedule_buffers
from transformers import CLIPTextConfig, CLIPTextModel

from freemask.errors import InputError
from freemask.files import read_json, sha256
from freemask.generation.freestyle.checkpoint import Architecture, convert_checkpoint, convert_unet, read_checkpoint
from freemask.generation.freestyle.loading import load_pipeline, weights_sha256

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."


def save(path, tensors, **more):
    torch.save({"state_dict": tensors | schedule_buffers(), "global_step": 1, **more}, path)
    return path


def converted(tmp_path, tensors, **options):
    convert_checkpoint(save(tmp_path / "a.ckpt", tensors), tmp_path / "out", architecture=ORIGINAL, **options)
    return tmp_path / "out"


def test_conversion_generates_and_keeps_every_number(tmp_path):
    tensors = original_layout()
    folder = converted(tmp_path, tensors, expected_sha256=None)
    pipeline = load_pipeline(folder)
    kept = [*pipeline.unet.parameters(), *pipeline.vae.parameters(), *pipeline.text_encoder.parameters()]
    source = [tensor for key, tensor in tensors.items() if not key.endswith("position_ids")]
    sums = [sorted(round(t.double().abs().sum().item(), 3) for t in group) for group in (kept, source)]
    assert sums[0] == sums[1] and len(kept) == len(source)
    block = "transformer_blocks.0.attn2.to_k"
    moved = {
        f"down_blocks.0.attentions.0.{block}": f"input_blocks.1.1.{block}",
        "up_blocks.1.resnets.1.conv2": "output_blocks.3.0.out_layers.3",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    }
    for ours, theirs in moved.items():
        assert torch.equal(pipeline.unet.get_submodule(ours).weight, tensors[f"{UNET}{theirs}.weight"])
    labels = np.array([[1, 2], [7, 9]], np.uint8).repeat(16, 0).repeat(16, 1)[None]
    assert pipeline(labels, WORDS, ["a"], [1], 0, steps=2).shape == (1, 32, 32, 3)
    assert pipeline.vae.config.scaling_factor == 0.18215
    assert read_json(folder / "conversion.json")["sha256"] == sha256(tmp_path / "a.ckpt")


def test_sizes_are_stable_diffusions():
    """Parameters of Stable Diffusion 1.4: UNet 859,520,964; autoencoder 83,653,863; text encoder 123,060,480."""
    sizes = Architecture()
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=sizes.widths, cross_attention_dim=sizes.context, attention_head_dim=sizes.heads
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=sizes.vae_widths, layers_per_block=sizes.vae_layers_per_block,
        )  # fmt: skip
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    counts = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, text)]
    assert counts == [859_520_964, 83_653_863, 123_060_480]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (f"{UNET}input_blocks.3.0.emb_layers.1.weight", "of the converted model are missing"),
        (f"{VAE}decoder.up.1.block.1.conv2.bias", "of the converted model are missing"),
        (f"{TEXT}encoder.layers.0.mlp.fc2.weight", "of the converted model are missing"),
    ],
)
def test_a_missing_key_is_named(tmp_path, key, message):
    tensors = original_layout()
    del tensors[key]
    with pytest.raises(InputError, match=f"1 keys {message}"):
        converted(tmp_path, tensors)
    assert not (tmp_path / "out" / "model_index.json").exists()


@pytest.mark.parametrize(
    "key",
    [
        f"{UNET}input_blocks.9.0.in_layers.0.weight",
        f"{UNET}label_emb.weight",
        f"{UNET}input_blocks.1.0.in_layers.9.weight",
        f"{VAE}encoder.down.7.block.0.conv1.weight",
        f"{VAE}loss.logvar",
        f"{TEXT}extra.weight",
        "control_model.input.weight",
        "stray",
    ],
)
def test_a_key_left_over_is_named(tmp_path, key):
    with pytest.raises(InputError, match=r"(left over|are unknown|belong to no part).*"):
        converted(tmp_path, original_layout() | {key: torch.ones(3)})


def test_other_sizes_are_refused(tmp_path):
    tensors = original_layout()
    tensors[f"{UNET}out.2.weight"] = torch.ones(9, 32, 3, 3)
    with pytest.raises(InputError, match=r"1 keys have another shape.*conv_out.weight"):
        converted(tmp_path, tensors)
    tensors[f"{UNET}out.2.weight"] = torch.full((4, 32, 3, 3), float("nan"))
    with pytest.raises(InputError, match=r"hold NaN or infinity: conv_out.weight"):
        converted(tmp_path, tensors)


def test_other_noise_levels_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": original_layout() | {"alphas_cumprod": torch.linspace(1, 0, 1000)}}, path)
    with pytest.raises(InputError, match="noise levels that aren't"):
        convert_checkpoint(path, tmp_path / "out", architecture=ORIGINAL)


def test_ema_copy_is_left_out_with_a_warning(tmp_path, caplog):
    folder = converted(tmp_path, original_layout() | {"model_ema.decay": torch.tensor(0.9999)})
    assert "EMA copy" in caplog.text and (folder / "model_index.json").exists()


def test_half_precision_variant(tmp_path):
    """Written beside float32, taken by load_pipeline for half precision, equal to float32 rounded."""
    folder = converted(tmp_path, original_layout(), half=True)
    assert len(list(folder.glob("*/*.fp16.safetensors"))) == 3
    single, half = load_pipeline(folder), load_pipeline(folder, torch.float16)
    assert half.unet.dtype == half.vae.dtype == half.text_encoder.dtype == torch.float16
    for name, tensor in single.unet.state_dict().items():
        assert torch.equal(tensor.half(), half.unet.state_dict()[name])
    assert sorted(weights_sha256(folder)) == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    assert load_pipeline(folder, torch.float16) is not None  # the variant is what was read


def test_weights_beyond_half_precision_are_refused(tmp_path):
    tensors = original_layout()
    tensors[f"{UNET}out.2.bias"][0] = 1e6
    with pytest.raises(InputError, match=r"of the unet don't fit half precision: conv_out.bias"):
        converted(tmp_path, tensors, half=True)


def test_safetensors_source(tmp_path):
    save_file(original_layout(), tmp_path / "a.safetensors")
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", architecture=ORIGINAL)
    assert load_pipeline(tmp_path / "out").unet.config.cross_attention_dim == 8


def test_wrong_digest_is_refused_with_both(tmp_path):
    path = save(tmp_path / "a.ckpt", {})
    with pytest.raises(InputError, match=rf"SHA-256 is {sha256(path)}, want {'0' * 64}"):
        convert_checkpoint(path, tmp_path / "out", "0" * 64)


@pytest.mark.parametrize("kind", ["missing", "web page", "truncated", "no tensors", "safetensors"])
def test_files_that_are_no_checkpoint(tmp_path, kind):
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.ckpt")
    if kind in ("web page", "safetensors"):
        path.write_text("<html>Google Drive - Virus scan warning</html>")
    elif kind == "truncated":
        save(path, {f"{UNET}a": torch.ones(1000)})
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "no tensors":
        torch.save([1, 2], path)
    with pytest.raises(InputError, match=str(path)):
        convert_checkpoint(path, tmp_path / "out")


class _Callback:
    """Takes the name of Lightning's class below."""


class _Attack:
    def __reduce__(self):
        return (print, ("code was run",))


def test_lightning_and_numpy_leftovers_pass_without_running_code(tmp_path, monkeypatch):
    """Lightning keys its callbacks' states by class and keeps NumPy scalars; the stand-ins need neither installed."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    _Callback.__module__, _Callback.__qualname__ = name, "ModelCheckpoint"
    module.ModelCheckpoint = _Callback
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    leftovers = {"callbacks": {_Callback: {"best": np.float64(0.5), "step": np.int64(7)}}}
    path = save(tmp_path / "a.ckpt", {f"{UNET}a": torch.ones(3)}, **leftovers)
    monkeypatch.undo()
    assert read_checkpoint(path)[f"{UNET}a"].tolist() == [1, 1, 1]


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    path = save(tmp_path / "a.ckpt", {f"{UNET}a": torch.ones(3)}, attack=_Attack())
    with pytest.raises(InputError, match=r"not only weights: .*print"):
        read_checkpoint(path)
    assert "code was run" not in capsys.readouterr().out


def test_part_that_is_not_there():
    with pytest.raises(InputError, match="no key begins with model.diffusion_model"):
        convert_unet({f"{VAE}a": torch.ones(1)}, ORIGINAL)
