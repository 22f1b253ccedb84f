"""scripts/train_generator.py: a tiny random Stable Diffusion folder fine-tuned on files, and the miniature; killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run_script
from processes import FORKS
from tiny_generator import WORDS, killed_at, tiny_pipeline

from freemask import files, images, stopping
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.generation.freestyle.loading import load_pipeline
from freemask.generation.freestyle.training import GeneratorTrainer

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 1, "ema_decay": 0.5, "prompt_dropout": 0.2, "seed": 0,
    "gradient_accumulation": 2, "gradient_checkpointing": True, "checkpoint_every": 2, "sample_every": 4,
}  # fmt: skip


STREAM = {
    "steps": 4, "batch_size": 2, "learning_rate": 1e-3, "warmup": 1, "ema_decay": 0.5, "prompt_dropout": 0.2, "seed": 0,
    "train_text_encoder": True, "checkpoint_every": 2, "stream": {"scenes": 10, "seed": 3, "missing": 0.1},
    "autoencoder": {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "kl_weight": 1e-6, "crop": 16},
}  # fmt: skip


@pytest.fixture
def options(tmp_path):
    """A function that gives the script's options, with changed settings, for six pairs of 40x24 pixels."""
    rng, rows = np.random.default_rng(0), ["image\tmask"]
    for number in range(6):
        mask = rng.choice([0, *WORDS], (3, 5)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        image = np.stack([mask * 20] * 3, axis=2).astype(np.uint8)
        files.write_atomic(tmp_path / f"{number}.png", images.png_bytes(mask))
        files.write_atomic(tmp_path / f"{number}.jpg", images.jpeg_bytes(image, 95))
        rows.append(f"{tmp_path}/{number}.jpg\t{tmp_path}/{number}.png")
    (tmp_path / "index.tsv").write_text("\n".join(rows) + "\n")
    words, colors = tuple(WORDS.values()), tuple((0, 0, label) for label in WORDS)
    LabelSpace(tuple(WORDS), words, words, colors, ignored=0).write(tmp_path / "label_space.json")
    tiny_pipeline().save_pretrained(tmp_path / "sd")

    def given(out: str = "trained", **changed) -> dict:
        settings = {**SETTINGS, "init": str(tmp_path / "sd"), **changed}
        return {
            "settings": json.dumps(settings), "index": tmp_path / "index.tsv",
            "label_space": tmp_path / "label_space.json", "image_size": 32, "folder": tmp_path / out,
        }  # fmt: skip

    return given


@pytest.fixture
def train(options):
    """A function that runs the script with changed settings."""
    return lambda *out, **changed: run_script("train_generator", **options(*out, **changed))


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
    assert images.read_image(tmp_path / "trained/samples/step-4.png").shape == (6 * 32, 5 * 32, 3)
    made_by = files.read_json(tmp_path / "trained/pipeline/training.json")
    assert made_by["settings"]["init"] == str(tmp_path / "sd") and made_by["classes"] == list(WORDS.values())


def test_it_resumes_from_the_last_state_and_keeps_no_other(train, tmp_path, capsys):
    with killed_at(3):
        train()
    with open(tmp_path / "trained/loss.jsonl", "a") as log:
        log.write('{"step": 3, "loss": 0.5, "learning_rate": 0.001}\n')
    train()
    assert "resuming the generator at step 2" in capsys.readouterr().err
    assert steps_logged(tmp_path) == [4]  # what was logged after the state is logged again, not twice
    assert [path.name for path in (tmp_path / "trained").glob("state-*")] == ["state-4"]


def test_a_state_of_other_settings_is_not_resumed(train, capsys):
    train()
    train(learning_rate=1e-2)
    assert "resuming" not in capsys.readouterr().err
    train(learning_rate=1e-2, sample_every=2, workers=1)
    assert "resuming the generator at step 4" in capsys.readouterr().err  # these change no weight


def test_fewer_pairs_than_a_batch_stand_in_it_more_than_once(train, tmp_path):
    train(batch_size=7, gradient_accumulation=1, steps=1)
    assert (tmp_path / "trained/weights.json").exists()


def test_a_missing_folder_is_named_and_deletes_nothing(train, tmp_path):
    train()
    with pytest.raises(InputError, match=r"nowhere: no model_index\.json"):
        train(init="nowhere")
    assert (tmp_path / "trained/state-4").exists()


def run_alone(options: dict) -> None:
    """Run the script in a process of its own."""
    import torch

    torch.set_num_threads(1)
    run_script("train_generator", **options)


def outcome(folder: Path) -> tuple[dict, int]:
    """The generator's weights, and the last step that was logged."""
    last = json.loads((folder / "loss.jsonl").read_text().splitlines()[-1])
    return files.read_json(folder / "weights.json"), last["step"]


def test_sigterm_saves_the_step_and_the_next_run_ends_with_the_same_bytes(options, tmp_path, monkeypatch, capsys):
    """The signal comes in step 3, whose state isn't one of the regular ones; the loader processes get it as well."""
    step, handler = GeneratorTrainer._after_step, signal.getsignal(signal.SIGTERM)

    def terminated(trainer, *arguments):
        step(trainer, *arguments)
        if trainer.step == 3:
            for process in (*multiprocessing.active_children(), None):
                os.kill(process.pid if process else os.getpid(), signal.SIGTERM)

    monkeypatch.setenv(stopping.CONTINUE, str(tmp_path / "continue"))
    with monkeypatch.context() as patched, pytest.raises(stopping.Terminated):
        patched.setattr(GeneratorTrainer, "_after_step", terminated)
        run_script("train_generator", **options("ended", workers=1))
    assert f"SIGTERM: saved step 3 of 4 in {tmp_path}/ended; the same command" in capsys.readouterr().err
    assert (tmp_path / "continue").exists() and signal.getsignal(signal.SIGTERM) == handler
    run_script("train_generator", **options("ended", workers=1))
    assert "resuming the generator at step 3" in capsys.readouterr().err
    run_script("train_generator", **options("whole"))
    assert outcome(tmp_path / "ended") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bytes_of_one_left_alone(options, tmp_path):
    """SIGKILL three times, while libraries load, steps are made and states are written."""
    moments = random.Random(5)
    changed = {"steps": 45, "checkpoint_every": 3, "sample_every": 0, "gradient_checkpointing": False}
    latest, reached = tmp_path / "killed/latest.json", [0]
    for kills in range(4):
        process = FORKS.Process(target=run_alone, args=(options("killed", **changed),))
        process.start()
        if kills < 3:
            while process.is_alive() and not (latest.exists() and files.read_json(latest)["step"] > reached[-1]):
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.2))
            assert process.is_alive(), "nothing was left to do: give it more steps"
            os.kill(process.pid, signal.SIGKILL)
            reached.append(files.read_json(latest)["step"])
        process.join()
    assert process.exitcode == 0 and reached == sorted(set(reached))
    run_alone(options("whole", **changed))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed").glob("state-*")] == ["state-45"]


def test_the_miniature_resumes_with_its_autoencoder_and_ends_with_the_same_bytes(options, tmp_path, monkeypatch):
    def run(out: str) -> None:
        space = LabelSpace.of_class_table(ROOT / "config/datasets/miniworld.tsv", 0)
        space.write(tmp_path / "miniworld.json")
        settings = {"settings": json.dumps(STREAM), "label_space": tmp_path / "miniworld.json"}
        run_script("train_generator", **options(out) | settings)

    def killed(trainer, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GeneratorTrainer, "_after_step", killed)
        run("killed")
    made = (tmp_path / "killed/autoencoder/diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    run("killed")
    assert (tmp_path / "killed/autoencoder/diffusion_pytorch_model.safetensors").stat().st_mtime_ns == made
    run("whole")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_as_one_with_batches_twice_as_large(options, tmp_path):
    """Under torchrun, on the CPU: other noise in each process, one stream, the same loss and weights; and resumed."""
    words = []
    for name, value in (options("two", checkpoint_every=3) | {"log": tmp_path / "two.log"}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    script = ROOT / "scripts/train_generator.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--", script]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    run_script("train_generator", **options("one", batch_size=4))
    one, two = (json.loads((tmp_path / name / "loss.jsonl").read_text().splitlines()[-1]) for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], abs=2e-6) and one["step"] == two["step"] == 4
    shutil.rmtree(tmp_path / "two/pipeline")  # as if killed in the last step
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "resuming the generator at step 3" in done.stderr, done.stderr
    weights = [load_pipeline(tmp_path / name / "pipeline").unet.state_dict() for name in ("one", "two")]
    for name, value in weights[0].items():
        assert (weights[1][name] - value).abs().max() < 1e-3, name  # a step is 1e-3 long; halves are rounded
    assert len(list((tmp_path / "two/state-3").glob("random_states_*.pkl"))) == 2
