"""A server on this machine that gives one file, whole or in all the ways in which this can fail."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server gives, and what it was asked for."""

    content: bytes
    etag: str | None = '"one"'
    content_type: str = "application/octet-stream"
    breaks_after: int | None = None
    """Number of bytes after which the connection ends."""
    status: int | None = None
    """An error for every request."""
    has_length: bool = True
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of every request."""


class _Server(ThreadingHTTPServer):
    state: FileServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        """What the client of the Hugging Face hub asks first."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.state.content)))
        self.send_header("ETag", self.server.state.etag or "")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        state = self.server.state
        state.ranges.append(self.headers.get("Range"))
        begin = self._find_begin()
        if state.status is not None or (begin or 0) > len(state.content):
            self.send_error(state.status or 416)
            return
        rest = state.content[begin:]
        self.send_response(200 if begin is None else 206)
        self.send_header("Content-Type", state.content_type)
        if state.has_length:
            self.send_header("Content-Length", str(len(rest)))
        if state.etag is not None:
            self.send_header("ETag", state.etag)
        self.end_headers()
        self.wfile.write(rest if state.breaks_after is None else rest[: state.breaks_after])

    def _find_begin(self) -> int | None:
        """Where the rest begins that is asked for; None: all is asked for, or another version."""
        asked = self.headers.get("Range")
        if asked is None or self.headers.get("If-Range") != self.server.state.etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_file(content: bytes) -> Iterator[FileServer]:
    """Serve a file until the block ends; its address is ``url``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    server.state = FileServer(content, url=url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
