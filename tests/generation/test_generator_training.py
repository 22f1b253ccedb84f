"""Training the generator: what is drawn for a pair, running mean, accumulation, resume, pairs from files, refusals."""

import json
import logging
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler
from tiny_generator import killed_at

from freemask.data.miniworld.dataset import scene
from freemask.errors import InputError
from freemask.generation.freestyle.autoencoder import AutoencoderSettings, encode_stream, train_autoencoder
from freemask.generation.freestyle.loading import load_pipeline, save_pipeline
from freemask.generation.freestyle.miniature import build_miniature
from freemask.generation.freestyle.pairs import FilePairs, LatentPairs, PairStream, numbers, positions, stack
from freemask.generation.freestyle.training import GeneratorTrainer, TrainingSettings, begin, make_accelerator
from freemask.images import jpeg_bytes, png_bytes
from freemask.tables import write_table

WORDS = {2: "building", 3: "sky", 5: "tree", 7: "road", 10: "grass", 13: "person", 21: "car", 27: "sea", 47: "sand"}
WORDS |= {49: "skyscraper", 104: "ship", 110: "swimming pool"}
SETTINGS = TrainingSettings(
    steps=4, batch_size=4, learning_rate=1e-3, warmup=1, ema_decay=0.9, prompt_dropout=0.5, seed=0,
    train_text_encoder=True, decay_learning_rate=True, flip=False, checkpoint_every=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    images, labels = zip(*(scene("generator", index, 1, 32) for index in range(12)), strict=True)
    return np.stack(images), np.stack(labels)


def trainer(folder, settings=SETTINGS):
    pipeline = build_miniature(32, seed=0)
    return GeneratorTrainer(pipeline, WORDS, 0, settings, folder)


def pairs(world, pipeline):
    return LatentPairs(encode_stream(pipeline.encode_images, world[0], "cpu", seed=0), world[1])


def trained(world, folder, settings=SETTINGS, sample=None):
    """Weights of the UNet and the text encoder after a training."""
    made = trainer(folder, settings)
    made.train(pairs(world, made.pipeline), sample)
    return {**made.pipeline.unet.state_dict(), **made.pipeline.text_encoder.state_dict()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_changes_the_weights_and_logs_the_loss(world, tmp_path):
    made = trainer(tmp_path)
    before = {name: value.clone() for name, value in made.pipeline.unet.state_dict().items()}
    text_before = made.pipeline.text_encoder.state_dict()["final_layer_norm.weight"].clone()
    made.train(pairs(world, made.pipeline))
    changed = [name for name, value in made.pipeline.unet.state_dict().items() if (value != before[name]).any()]
    assert len(changed) > 0.9 * len(before)
    assert (made.pipeline.text_encoder.state_dict()["final_layer_norm.weight"] != text_before).any()
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4 and np.isfinite(lines[-1]["loss"])


def test_an_interrupted_training_resumes_from_its_last_state(world, tmp_path):
    first = trainer(tmp_path, replace(SETTINGS, steps=2))
    first.train(pairs(world, first.pipeline))
    second = trainer(tmp_path)
    steps = []
    second._loss_step = lambda batch, step=second._loss_step: steps.append(second.step) or step(batch)
    second.train(pairs(world, second.pipeline))
    assert steps == [2, 3]
    # The states agree where the first run stopped: the schedule went on, it didn't start again.
    assert second.schedule.last_epoch == 4


def test_an_interrupted_training_ends_with_the_weights_of_one_left_alone(world, tmp_path):
    settings = replace(SETTINGS, steps=6, batch_size=8)  # passes over the 12 pairs end within batches
    with killed_at(3):
        trained(world, tmp_path / "killed", settings)
    torch.manual_seed(123)  # what else was drawn in the process doesn't matter
    whole = trained(world, tmp_path / "whole", settings)
    torch.manual_seed(7)
    assert equal(trained(world, tmp_path / "killed", settings), whole)
    logs = [(tmp_path / name / "loss.jsonl").read_text() for name in ("killed", "whole")]
    assert json.loads(logs[0])["learning_rate"] == json.loads(logs[1])["learning_rate"]


def test_pictures_and_workers_change_no_weight(world, tmp_path):
    plain = trained(world, tmp_path / "plain")
    drawn = []
    settings = replace(SETTINGS, sample_every=1, workers=2, checkpoint_every=0)
    assert equal(trained(world, tmp_path / "drawn", settings, drawn.append), plain)
    assert drawn == [1, 2, 3, 4]


def test_weights_are_the_running_mean_of_the_steps(world, tmp_path):
    """Decay 0.3, reached from the second step on: mean = 0.3 mean + 0.7 weights; the first step's are taken whole."""
    made, seen = trainer(tmp_path, replace(SETTINGS, ema_decay=0.3)), []
    made.ema.step = lambda parameters, step=made.ema.step: (
        seen.append(made.pipeline.unet.conv_in.weight.detach().clone()) or step(parameters)
    )
    made.train(pairs(world, made.pipeline))
    mean = seen[0]
    for weights in seen[1:]:
        mean = 0.3 * mean + 0.7 * weights
    assert len(seen) == 4
    torch.testing.assert_close(made.pipeline.unet.conv_in.weight, mean, rtol=1e-5, atol=1e-7)
    assert (mean - seen[-1]).abs().max() > 1e-5


def test_warm_up_then_cosine(tmp_path):
    rate = trainer(tmp_path, replace(SETTINGS, warmup=4, steps=100))._rate
    assert [rate(step) for step in (0, 100)] == pytest.approx([0.25, 0.01])
    assert rate(50) == pytest.approx(0.01 + 0.99 / 2)
    constant = trainer(tmp_path, replace(SETTINGS, warmup=0, decay_learning_rate=False))._rate
    assert constant(0) == constant(99) == 1.0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_exact_prediction_has_no_loss(world, tmp_path, prediction):
    """From the noisy latents, their level and the clean ones: what the UNet is asked for; masks and text are given."""
    made = trainer(tmp_path)
    data = PairStream(pairs(world, made.pipeline), 0, flip=False)
    batch = stack([data[position] for position in range(5)])
    clean = torch.from_numpy(batch.images).float()
    made.noise = DDPMScheduler.from_config(made.noise.config, prediction_type=prediction)

    def exact(noisy, steps, context, cross_attention_kwargs):
        level = made.noise.alphas_cumprod[steps].view(-1, 1, 1, 1)
        noise = (noisy - level.sqrt() * clean) / (1 - level).sqrt()
        assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
        assert context.shape == (5, 77, 24) and set(cross_attention_kwargs["visibility"]) == {64, 16}
        velocity = level.sqrt() * noise - (1 - level).sqrt() * clean
        return SimpleNamespace(sample=(noise if prediction == "epsilon" else velocity).requires_grad_())

    made.unet = exact
    made.accelerator.clip_grad_norm_ = lambda *arguments: None
    assert made._loss_step(batch).item() < 1e-6


def test_captions_are_dropped_at_the_share_and_with_them_the_masks(world, tmp_path):
    made = trainer(tmp_path, replace(SETTINGS, prompt_dropout=0.25))
    prompts = [made._prompt(world[1][0], "m", position) for position in range(2000)]
    empty = [prompt.text == "" for prompt in prompts]
    assert abs(np.mean(empty) - 0.25) < 0.03
    assert all((prompt.token_labels == -1).all() == none for prompt, none in zip(prompts, empty, strict=True))
    never = trainer(tmp_path, replace(SETTINGS, prompt_dropout=0.0))
    assert all(never._prompt(world[1][0], "m", position).text for position in range(50))


@pytest.mark.parametrize(("parts", "ranks"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_processes_and_parts_share_one_stream(parts, ranks):
    taken = [list(positions(range(3, 7), parts, 2, rank, ranks)) for rank in range(ranks)]
    size = 2 * parts * ranks
    for step in range(4):
        one = [p for rank in taken for part in rank[step * parts : (step + 1) * parts] for p in part]
        assert sorted(one) == list(range((3 + step) * size, (4 + step) * size))


def test_every_position_has_numbers_of_its_own():
    drawn = [torch.rand(3, generator=numbers("noise", seed, at)).tolist() for seed in (0, 1) for at in range(20)]
    assert len({tuple(one) for one in drawn}) == 40
    assert torch.rand(3, generator=numbers("noise", 0, 0)).tolist() == drawn[0]


def test_each_pass_takes_every_pair_once_and_mirrors_half():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(2, 2).repeat(3, 3)
    images[:, :, 1] += 100
    data = [(image, image[..., 0], str(number)) for number, image in enumerate(images)]
    stream = PairStream(data, 1, flip=True)
    drawn = [stream[position] for position in range(200)]
    passes = [tuple(name for _, _, name, _ in drawn[start : start + 10]) for start in range(0, 200, 10)]
    assert all(sorted(one) == sorted("0123456789") for one in passes) and len(set(passes)) > 15
    mirrored = [image[0, 0, 0] >= 100 for image, *_ in drawn]
    assert 0.4 < np.mean(mirrored) < 0.6
    assert all((image[..., 0] == labels).all() for image, labels, *_ in drawn)
    assert not any(image[0, 0, 0] >= 100 for image, *_ in (PairStream(data, 1, flip=False)[p] for p in range(50)))
    assert Counter(name for _, _, name, _ in drawn) == dict.fromkeys("0123456789", 20)


def test_no_pairs_are_an_error():
    with pytest.raises(InputError, match="no pairs; check the data set's folders"):
        PairStream([], 0, flip=False)


def test_a_cut_caption_names_the_training_mask(tmp_path, caplog):
    made = trainer(tmp_path, replace(SETTINGS, prompt_dropout=0.0))
    made.words = dict.fromkeys(range(1, 61), "swimming pool")
    mask = np.arange(1, 61, dtype=np.uint8)[None]
    with caplog.at_level(logging.WARNING):
        made._prompt(mask, "masks/harbour_7.png", 0)
    assert "mask masks/harbour_7.png: caption of 120 tokens" in caplog.text


def test_a_training_of_other_settings_begins_anew(tmp_path):
    folder = tmp_path / "training"
    begin(folder, {"steps": 2})
    (folder / "latest.json").write_text("{}")
    begin(folder, {"steps": 2})
    assert (folder / "latest.json").exists()
    begin(folder, {"steps": 3})
    assert [path.name for path in folder.iterdir()] == ["made_from.json"]


def first_gradients(world, folder, settings):
    """Sizes of what was computed at a time in one step, and the gradient that the optimizer was given."""
    made, sizes, gradients = trainer(folder, replace(settings, steps=1)), [], {}
    made._loss_step = lambda batch, step=made._loss_step: sizes.append(len(batch.images)) or step(batch)
    clip = made.accelerator.clip_grad_norm_

    def noted(parameters, norm):
        gradients.update({name: p.grad.clone() for name, p in made.pipeline.unet.named_parameters()})
        return clip(parameters, norm)

    made.accelerator.clip_grad_norm_ = noted
    made.train(pairs(world, made.pipeline))
    return sizes, gradients


@pytest.mark.parametrize(
    ("change", "sizes"), [({"gradient_accumulation": 2}, [2, 2]), ({"gradient_checkpointing": True}, [4])]
)
def test_what_saves_memory_changes_no_gradient(world, tmp_path, change, sizes):
    """Batches in parts, activations computed twice: the same gradient but for rounding."""
    _, whole = first_gradients(world, tmp_path / "whole", SETTINGS)
    found, gradients = first_gradients(world, tmp_path / "saving", replace(SETTINGS, **change))
    assert found == sizes
    for name, gradient in whole.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-6)


def test_checkpointing_computes_activations_twice(world, tmp_path):
    calls = {}
    for name in (False, True):
        made, seen = trainer(tmp_path / str(name), replace(SETTINGS, gradient_checkpointing=name, steps=1)), []
        made.pipeline.unet.down_blocks[0].resnets[0].register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        made.train(pairs(world, made.pipeline))
        calls[name] = len(seen)
    assert calls == {False: 1, True: 2}


@pytest.fixture
def fresh_accelerate():
    """Let a test choose another precision: accelerate keeps one per process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_bfloat16_computes_in_it_and_keeps_weights_in_float32(world, tmp_path, fresh_accelerate):
    plain = trained(world, tmp_path / "plain")
    AcceleratorState._reset_state()
    half = trained(world, tmp_path / "half", replace(SETTINGS, mixed_precision="bf16"))
    assert all(value.dtype == plain[name].dtype and torch.isfinite(value).all() for name, value in half.items())
    assert not equal(half, plain)
    differs = [(half[name] - value).abs().max().item() for name, value in plain.items() if value.is_floating_point()]
    assert max(differs) < 5 * SETTINGS.learning_rate * SETTINGS.steps


def test_float16_on_a_cpu_is_refused(fresh_accelerate):
    with pytest.raises(InputError, match="mixed_precision fp16 needs a GPU"):
        make_accelerator(replace(SETTINGS, mixed_precision="fp16"))


def test_bfloat16_on_a_v100_is_refused(fresh_accelerate, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.device", torch.device("cuda"))
    monkeypatch.setattr("accelerate.accelerator.is_bf16_available", lambda ignore: True)  # torch says so of a V100
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(InputError, match=r"bfloat16 needs compute capability 8\.0, V100 has 7.0"):
        make_accelerator(replace(SETTINGS, mixed_precision="bf16"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"gradient_accumulation": 3}, "doesn't divide batch_size 4"), ({"prompt_dropout": 1.0}, "want a share in 0..1")],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, **change)


def test_pairs_from_files_are_squashed_together(tmp_path):
    labels = np.zeros((20, 40), np.uint8)
    labels[:, 20:] = 3
    (tmp_path / "a.png").write_bytes(png_bytes(labels))
    image = np.repeat(np.where(labels == 3, 200, 20)[..., None], 3, axis=2).astype(np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(image, 95))
    write_table(
        tmp_path / "t.tsv", pd.DataFrame({"image": [str(tmp_path / "a.jpg")], "mask": [str(tmp_path / "a.png")]})
    )
    image, mask, name = FilePairs(tmp_path / "t.tsv", 16)[0]
    assert name == str(tmp_path / "a.png")
    assert image.shape == (16, 16, 3) and mask.shape == (16, 16)
    assert mask[0].tolist() == [0] * 8 + [3] * 8
    assert image[:, :6].mean() < 40 and image[:, 10:].mean() > 180


def test_the_autoencoder_records_what_makes_latents_unit(world):
    vae = build_miniature(32, seed=0).vae
    train_autoencoder(vae, world[0], AutoencoderSettings(5, 4, 1e-3, 1e-6, 16, seed=0), "cpu")
    with torch.no_grad():
        means = vae.encode(torch.from_numpy(world[0]).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
    normal = (means - torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)) / torch.tensor(
        vae.config.latents_std
    ).view(1, -1, 1, 1)
    assert normal.mean((0, 2, 3)).abs().max() < 0.01 and (normal.std((0, 2, 3)) - 1).abs().max() < 0.01


def test_a_saved_pipeline_generates_the_same_after_loading(world, tmp_path):
    save_pipeline(build_miniature(32, seed=0), tmp_path / "p")
    arguments = (world[1][:2], WORDS, ["a", "b"], [1, 2], 0, 2)
    assert (load_pipeline(tmp_path / "p")(*arguments) == load_pipeline(tmp_path / "p")(*arguments)).all()
