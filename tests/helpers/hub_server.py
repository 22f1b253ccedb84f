"""A server on loopback that answers as the Hugging Face hub does, for one pipeline of Stable Diffusion."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef" * 2 + "01234567"
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
    """Lists and serves files, and notes downloads. digests: SHA-256 that it announces for the large files."""

    daemon_threads = True

    def __init__(self):
        self.contents = CONTENTS | dict.fromkeys(UNWANTED, b"unwanted")
        self.digests = {path: hashlib.sha256(self.contents[path]).hexdigest() for path in LARGE}
        self.downloaded = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

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


def pointing_to(hub: Hub, cache) -> dict[str, str]:
    """Environment variables that point huggingface_hub to that server; it reads them when it is imported."""
    return {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "NO_PROXY": "127.0.0.1", "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
