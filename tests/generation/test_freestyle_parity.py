"""The original FreestyleNet code against ours: its tokens, its UNet, its samplers, from recorded arrays.

The arrays were made by the original code in float32 on a CPU, with the random weights in micro_unet_ldm.safetensors.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from freemask.generation.freestyle.attention import rectify, resolutions, visibilities, visibility
from freemask.generation.freestyle.checkpoint import Architecture, convert_unet
from freemask.generation.freestyle.loading import shipped_tokenizer
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.prompt import make_prompt, present_labels
from freemask.generation.schedulers import make_scheduler

FOLDER = Path(__file__).parents[1] / "fixtures" / "reference"
MICRO = Architecture(widths=(32, 32, 64, 64), layers_per_block=1, context=64)
# As typed into the original: tokens of the words in the recorded caption.
COUNTS = {"building": 1, "sky": 1, "floor": 1, "tree": 1, "person": 1, "skyscraper": 3, "pool table": 2}
COUNTS |= {"arcade machine": 2, "swimming pool": 2, "traffic light": 2}
PER_CALL, AT_THE_END = 5e-5, 1e-5  # absolute; relative to the largest latent


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "micro_ADE20K.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """The recorded weights, converted from the original layout by the converter that users run."""
    made = convert_unet(load_file(FOLDER / "micro_unet_ldm.safetensors"), MICRO)
    rectify(made)
    return made.eval()


@pytest.fixture(scope="module")
def words() -> dict[int, str]:
    rows = [line.split(",") for line in (FOLDER / "ade20k_words.csv").read_text().splitlines()[1:]]
    return {int(label): word for label, word in rows}


def condition(recorded, words, shift: int = 0):
    """Masks of [unconditional, conditional]; shift: move every class's tokens, an error that tests must notice."""
    prompt = make_prompt(present_labels(recorded["label"], 0), words, shipped_tokenizer())
    owners = np.roll(prompt.token_labels, shift)
    token_labels = torch.from_numpy(np.stack([np.full(77, -1), owners]))
    labels = torch.from_numpy(np.stack([recorded["label"]] * 2))
    return labels, token_labels


def masks_of(recorded, words, unet, shift: int = 0):
    return visibilities(*condition(recorded, words, shift), resolutions(unet, 64, 64))


def context_of(recorded) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([recorded["uc"], recorded["c"]]))


def predict(unet, recorded, masks, latents, t) -> np.ndarray:
    """Both halves in one pass: [unconditional, conditional]."""
    both = torch.from_numpy(latents).repeat(2, 1, 1, 1)
    with torch.no_grad():
        kwargs = {"visibility": masks}
        return unet(both, int(t), context_of(recorded), cross_attention_kwargs=kwargs).sample.numpy()


def test_caption_and_tokens(recorded, words):
    present = present_labels(recorded["label"], 0)
    assert present == tuple(recorded["ids"])
    prompt = make_prompt(present, words, shipped_tokenizer())
    assert prompt.text == str(recorded["caption"])
    assert prompt.tokens.tolist() == recorded["tokens"][0].tolist()


@pytest.mark.parametrize("side", [64, 32, 16, 8])
def test_visibility_is_the_originals(recorded, words, side):
    """The original's way, in plain loops: a column per token, 1 where the layout has its class."""
    label, column = recorded["label"], 1
    expected = np.ones((side * side, 77), bool)
    small = np.array([[label[i * 512 // side, j * 512 // side] for j in range(side)] for i in range(side)])
    for present in recorded["ids"]:
        expected[:, column : column + COUNTS[words[int(present)]]] = (small == present).reshape(-1, 1)
        column += COUNTS[words[int(present)]]
    labels, token_labels = condition(recorded, words)
    found = visibility(labels, token_labels, side, side).numpy()
    assert found[0].all()
    assert (found[1, 0] == expected).all()


def test_prediction_conditional_and_unconditional(recorded, words, unet):
    found = predict(unet, recorded, masks_of(recorded, words, unet), recorded["x_T"], 981)
    assert np.abs(found[:1] - recorded["eps_uncond"]).max() < PER_CALL
    assert np.abs(found[1:] - recorded["eps_cond"]).max() < PER_CALL


def test_mask_left_out_is_the_unrectified_prediction(recorded, unet):
    found = predict(unet, recorded, None, recorded["x_T"], 981)
    assert np.abs(found[1:] - recorded["eps_cond_norca"]).max() < PER_CALL


@pytest.mark.parametrize(("shift", "masked", "at_least"), [(0, False, 0.5), (1, True, 0.2), (-1, True, 0.2)])
def test_tolerance_has_teeth(recorded, words, unet, shift, masked, at_least):
    """Without the mask, or with it one token off, the error is thousands of times the tolerance."""
    masks = masks_of(recorded, words, unet, shift) if masked else None
    found = predict(unet, recorded, masks, recorded["x_T"], 981)
    assert np.abs(found[1:] - recorded["eps_cond"]).max() > at_least > 1000 * PER_CALL


class Watched(torch.nn.Module):
    """A UNet that notes each call's timestep and prediction."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.unet, self.config, self.dtype, self.calls = unet, unet.config, unet.dtype, []

    def forward(self, sample, t, *args, **kwargs):
        made = self.unet(sample, t, *args, **kwargs)
        self.calls.append((int(t), made.sample.numpy()))
        return made


@pytest.mark.parametrize("scheduler", ["plms", "ddim"])
def test_trajectory(recorded, words, unet, scheduler):
    """Ten steps of the pipeline's own loop with guidance 2.0: every call, and the latents at the end."""
    watched = Watched(unet)
    sampler = FreestylePipeline.__new__(FreestylePipeline)
    sampler.__dict__.update(unet=watched, scheduler=make_scheduler(scheduler))
    masks = masks_of(recorded, words, unet)
    noise = torch.from_numpy(recorded["x_T"])
    final = sampler.denoise(noise, context_of(recorded), masks, steps=10, guidance_scale=2.0).numpy()
    expected = recorded[f"{scheduler}_eps"].reshape(-1, 2, 4, 64, 64)
    conditional_first = bool(recorded[f"{scheduler}_iscond"][0])
    assert [t for t, _ in watched.calls] == recorded[f"{scheduler}_t"][::2].tolist()
    for (_, found), call in zip(watched.calls, expected, strict=True):
        assert np.abs(found - (call[::-1] if conditional_first else call)).max() < PER_CALL
    wanted = recorded[f"{scheduler}_final"]
    assert np.abs(final - wanted).max() / np.abs(wanted).max() < AT_THE_END


def test_noise_levels(recorded):
    for name in ("plms", "ddim", "dpmsolver++"):
        found = make_scheduler(name).alphas_cumprod.numpy()
        np.testing.assert_allclose(found, recorded["alphas_cumprod"], rtol=1e-6)
