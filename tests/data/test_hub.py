"""Folders of the Hugging Face hub, from a server on loopback that answers as the hub does."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, CONTENTS, LARGE, Hub, pointing_to

from freemask.data.fetch import fetch_folder
from freemask.errors import InputError

ROOT = Path(__file__).parents[2]
ADDRESS = f"hf://someone/sd@{COMMIT}"


@pytest.fixture
def hub():
    made = Hub()
    yield made
    made.close()


def run(hub, folder, address=ADDRESS):
    """The script in a process of its own, since huggingface_hub reads its address when imported."""
    environment = os.environ | pointing_to(hub, folder.parent / "cache") | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "scripts/fetch_weights.py", "--url", address]
    command += ["--weights", folder / "model_index.json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def found(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("[!.]*/*")} | {
        path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()
    }


def test_a_pipelines_files_and_no_others_come_and_are_kept(hub, tmp_path):
    done = run(hub, tmp_path / "sd")
    assert done.returncode == 0, done.stderr
    assert found(tmp_path / "sd") == CONTENTS
    assert hub.downloaded[-1] == "model_index.json"
    hub.downloaded.clear()
    assert run(hub, tmp_path / "sd").returncode == 0
    assert not set(hub.downloaded) & set(LARGE)


def test_a_damaged_file_is_deleted_and_leaves_no_pipeline(hub, tmp_path):
    hub.digests["unet/model.safetensors"] = "0" * 64
    done = run(hub, tmp_path / "sd")
    assert done.returncode == 1 and re.search("SHA-256 is [0-9a-f]{64}, want 0000", done.stderr)
    assert not (tmp_path / "sd/unet/model.safetensors").exists()
    assert not (tmp_path / "sd/model_index.json").exists()
    hub.digests["unet/model.safetensors"] = hashlib.sha256(CONTENTS["unet/model.safetensors"]).hexdigest()
    assert run(hub, tmp_path / "sd").returncode == 0
    assert found(tmp_path / "sd") == CONTENTS


def test_what_is_no_pipeline_is_named(hub, tmp_path):
    del hub.contents["vae/model.safetensors"]
    done = run(hub, tmp_path / "sd")
    assert done.returncode == 1 and "no safetensors of a diffusers pipeline there (vae)" in done.stderr
    done = run(hub, tmp_path / "sd", f"hf://someone/other@{COMMIT}")
    assert done.returncode == 1 and "error: hf://someone/other" in done.stderr


@pytest.mark.parametrize("address", ["hf://someone/sd", "hf://someone/sd@main", "hf://sd@" + COMMIT])
def test_a_commit_must_be_named(address, tmp_path):
    with pytest.raises(InputError, match="40 hex digits of a commit"):
        fetch_folder(address, tmp_path)
