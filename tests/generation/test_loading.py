"""Pipeline folders: loaded strictly, adopted into results/, replaced as a whole; and scripts/prepare_generator.py."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler
from safetensors.torch import load_file, save_file
from tiny_generator import tiny_pipeline

from freemask import files
from freemask.errors import InputError
from freemask.generation.freestyle import loading

UNET = "unet/diffusion_pytorch_model.safetensors"
SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_generator.py"


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
    loading.adopt_pipeline(folder, adopted)
    found = contents(adopted)
    assert found.pop("model_index.json")
    assert set(found) == set(contents(folder)) - {"unet/notes.md", "model_index.json"}
    assert loading.weights_sha256(adopted) == loading.weights_sha256(folder)
    shutil.rmtree(folder)
    loading.load_pipeline(adopted)


def test_large_files_are_linked(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "COPIED", 10_000)
    loading.adopt_pipeline(folder, tmp_path / "adopted")
    assert (tmp_path / "adopted" / UNET).stat().st_ino == (folder / UNET).stat().st_ino
    assert (tmp_path / "adopted/unet/config.json").stat().st_ino != (folder / "unet/config.json").stat().st_ino


def test_large_files_are_copied_to_another_disk(folder, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(loading, "COPIED", 10_000)
    monkeypatch.setattr(loading.os, "link", refuse)
    loading.adopt_pipeline(folder, tmp_path / "adopted")
    assert (tmp_path / "adopted" / UNET).read_bytes() == (folder / UNET).read_bytes()


def test_weights_that_are_no_numbers_are_refused(folder, tmp_path):
    change_weights(folder / UNET, lambda tensors: tensors["conv_in.bias"].fill_(float("nan")))
    with pytest.raises(InputError, match=r"unet: conv_in\.bias holds NaN"):
        loading.adopt_pipeline(folder, tmp_path / "adopted")


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


def prepare(*words: str) -> None:
    spec = importlib.util.spec_from_file_location("prepare_generator_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(script.options().parse_args(words))


def test_script_adopts_a_folder(folder, tmp_path):
    made = tmp_path / "results" / "mini" / "model_index.json"
    prepare("--source", str(folder / "model_index.json"), "--kind", "pipeline", "--pipeline", str(made))
    loading.load_pipeline(made.parent)


@pytest.mark.parametrize("source", [[], ["--source"], ["--source", "weights/none.ckpt"]])
def test_script_says_where_weights_come_from(tmp_path, source):
    with pytest.raises(InputError, match="generator mini: nothing at .*address in the config"):
        prepare(*source, "--kind", "checkpoint", "--pipeline", str(tmp_path / "mini" / "model_index.json"))


def test_script_refuses_another_digest_and_makes_nothing(tmp_path):
    (tmp_path / "weights.ckpt").write_bytes(b"weights")
    found, made = files.sha256(tmp_path / "weights.ckpt"), tmp_path / "mini" / "model_index.json"
    with pytest.raises(InputError, match=f"{found}, want {'0' * 64}"):
        prepare(
            "--source", str(tmp_path / "weights.ckpt"), "--kind", "checkpoint", "--sha256", "0" * 64,
            "--pipeline", str(made),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["weights.ckpt"]
