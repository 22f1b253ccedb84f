"""An HTTP server on loopback that misbehaves as told."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """How the server answers for one path.

    cut: answers in turn end after that many bytes of what they announce (None: whole). stall: a cut answer stays open
    instead of ending. ranges: the server knows Range. statuses: of the first answers. announced: send Content-Length.
    """

    content: bytes
    cut: list[int | None] = field(default_factory=list)
    stall: bool = False
    ranges: bool = True
    etag: str | None = '"first"'
    statuses: list[int] = field(default_factory=list)
    content_type: str = "application/octet-stream"
    announced: bool = True


class FileServer(ThreadingHTTPServer):
    """Serves pages (path -> Page) and notes each request's path and Range."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that reads the headers only
            self.answer()

    def answer(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        page = self.server.pages.get(self.path.lstrip("/"))
        if page is None or page.statuses:
            self.send_error(page.statuses.pop(0) if page else 404)
            return
        size, start = len(page.content), 0
        if wanted and page.ranges and self.headers.get("If-Range", page.etag) == page.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", page.content_type)
        if page.etag:
            self.send_header("ETag", page.etag)
        if page.announced:
            self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        cut = page.cut.pop(0) if page.cut else None  # before the client has an answer and asks for more
        self.end_headers()
        self.wfile.write(page.content[start : size if cut is None else start + cut])
        if cut is not None and page.stall:
            self.server.closing.wait(5)
        self.close_connection = True
        self.request.shutdown(socket.SHUT_WR)
