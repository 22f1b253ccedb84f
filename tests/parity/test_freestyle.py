"""Our generator against arrays computed by the original FreestyleNet code with a micro UNet, fp32, on the CPU."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from freemask.freestyle.checkpoint import convert_unet
from freemask.freestyle.pipeline import FreestylePipeline, make_scheduler
from freemask.freestyle.prompt import clip_tokenizer, make_prompt, present_labels, word_tokens

FIXTURES = Path(__file__).parents[1] / "fixtures" / "reference"
IGNORED = 0
PER_CALL = 5e-5  # absolute; without the mask the UNet is off by 0.6, with the mask one token on by 0.3


class KnownTexts(torch.nn.Module):
    """Stands for the text encoder: gives the reference's context for the reference's tokens, and fails for others."""

    device = torch.device("cpu")

    def __init__(self, known: list[tuple[np.ndarray, np.ndarray]]):
        super().__init__()
        self.known = {tokens.tobytes(): torch.from_numpy(context) for tokens, context in known}

    def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.known[tokens.numpy().tobytes()])


@pytest.fixture(scope="module")
def reference():
    with np.load(FIXTURES / "micro_ADE20K.npz") as arrays:
        return dict(arrays)


def read_words(name: str) -> dict[int, str]:
    lines = (FIXTURES / name).read_text().splitlines()[1:]
    return {int(label): word for label, _, word in (line.partition(",") for line in lines)}


@pytest.fixture(scope="module")
def words():
    return read_words("ade20k_words.csv")


@pytest.fixture(scope="module")
def pipeline(reference):
    """The pipeline with the reference's UNet and contexts; its autoencoder (3 halvings) is random and not used."""
    tokenizer = clip_tokenizer()
    nothing = make_prompt((), {}, tokenizer).tokens
    texts = KnownTexts([(reference["tokens"], reference["c"]), (nothing, reference["uc"])])
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4] * 4,
        norm_num_groups=1,
    )
    unet = convert_unet(load_file(FIXTURES / "micro_unet_ldm.safetensors"))
    return FreestylePipeline(vae, texts, tokenizer, unet, make_scheduler("plms"))


@pytest.fixture(scope="module")
def prompt(pipeline, reference, words):
    return pipeline.prompt(reference["label"], words, IGNORED, "ADE_val_00000001")


def predict(pipeline, reference, context, masks) -> tuple[np.ndarray, np.ndarray]:
    """Unconditional and conditional prediction at t = 981 from the reference's noise."""
    with torch.no_grad():
        both = pipeline.predict(torch.from_numpy(reference["x_T"]), 981, context, masks)
    return tuple(half.numpy() for half in both)


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


def test_tokens_are_the_references(prompt, reference):
    assert prompt.text == str(reference["caption"])
    assert present_labels(reference["label"], IGNORED) == tuple(reference["ids"])
    assert prompt.tokens.tolist() == reference["tokens"][0].tolist()


def references_visibility(label: np.ndarray, ids: np.ndarray, counts: list[int], side: int) -> np.ndarray:
    """The reference's rule restated pixel by pixel: (side * side, 77); column 0 and those after the words are open."""
    seen = np.ones((side * side, 77), bool)
    for pixel in range(side * side):
        here = label[pixel // side * label.shape[0] // side, pixel % side * label.shape[1] // side]
        column = 1
        for class_id, count in zip(ids, counts, strict=True):
            seen[pixel, column : column + count] = here == class_id
            column += count
    return seen


def test_masks_are_the_references(pipeline, prompt, reference):
    counts = [1, 1, 1, 1, 1, 3, 2, 2, 2, 2]  # of the words in the caption, by the list typed into the original
    masks = pipeline.visibility(reference["label"][None], [prompt])
    assert sorted(masks) == [8 * 8, 16 * 16, 32 * 32, 64 * 64]
    for side in (8, 16, 32, 64):
        expected = references_visibility(reference["label"], reference["ids"], counts, side)
        np.testing.assert_array_equal(masks[side * side][0, 0].numpy(), expected)


def test_unet_predicts_what_the_reference_does(pipeline, prompt, reference):
    unconditional, conditional = predict(pipeline, reference, *pipeline.conditions(reference["label"][None], [prompt]))
    assert worst(unconditional, reference["eps_uncond"]) < PER_CALL
    assert worst(conditional, reference["eps_cond"]) < PER_CALL


def test_without_masks_the_prediction_is_the_unrectified_one(pipeline, prompt, reference):
    context, masks = pipeline.conditions(reference["label"][None], [prompt])
    opened = {size: torch.ones_like(mask) for size, mask in masks.items()}
    unconditional, conditional = predict(pipeline, reference, context, opened)
    assert worst(unconditional, reference["eps_uncond"]) < PER_CALL
    assert worst(conditional, reference["eps_cond_norca"]) < PER_CALL
    assert worst(conditional, reference["eps_cond"]) > 0.5  # 10,000 times the tolerance: leaving the mask out is seen


@pytest.mark.parametrize("shift", [-1, 1])
def test_masks_shifted_by_a_token_are_seen(pipeline, prompt, reference, shift):
    context, masks = pipeline.conditions(reference["label"][None], [prompt])
    shifted = {size: mask.roll(shift, dims=-1) for size, mask in masks.items()}
    unconditional, conditional = predict(pipeline, reference, context, shifted)
    assert worst(unconditional, reference["eps_uncond"]) < PER_CALL  # all its tokens are visible, shifted or not
    assert worst(conditional, reference["eps_cond"]) > 0.2


def test_masks_on_the_unconditional_half_are_seen(pipeline, prompt, reference):
    context, masks = pipeline.conditions(reference["label"][None], [prompt])
    both = {size: mask[1:].repeat(2, 1, 1, 1) for size, mask in masks.items()}
    unconditional, conditional = predict(pipeline, reference, context, both)
    assert worst(conditional, reference["eps_cond"]) < PER_CALL
    assert worst(unconditional, reference["eps_uncond"]) > 100 * PER_CALL


def sample(pipeline, prompt, reference, scheduler: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Timesteps, what the UNet gave at each call (calls, 2, 4, 64, 64), and the final latents, of 10 steps."""
    calls = []

    def record(module, arguments, output):
        calls.append((int(arguments[1]), output.sample.numpy().copy()))

    hook = pipeline.unet.register_forward_hook(record)
    pipeline.use_scheduler(scheduler)
    try:
        context, masks = pipeline.conditions(reference["label"][None], [prompt])
        final = pipeline.denoise(torch.from_numpy(reference["x_T"]), context, masks, steps=10, guidance_scale=2.0)
    finally:
        hook.remove()
    return [t for t, _ in calls], np.stack([predicted for _, predicted in calls]), final.numpy()


@pytest.mark.parametrize(("scheduler", "calls"), [("plms", 11), ("ddim", 10)])
def test_trajectory_is_the_references(pipeline, prompt, reference, scheduler, calls):
    timesteps, predicted, final = sample(pipeline, prompt, reference, scheduler)
    conditional = reference[f"{scheduler}_iscond"]
    assert len(timesteps) == calls
    assert timesteps == reference[f"{scheduler}_t"][conditional].tolist()
    assert timesteps == reference[f"{scheduler}_t"][~conditional].tolist()
    theirs = reference[f"{scheduler}_eps"]
    assert worst(predicted[:, 0], theirs[~conditional]) < PER_CALL
    assert worst(predicted[:, 1], theirs[conditional]) < PER_CALL
    expected = reference[f"{scheduler}_final"]
    assert np.linalg.norm(final - expected) / np.linalg.norm(expected) < 1e-5
    assert worst(final, expected) / np.abs(expected).max() < 1e-5


def test_noise_schedule_is_the_references(pipeline, reference):
    ours = make_scheduler("plms").alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, reference["alphas_cumprod"], rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "classes", "two", "three"), [("ade20k_words.csv", 150, 26, 1), ("cocostuff_words.csv", 182, 33, 2)]
)
def test_token_counts_follow_from_the_tokenizer(table, classes, two, three):
    tokenizer = clip_tokenizer()
    read = read_words(table)
    counts = {word: len(word_tokens(word, tokenizer)) for word in read.values()}
    per_label = [counts[word] for word in read.values()]
    assert (len(per_label), per_label.count(2), per_label.count(3)) == (classes, two, three)
    assert max(per_label) == 3
    assert {word for word, count in counts.items() if count == 3} == {"skyscraper", "fire hydrant"} & set(counts)
