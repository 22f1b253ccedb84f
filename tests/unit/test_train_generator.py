"""scripts/train_generator.py on files: a tiny random Stable Diffusion folder, fine-tuned on a few pairs."""

import json

import numpy as np
import pytest
from command_line import run_script
from tiny_generator import WORDS, tiny_pipeline

from freemask import files
from freemask.errors import InputError
from freemask.freestyle.loading import load_pipeline
from freemask.freestyle.training import GeneratorTrainer

SETTINGS = {
    "steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 1, "ema_decay": 0.5, "prompt_dropout": 0.2, "seed": 0,
    "gradient_accumulation": 2, "gradient_checkpointing": True, "checkpoint_every": 2, "sample_every": 4,
}  # fmt: skip


@pytest.fixture
def train(tmp_path):
    """A function that runs the script with changed settings on six pairs of 40x24 pixels."""
    rng, rows = np.random.default_rng(0), ["image\tmask"]
    for number in range(6):
        mask = rng.choice([0, *WORDS], (3, 5)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        image = np.stack([mask * 20] * 3, axis=2).astype(np.uint8)
        files.write_atomic(tmp_path / f"{number}.png", files.png_bytes(mask))
        files.write_atomic(tmp_path / f"{number}.jpg", files.jpeg_bytes(image, 95))
        rows.append(f"{tmp_path}/{number}.jpg\t{tmp_path}/{number}.png")
    (tmp_path / "index.tsv").write_text("\n".join(rows) + "\n")
    classes = ["label\tname\tword\tcolor", *(f"{k}\t{w}\t{w}\t#0000{k:02d}" for k, w in WORDS.items())]
    (tmp_path / "classes.tsv").write_text("\n".join(classes) + "\n")
    tiny_pipeline().save_pretrained(tmp_path / "sd")

    def run(**changed) -> None:
        settings = {**SETTINGS, "init": str(tmp_path / "sd"), **changed}
        run_script(
            "train_generator",
            settings=json.dumps(settings), index=tmp_path / "index.tsv", classes=tmp_path / "classes.tsv",
            ignored_label=0, image_size=32, folder=tmp_path / "trained",
        )  # fmt: skip

    return run


def steps_logged(tmp_path) -> list[int]:
    return [json.loads(line)["step"] for line in (tmp_path / "trained/loss.jsonl").read_text().splitlines()]


def test_a_folder_is_fine_tuned_on_files(train, tmp_path):
    train()
    before, after = load_pipeline(tmp_path / "sd"), load_pipeline(tmp_path / "trained" / "pipeline")
    changed = [
        (value != after.unet.state_dict()[name].half()).any() for name, value in before.unet.half().state_dict().items()
    ]
    assert np.mean(changed) > 0.9
    for name in ("vae", "text_encoder"):  # only the UNet learns
        old, new = (getattr(pipeline, name).half().state_dict() for pipeline in (before, after))
        assert all((value == new[key]).all() for key, value in old.items())
    last = json.loads((tmp_path / "trained/loss.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 4 and 0 < last["loss"] < 10 and last["learning_rate"] == 1e-3
    # six rows of mask, real image and three seeds
    assert files.read_image(tmp_path / "trained/samples/step-4.png").shape == (6 * 32, 5 * 32, 3)
    made_by = files.read_json(tmp_path / "trained/pipeline/training.json")
    assert made_by["settings"]["init"] == str(tmp_path / "sd") and made_by["classes"] == list(WORDS.values())


def test_it_goes_on_from_the_last_state_and_keeps_no_other(train, tmp_path, capsys, monkeypatch):
    after_step = GeneratorTrainer._after_step

    def killed(trainer, *arguments):
        if trainer.step == 3:
            raise KeyboardInterrupt
        after_step(trainer, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GeneratorTrainer, "_after_step", killed)
        train()
    with open(tmp_path / "trained/loss.jsonl", "a") as log:
        log.write('{"step": 3, "loss": 0.5, "learning_rate": 0.001}\n')
    train()
    assert "resuming the generator at step 2" in capsys.readouterr().err
    assert steps_logged(tmp_path) == [4]  # what was logged after the state is logged again, not twice
    assert [path.name for path in (tmp_path / "trained").glob("state-*")] == ["state-4"]


def test_a_state_of_other_settings_is_not_gone_on_from(train, capsys):
    train()
    train(learning_rate=1e-2)
    assert "resuming" not in capsys.readouterr().err
    train(learning_rate=1e-2, sample_every=2, workers=1)
    assert "resuming the generator at step 4" in capsys.readouterr().err  # these change no weight


def test_fewer_pairs_than_a_batch_are_refused(train):
    with pytest.raises(InputError, match="6 pairs, but 7 are computed at a time"):
        train(batch_size=7, gradient_accumulation=1)


def test_a_missing_folder_is_named_and_deletes_nothing(train, tmp_path):
    train()
    with pytest.raises(InputError, match=r"nowhere: no model_index\.json"):
        train(init="nowhere")
    assert (tmp_path / "trained/state-4").exists()
