"""Folders of the Hugging Face hub, from a server on loopback that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from freemask.errors import InputError
from freemask.hub import fetch_folder

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef" * 2 + "01234567"
ADDRESS = f"hf://someone/sd@{COMMIT}"
LARGE = [f"{part}/model.safetensors" for part in ("vae", "text_encoder", "unet")]
CONTENTS = {
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b'{"beta_start": 0.00085}',
    "unet/config.json": b"{}",
    "tokenizer/merges.txt": b"a b",
    **{path: path.encode() * 100 for path in LARGE},
}
UNWANTED = ["unet/model.fp16.safetensors", "unet/model.bin", "safety_checker/model.safetensors", "README.md"]


class Hub(ThreadingHTTPServer):
    """Lists and serves files; digests: what it says of the large ones; notes what was downloaded."""

    daemon_threads = True

    def __init__(self):
        self.contents = CONTENTS | dict.fromkeys(UNWANTED, b"unwanted")
        self.digests = {path: hashlib.sha256(self.contents[path]).hexdigest() for path in LARGE}
        self.downloaded = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def tree(self):
        for path, content in self.contents.items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            if path in self.digests:
                entry["lfs"] = {"oid": self.digests[path], "size": len(content), "pointerSize": 130}
            yield entry


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        """Quiet."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        place, file = self.path.split("?")[0], f"/someone/sd/resolve/{COMMIT}/"
        if place == f"/api/models/someone/sd/tree/{COMMIT}":
            content = json.dumps(list(self.server.tree())).encode()
        elif place.startswith(file) and place.removeprefix(file) in self.server.contents:
            name = place.removeprefix(file)
            content = self.server.contents[name]
            if body:
                self.server.downloaded.append(name)
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub():
    made = Hub()
    yield made
    made.shutdown()
    made.server_close()


def run(hub, folder, address=ADDRESS):
    """The script in a process of its own, since huggingface_hub reads its address when imported."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "NO_PROXY": "127.0.0.1"}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(folder.parent / "cache"), "HF_HUB_DISABLE_XET": "1"}
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
    assert done.returncode == 1 and "SHA-256 isn't the hub's 0000" in done.stderr
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
