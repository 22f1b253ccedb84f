"""Training the generator: the miniature from scratch, pairs from files, resume, settings refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from freemask.errors import InputError
from freemask.files import jpeg_bytes, png_bytes, write_table
from freemask.freestyle.autoencoder import AutoencoderSettings, encode_stream, train_autoencoder
from freemask.freestyle.loading import load_pipeline, save_pipeline
from freemask.freestyle.miniature import build_miniature
from freemask.freestyle.pairs import FilePairs, LatentPairs
from freemask.freestyle.training import GeneratorTrainer, TrainingSettings, begin
from freemask.miniworld.dataset import scene

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
    return LatentPairs(encode_stream(pipeline.encode_images, world[0], "cpu"), world[1])


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


def test_an_interrupted_training_goes_on_from_its_last_state(world, tmp_path):
    first = trainer(tmp_path, replace(SETTINGS, steps=2))
    first.train(pairs(world, first.pipeline))
    second = trainer(tmp_path)
    steps = []
    second._loss_step = lambda *batch, step=second._loss_step: steps.append(second.step) or step(*batch)
    second.train(pairs(world, second.pipeline))
    assert steps == [2, 3]
    # The states agree where the first run stopped: the schedule went on, it didn't start again.
    assert second.schedule.last_epoch == 4


def test_a_training_of_other_settings_begins_anew(tmp_path):
    folder = tmp_path / "training"
    begin(folder, {"steps": 2})
    (folder / "latest.json").write_text("{}")
    begin(folder, {"steps": 2})
    assert (folder / "latest.json").exists()
    begin(folder, {"steps": 3})
    assert [path.name for path in folder.iterdir()] == ["made_from.json"]


def test_accumulation_takes_the_batch_in_parts(world, tmp_path):
    made = trainer(tmp_path, replace(SETTINGS, gradient_accumulation=2, steps=2))
    sizes = []
    made._loss_step = lambda images, labels, step=made._loss_step: sizes.append(len(images)) or step(images, labels)
    made.train(pairs(world, made.pipeline))
    assert sizes == [2, 2, 2, 2] and made.step == 2


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
    image, mask = FilePairs(tmp_path / "t.tsv", 16, flip=False)[0]
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


def test_a_saved_pipeline_paints_the_same_after_loading(world, tmp_path):
    save_pipeline(build_miniature(32, seed=0), tmp_path / "p")
    arguments = (world[1][:2], WORDS, ["a", "b"], [1, 2], 0, 2)
    assert (load_pipeline(tmp_path / "p")(*arguments) == load_pipeline(tmp_path / "p")(*arguments)).all()
