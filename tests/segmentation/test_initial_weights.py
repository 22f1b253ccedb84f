"""Initial weights: other layouts, and what doesn't arrive in the backbone."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS

from freemask.errors import InputError
from freemask.segmentation import initial_weights as initial

BACKBONES = {
    "mit": {"type": "MixVisionTransformer", "embed_dims": 8, "num_layers": [1, 2, 1, 1]},
    "vit": {"type": "VisionTransformer", "embed_dims": 24, "num_heads": 2, "num_layers": 2, "img_size": (64, 64),
            "patch_size": 16, "final_norm": True, "norm_cfg": {"type": "LN"}, "with_cls_token": True},
    "swin": {"type": "SwinTransformer", "embed_dims": 24, "depths": (1, 2, 1, 1), "window_size": 4},
}  # fmt: skip


def backbone(layout, file=None, **changes):
    init_default_scope("mmseg")
    init_cfg = {"type": "Pretrained", "checkpoint": file} if file else None
    made = MODELS.build({**BACKBONES[layout], "init_cfg": init_cfg, **changes})
    made.init_weights()
    return made


def random_state(layout, seed=1):
    """A backbone's weights, all random: an untouched zero or one would pass for a loaded one."""
    torch.manual_seed(seed)
    state = backbone(layout).state_dict()
    return {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}


def to_mit(state):
    """SegFormer's release: q and kv apart, linear layers where mmsegmentation has 1x1 convolutions."""
    made = {"head.weight": torch.zeros(1000, 8), "head.bias": torch.zeros(1000)}
    for key, value in state.items():
        stage, kind, rest = re.fullmatch(r"layers\.(\d)\.(\d)\.(.+)", key).groups()
        number = int(stage) + 1
        if kind == "0":
            made[f"patch_embed{number}.{rest.replace('projection', 'proj')}"] = value
        elif kind == "2":
            made[f"norm{number}.{rest}"] = value
        elif "in_proj" in rest:
            third = len(value) // 3
            block, tail = rest.split(".attn.attn.in_proj_")
            made[f"block{number}.{block}.attn.q.{tail}"] = value[:third]
            made[f"block{number}.{block}.attn.kv.{tail}"] = value[third:]
        else:
            flat = value.flatten(1) if re.search(r"ffn\.layers\.[04]\.weight", rest) else value
            for ours, theirs in [("attn.attn.out_proj", "attn.proj"), ("ffn.layers.0", "mlp.fc1"),
                                 ("ffn.layers.1", "mlp.dwconv.dwconv"), ("ffn.layers.4", "mlp.fc2")]:  # fmt: skip
                rest = rest.replace(ours, theirs)
            made[f"block{number}.{rest}"] = flat
    return made


def to_vit(state):
    """Timm's Vision Transformer."""
    made = {"head.weight": torch.zeros(1000, 24), "head.bias": torch.zeros(1000)}
    for key, value in state.items():
        for ours, theirs in [(r"^ln1", "norm"), (r"^layers", "blocks"), (r"\.ln(\d)", r".norm\1"),
                             (r"ffn\.layers\.0\.0", "mlp.fc1"), (r"ffn\.layers\.1", "mlp.fc2"),
                             (r"attn\.attn\.in_proj_", "attn.qkv."), (r"attn\.attn\.out_proj", "attn.proj"),
                             (r"projection", "proj")]:  # fmt: skip
            key = re.sub(ours, theirs, key)
        made[key] = value
    return {"model": made}


def to_swin(state):
    """Swin's release: its four neighbours of a merged patch come in another order."""
    made = {"head.weight": torch.zeros(1000, 24), "norm.weight": torch.ones(192), "norm.bias": torch.zeros(192),
            "layers.1.blocks.1.attn_mask": torch.zeros(4, 16, 16)}  # fmt: skip
    for key, value in state.items():
        if re.match(r"norm\d\.", key):
            continue  # of segmentation
        if ".downsample." in key:
            rows = value.reshape(-1, value.shape[-1] // 4, 4).transpose(1, 2)[:, [0, 2, 1, 3]]
            value = rows.reshape(value.shape)
        for ours, theirs in [(r"^stages", "layers"), (r"attn\.w_msa\.", "attn."), (r"ffn\.layers\.0\.0", "mlp.fc1"),
                             (r"ffn\.layers\.1", "mlp.fc2"), (r"projection", "proj")]:  # fmt: skip
            key = re.sub(ours, theirs, key)
        made[key] = value
    return {"model": made}


ORIGINAL = {"mit": to_mit, "vit": to_vit, "swin": to_swin}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(layout, change=None):
    """Random weights in the original layout, in a file; what they are in mmsegmentation's."""
    state = random_state(layout)
    original = ORIGINAL[layout](state)
    inner = original.get("model", original)
    if change:
        change(inner)
    torch.save(original, "original.pth")
    return state


@pytest.mark.parametrize("layout", BACKBONES)
def test_weights_in_the_original_layout_arrive(folder, layout):
    wanted = saved(layout)
    made = backbone(layout, f"{layout}:original.pth")
    initial.refuse_unused(made, f"{layout}:original.pth")
    for key, value in made.state_dict().items():
        if not initial.OWN.match(key):
            torch.testing.assert_close(value, wanted[key], rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("layout", BACKBONES)
def test_a_key_too_few_or_too_many_is_refused(folder, layout):
    def remove(state):
        state.pop(next(key for key in state if key.endswith("mlp.fc2.bias")))

    def add(state):
        state["dist_token"] = torch.zeros(3)

    for change, message in [(remove, r"it lacks (layers|stages)\."), (add, "lacks, dist_token")]:
        saved(layout, change)
        made = backbone(layout, f"{layout}:original.pth")  # mmengine passes over both
        with pytest.raises(InputError, match=rf"{layout}:original\.pth: .*{message}"):
            initial.refuse_unused(made, f"{layout}:original.pth")


def test_half_of_an_attention_is_refused(folder):
    saved("mit", lambda state: state.pop("block1.0.attn.kv.weight"))
    with pytest.raises(InputError, match=r"original\.pth: not weights in the layout 'mit'.*kv\.weight"):
        initial.load_from_other_layout("mit:original.pth")


def test_the_layout_must_be_said(folder):
    saved("mit")
    made = backbone("mit", "original.pth")
    with pytest.raises(InputError, match=r"original\.pth: .*the backbone lacks, patch_embed1.*convert"):
        initial.refuse_unused(made, "original.pth")


def test_weights_that_were_not_loaded_are_noticed(folder):
    torch.save({f"backbone.{key}": value for key, value in random_state("mit").items()}, "whole.pth")
    made = backbone("mit", "whole.pth")  # MixVisionTransformer doesn't look for the prefix
    with pytest.raises(InputError, match=r"whole\.pth: .*didn't arrive: layers"):
        initial.refuse_unused(made, "whole.pth")


def test_tables_of_positions_may_be_resized(folder):
    torch.save(random_state("vit"), "small.pth")
    made = backbone("vit", "small.pth", img_size=(96, 96))
    assert made.pos_embed.shape == (1, 37, 24)
    initial.refuse_unused(made, "small.pth")
    torch.save({**random_state("vit"), "ln1.weight": torch.zeros(5)}, "bad.pth")
    with pytest.raises((InputError, RuntimeError), match=r"ln1\.weight"):
        initial.refuse_unused(backbone("vit", "bad.pth"), "bad.pth")


def test_a_missing_or_another_file_is_refused(folder):
    with pytest.raises(InputError, match=r"none\.pth: no such file.*models\.yaml"):
        initial.verify("mit:none.pth", None)
    Path("some.pth").write_bytes(b"abc")  # its SHA-256 is ba7816bf... (FIPS 180-2)
    with pytest.raises(InputError, match=r"some\.pth: no PyTorch checkpoint|some\.pth: not only weights"):
        initial.load_from_file("some.pth")
    initial.verify("some.pth", "ba7816bf")
    with pytest.raises(InputError, match=r"some\.pth: SHA-256 is ba7816bf.*want 66e8bf70"):
        initial.verify("swin:some.pth", "66e8bf70")
    with pytest.raises(InputError, match="an address; fetch it"):
        initial.verify("https://example.org/weights-66e8bf70.pth", "66e8bf70")


class Evil:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return (Path("executed").touch, ())


def test_initial_weights_are_not_executed(folder):
    torch.save({"state_dict": random_state("vit"), "meta": Evil()}, "evil.pth")
    for name in ("evil.pth", "vit:evil.pth"):
        with pytest.raises(InputError, match=r"evil\.pth: not only weights"):
            CheckpointLoader.load_checkpoint(name)
    assert not Path("executed").exists()
