"""Runs of flows, told by a small server that speaks like Prefect's."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from page.prefect_state import find_ui_url, read_last_runs
from reelcheck.errors import StoreError

LOGIN = "me:not a secret"


class FakePrefect(BaseHTTPRequestHandler):
    """One that wants a password and a token."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == f"Basic {b64encode(LOGIN.encode()).decode()}"
        path, _, client = self.path.partition("?client=")
        assert path == "/api/csrf-token"
        self.answer(200 if is_known else 401, {"token": f"token of {client}"})

    def do_POST(self) -> None:
        client = self.headers["Prefect-Csrf-Client"]
        assert self.headers["Prefect-Csrf-Token"] == f"token of {client}"
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/flows/filter":
            answer: list[dict[str, Any]] = [
                {"id": "f1", "name": "score"},
                {"id": "f2", "name": "somebody-else"},
            ]
        else:
            assert asked["flows"]["id"]["any_"] == ["f1"]
            state = {"name": "Failed", "message": "no disk"}
            answer = [
                {
                    "id": "r1",
                    "flow_id": "f1",
                    "name": "brave-newt",
                    "state": state,
                    "start_time": "2026-11-21T03:00:00.5Z",
                    "total_run_time": 12.5,
                }
            ]
        self.answer(200, answer)

    def answer(self, status: int, told: Any) -> None:
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", LOGIN)
    with HTTPServer(("127.0.0.1", 0), FakePrefect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_last_runs_of_our_flows_with_links(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_UI_URL", raising=False)
    [run] = read_last_runs(api)
    assert (run.flow, run.name, run.state, run.message) == (
        "score",
        "brave-newt",
        "Failed",
        "no disk",
    )
    assert run.started_at is not None
    assert run.started_at.isoformat() == "2026-11-21T03:00:00.500000+00:00"
    assert run.url == api.removesuffix("/api") + "/runs/flow-run/r1"


def test_password_that_the_server_refuses_is_told(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:wrong")
    with pytest.raises(StoreError, match="wants another password: set PREFECT_API_AUTH_STRING"):
        read_last_runs(api)


def test_ui_elsewhere_is_linked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", "https://prefect.example")
    assert find_ui_url("http://127.0.0.1:4200/api") == "https://prefect.example"


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://127.0.0.1:9/api", "does not answer"), ("file:///etc/passwd", "must begin with http")],
)
def test_server_that_cannot_be_asked_is_told(address: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        read_last_runs(address)


def test_password_goes_neither_through_a_proxy_nor_on_to_another_server(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/stolen")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    other = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", LOGIN)
    monkeypatch.setenv("http_proxy", other)
    monkeypatch.delenv("no_proxy", raising=False)
    try:
        assert read_last_runs(api)
        assert seen == []
        with pytest.raises(StoreError):
            read_last_runs(f"{other}/api")
        assert [path.partition("?")[0] for path in seen] == ["/api/csrf-token"]
    finally:
        server.shutdown()
        server.server_close()
