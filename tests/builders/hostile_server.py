"""A web server that does what a hostile one may do, each in its own way."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = b"a video, perhaps"


@dataclass
class HostileServer:
    """Where it is, and what it was asked for."""

    port: int = 0
    paths: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str, *, host: str = "127.0.0.1") -> str:
        """Give the address of what it does under that name; see ``_Handler``."""
        return f"http://{host}:{self.port}/{name}.mp4"


class _Server(ThreadingHTTPServer):
    state: HostileServer
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        state = self.server.state
        state.paths.append(self.path)
        name = self.path.strip("/").partition(".")[0]
        {
            "fine": lambda: self._give(CONTENT),
            "to-file": lambda: self._redirect("file:///etc/passwd"),
            "to-ftp": lambda: self._redirect(f"ftp://127.0.0.1:{state.port}/fine.mp4"),
            "to-fine": lambda: self._redirect(state.url("fine")),
            "to-private": lambda: self._redirect(state.url("fine", host="127.0.0.2")),
            "to-itself": lambda: self._redirect(state.url("to-itself")),
            "stalls": state.is_over.wait,
            "stalls-midway": lambda: (self._give(CONTENT, length=10**6), state.is_over.wait()),
            "endless": self._give_without_end,
            "trickles": self._trickle,
            "says-too-much": lambda: self._give(CONTENT, length=10**12),
            "ends-early": lambda: self._give(CONTENT, length=len(CONTENT) + 5),
            "says-too-little": lambda: self._give(CONTENT + b"more", length=len(CONTENT)),
            "hangs-up": lambda: None,
            "talks-nonsense": lambda: self.wfile.write(b"\0\1\2 nonsense\r\n\r\n"),
        }.get(name, lambda: self.send_error(404))()
        self.close_connection = True

    def _give(self, content: bytes, *, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _begin_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _give_without_end(self) -> None:
        self._begin_chunks()
        while not self.server.state.is_over.is_set():
            self.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")

    def _trickle(self) -> None:
        self._begin_chunks()
        while not self.server.state.is_over.wait(0.01):
            self.wfile.write(b"1\r\nx\r\n")

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # whoever reads has gone
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_hostility() -> Iterator[HostileServer]:
    """Serve until the block ends, on every address of this machine."""
    server = _Server(("0.0.0.0", 0), _Handler)
    server.state = HostileServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.state.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()
