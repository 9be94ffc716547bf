"""Which requests a guarded web server answers, message by message."""

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelcheck.serving.guard import Message, Receive, Scope, Send, WebGuard, list_origins

PORT = 8501


def status_of(
    headers: dict[str, str], *, kind: str = "http", method: str = "GET", **guarded: Any
) -> int:
    """The status that a request is answered with: 200 where it reaches the application."""
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "server": ("127.0.0.1", PORT),
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers.items()],
    }
    guard = WebGuard(application, **{"host": "127.0.0.1", **guarded})
    asyncio.run(guard(scope, receive, send))
    first = sent[0]
    return 403 if first["type"] == "websocket.close" else int(first["status"])


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_own_hosts_and_own_pages_are_answered(kind: str, name: str) -> None:
    host = f"{name}:{PORT}"
    assert status_of({"Host": host}, kind=kind) == 200
    assert status_of({"Host": host, "Origin": f"http://{host}"}, kind=kind) == 200
    # A page that was opened under the server's other name.
    assert status_of({"Host": host, "Origin": f"http://localhost:{PORT}"}, kind=kind) == 200


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        f"localhost.evil.example:{PORT}",
        f"127.0.0.1.evil.example:{PORT}",
        f"evil.example@127.0.0.1:{PORT}",
        f"127.0.0.1:{PORT}@evil.example",
        f"127.0.0.1:{PORT}/evil.example",
        f"127.0.0.1:{PORT}?",
        f"192.0.2.1:{PORT}",
        f"127.0.0.1:{PORT + 1}",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:99999",
        "[::1",
        ":",
        "",
    ],
)
def test_other_hosts_are_refused(kind: str, host: str) -> None:
    assert status_of({"Host": host}, kind=kind) in {403, 421}
    assert status_of({"Host": host, "Origin": f"http://{host}"}, kind=kind) in {403, 421}


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        f"http://evil.example:{PORT}",
        "http://localhost:6666",
        "http://127.0.0.1",
        f"ftp://127.0.0.1:{PORT}",
        f"http://127.0.0.1:{PORT}.evil.example",
        f"http://127.0.0.1:{PORT}/evil",
        "null",
        "",
    ],
)
def test_pages_of_other_sites_are_refused(kind: str, method: str, origin: str) -> None:
    headers = {"Host": f"127.0.0.1:{PORT}", "Origin": origin}
    assert status_of(headers, kind=kind, method=method) == 403


@given(name=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,30}", fullmatch=True), port=st.integers(1, 65535))
def test_no_other_name_is_served(name: str, port: int) -> None:
    is_own = name in {"localhost", "127.0.0.1"} and port == PORT
    assert (status_of({"Host": f"{name}:{port}"}) == 200) is is_own


def test_a_request_without_a_host_is_refused() -> None:
    assert status_of({}) == 421


def test_on_every_address_any_address_is_own_and_names_are_not() -> None:
    def answered(host: str, **more: Any) -> bool:
        return status_of({"Host": f"{host}:{PORT}"}, host="0.0.0.0", **more) == 200

    assert answered("192.0.2.1")
    assert answered("[2001:db8::1]")
    assert answered(socket.gethostname())
    assert not answered("evil.example")
    assert answered("server", allow_hosts=("server",))


def test_a_proxy_is_allowed_by_the_name_in_the_address_bar() -> None:
    allowed = {"allow_hosts": ("check.example.org", "other.example.org:8443")}
    own = f"127.0.0.1:{PORT}"
    for name in allowed["allow_hosts"]:
        assert status_of({"Host": name, "Origin": f"https://{name}"}, **allowed) == 200
        # A proxy that writes its own address of the server into the header Host.
        assert status_of({"Host": own, "Origin": f"https://{name}"}, **allowed) == 200
    assert status_of({"Host": "other.example.org"}, **allowed) == 421
    assert status_of({"Host": own, "Origin": "https://example.org"}, **allowed) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_listed_origins_are_those_that_are_answered(host: str) -> None:
    allowed = ("check.example.org",)
    origins = list_origins(host, PORT, allowed)
    assert "https://check.example.org" in origins
    assert f"http://localhost:{PORT}" in origins
    for origin in origins:
        headers = {"Host": f"127.0.0.1:{PORT}", "Origin": origin}
        assert status_of(headers, host=host, allow_hosts=allowed) == 200


def test_answers_cannot_be_shown_in_frames_of_other_sites() -> None:
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "server": ("", PORT), "headers": [(b"host", b"localhost:8501")]}
    asyncio.run(WebGuard(application, host="localhost")(scope, None, send))  # type: ignore[arg-type]
    own = (b"content-security-policy", b"frame-ancestors 'self'")
    assert sent[0]["headers"] == [(b"a", b"b"), own]


def test_approved_origin_is_hidden_on_request() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])

    async def nothing(*_: Any) -> Any:
        return None

    headers = [(b"host", b"127.0.0.1:8501"), (b"origin", b"http://[::1]:8501")]
    scope = {"type": "websocket", "server": ("127.0.0.1", PORT), "headers": headers}
    for hides_origin in (False, True):
        guard = WebGuard(application, host="127.0.0.1", hides_origin=hides_origin)
        asyncio.run(guard(scope, nothing, nothing))
    assert seen == [headers, headers[:1]]


def test_listed_origins_of_proxies_are_spelled_as_browsers_do() -> None:
    listed = list_origins("127.0.0.1", PORT, ("Proxy.Example", "other.example:8443"))
    assert "https://proxy.example" in listed
    assert "https://other.example:8443" in listed
    assert not [origin for origin in listed if origin.count(":") > 2 and "[" not in origin]
