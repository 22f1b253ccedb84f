"""Pipeline folders: loaded strictly, adopted into results/, replaced as a whole; and scripts/prepare_generator.py."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from command_line import run_script
from diffusers import PNDMScheduler
from safetensors.torch import load_file, save_file
from tiny_generator import tiny_pipeline

from freemask import files
from freemask.errors import InputError
from freemask.generation.freestyle import loading
from freemask.generation.freestyle.pipeline import TOKENIZER, FreestylePipeline

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "generator"
    loading.save_pipeline(tiny_pipeline(), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "generator"))


def change_weights(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("conv_out.bias"), "missing keys.*conv_out.bias"),
        (lambda tensors: tensors.update(strange=torch.ones(1)), "unexpected keys.*strange"),
        (lambda tensors: tensors.update({"conv_out.bias": torch.ones(5)}), "conv_out.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    change_weights(folder / UNET, change)
    with pytest.raises(InputError, match=message):
        loading.load_pipeline(folder)


def test_a_truncated_file_is_refused(folder):
    path = folder / UNET
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="can't be loaded"):
        loading.load_pipeline(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "diffusion_pytorch_model.fp16.safetensors",
            r"half precision only, .*: rename \S+ to diffusion_",
        ),
        ("diffusion_pytorch_model.bin", "pickled weights only .diffusion_pytorch_model.bin.*save_pretrained"),
        ("pytorch_model.bin", "pickled weights only .pytorch_model.bin"),
    ],
)
def test_a_folder_of_other_weights_says_what_to_do(folder, name, message):
    (folder / UNET).rename(folder / "unet" / name)
    with pytest.raises(InputError, match=message):
        loading.adopt_pipeline(folder, folder.parent / "adopted", loading.load_pipeline)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    shutil.copy(TOKENIZER / "vocab.json", folder / "tokenizer")  # without merges, every letter would be a token
    with pytest.raises(InputError, match=r"generator: no tokenizer .*copy .*resources/miniature-generator/tokenizer"):
        loading.load_pipeline(folder)
    (folder / "tokenizer" / "vocab.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer of \d tokens, the text encoder has 49408"):
        FreestylePipeline.from_pretrained(folder)


def test_folders_hold_the_tokenizer_that_their_captions_need(folder, tmp_path):
    """The standard way to load gives it, for the shipped generator, a saved folder and an adopted one."""
    loading.adopt_pipeline(folder, tmp_path / "adopted", loading.load_pipeline)
    shipped = TOKENIZER.parent
    for source in (shipped, folder, tmp_path / "adopted"):
        tokenizer = FreestylePipeline.from_pretrained(source).tokenizer
        assert len(tokenizer) == 49408
        assert tokenizer("a swimming pool at 8 o'clock").input_ids == [
            49406, 320, 7411, 2831, 536, 279, 334, 262, 6716, 49407,
        ]  # fmt: skip
    small = [path for path in shipped.rglob("*") if path.is_file() and path.parent.name != "tokenizer"]
    assert sum(path.stat().st_size for path in small) < 8e6
    assert sum(path.stat().st_size for path in TOKENIZER.iterdir()) < 1.5e6


def test_a_missing_file_is_refused(folder):
    (folder / UNET).unlink()
    with pytest.raises(InputError, match="can't be loaded"):
        loading.load_pipeline(folder)


def test_text_encoders_saved_under_older_names_load(folder):
    """Until transformers 5.5 every key began with text_model."""
    path = folder / "text_encoder" / "model.safetensors"
    before = loading.load_pipeline(folder).text_encoder.state_dict()
    save_file({f"text_model.{key}": value for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    after = loading.load_pipeline(folder).text_encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_noise_levels_of_the_folder_are_kept(folder):
    PNDMScheduler(beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction").save_pretrained(
        folder / "scheduler"
    )
    config = loading.load_pipeline(folder).scheduler.config
    assert (config.beta_end, config.beta_schedule, config.prediction_type) == (0.02, "linear", "v_prediction")
    assert config.skip_prk_steps


def test_adopted_folder_stands_on_its_own(folder, tmp_path):
    (folder / "unet" / "notes.md").write_text("not needed")
    adopted = tmp_path / "adopted"
    loading.adopt_pipeline(folder, adopted, loading.load_pipeline)
    found = contents(adopted)
    assert found.pop("model_index.json")
    assert set(found) == set(contents(folder)) - {"unet/notes.md", "model_index.json"}
    assert loading.weights_sha256(adopted) == loading.weights_sha256(folder)
    shutil.rmtree(folder)
    loading.load_pipeline(adopted)


def test_large_files_are_linked(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "COPIED", 10_000)
    loading.adopt_pipeline(folder, tmp_path / "adopted", loading.load_pipeline)
    assert (tmp_path / "adopted" / UNET).stat().st_ino == (folder / UNET).stat().st_ino
    assert (tmp_path / "adopted/unet/config.json").stat().st_ino != (folder / "unet/config.json").stat().st_ino


def test_large_files_are_copied_to_another_disk(folder, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(loading, "COPIED", 10_000)
    monkeypatch.setattr(os, "link", refuse)
    loading.adopt_pipeline(folder, tmp_path / "adopted", loading.load_pipeline)
    assert (tmp_path / "adopted" / UNET).read_bytes() == (folder / UNET).read_bytes()


def test_weights_that_are_no_numbers_are_refused(folder, tmp_path):
    change_weights(folder / UNET, lambda tensors: tensors["conv_in.bias"].fill_(float("nan")))
    with pytest.raises(InputError, match=r"unet: conv_in\.bias holds NaN"):
        loading.adopt_pipeline(folder, tmp_path / "adopted", loading.load_pipeline)


def test_a_failure_changes_nothing(folder, tmp_path):
    before = contents(folder)
    with pytest.raises(RuntimeError), loading.replaced_folder(folder) as made:
        (made / "half").write_text("done")
        raise RuntimeError
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["generator"]


def test_a_folder_is_replaced_as_a_whole_and_leftovers_are_swept(folder, tmp_path):
    (tmp_path / ".generator.killed.tmp").mkdir()
    with loading.replaced_folder(folder) as made:
        (made / "new").write_text("done")
    assert contents(folder) == {"new": b"done"}
    assert [path.name for path in tmp_path.iterdir()] == ["generator"]


def test_script_adopts_a_folder(folder, tmp_path):
    made = tmp_path / "results" / "mini" / "model_index.json"
    run_script("prepare_generator", path=folder / "model_index.json", source="pipeline", pipeline=made)
    loading.load_pipeline(made.parent)


@pytest.mark.parametrize("path", [None, "weights/none.ckpt"])
def test_script_says_where_weights_come_from(tmp_path, path):
    with pytest.raises(InputError, match="generator mini: nothing at .*address in the config"):
        run_script("prepare_generator", path=path, source="checkpoint", pipeline=tmp_path / "mini" / "model_index.json")


def test_script_refuses_another_digest_and_makes_nothing(tmp_path):
    weights, made = tmp_path / "weights.ckpt", tmp_path / "mini" / "model_index.json"
    weights.write_bytes(b"weights")
    with pytest.raises(InputError, match=f"{files.sha256(weights)}, want {'0' * 64}"):
        run_script("prepare_generator", path=weights, source="checkpoint", sha256="0" * 64, pipeline=made)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.ckpt"]


def test_script_wants_a_digest_of_checkpoints_only(folder, tmp_path):
    options = {"path": folder / "model_index.json", "pipeline": tmp_path / "mini" / "model_index.json"}
    with pytest.raises(InputError, match="--sha256 is of a checkpoint"):
        run_script("prepare_generator", source="pipeline", sha256="0" * 64, **options)
