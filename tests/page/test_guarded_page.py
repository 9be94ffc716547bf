"""The page's server and strangers: their pages, their names, and nobody whom it asks."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from strangers import STRANGER, ask, open_websocket
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

STREAM = "/_stcore/stream"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Address of a proxy that hands nothing on, and the first lines of what it was asked for."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def note() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(300).split(b"\r\n")[0])

        thread = threading.Thread(target=note)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module", params=["127.0.0.1", "0.0.0.0"])
def served(
    request: pytest.FixtureRequest,
    proxy: tuple[str, list[bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Address of `reelcheck page`; whatever else it asks for goes to the proxy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    scratch = tmp_path_factory.mktemp("scratch")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "page", "--host", request.param, "--port", str(port)],
        cwd=ROOT,
        env={
            **os.environ,
            **dict.fromkeys(("http_proxy", "https_proxy"), proxy[0]),
            "no_proxy": "127.0.0.1,localhost",
            "TMPDIR": str(scratch),
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(address, process)
        yield address
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert not list(scratch.iterdir()), "the files of visits outlive the server"


def wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1500):
        assert process.poll() is None, "the page's server has ended"
        try:
            if ask(address, "/_stcore/health").status == 200:
                return
        except OSError:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
    raise AssertionError("the page's server does not answer")


def test_own_page_is_drawn(served: str) -> None:
    name = served.removeprefix("http://").replace("127.0.0.1", "localhost")
    shown = ask(served, "/", Host=name)
    assert shown.status == 200
    assert b"<html" in shown.content
    assert shown.headers["content-security-policy"] == "frame-ancestors 'self'"
    wanted = BackMsg()
    wanted.rerun_script.query_string = ""
    with connect(
        f"ws://{name}{STREAM}", origin=f"http://{name}", subprotocols=["streamlit"], proxy=None
    ) as visit:
        visit.send(wanted.SerializeToString())
        drawn = ""
        while "reelcheck page --model" not in drawn:  # what a page without models says
            message = ForwardMsg()
            message.ParseFromString(bytes(visit.recv(timeout=60)))
            drawn += str(message)


def test_strangers_pages_and_names_are_refused(served: str, proxy: tuple[str, list[bytes]]) -> None:
    port = served.rpartition(":")[2]
    for path in ("/", "/_stcore/health", "/_stcore/host-config", "/media/x"):
        assert ask(served, path, Origin=STRANGER).status == 403
        assert ask(served, path, Origin="http://localhost:6666").status == 403
        for host in ("evil.example", f"evil.example:{port}"):
            assert ask(served, path, Host=host).status == 421
            assert ask(served, path, Host=host, Origin=f"http://{host}").status == 421
    assert proxy[1] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_uploads_of_strangers_pages_are_refused(served: str, method: str) -> None:
    asked = ask(
        served, "/_stcore/upload_file/a/b", method=method, Origin=STRANGER,
        Access_Control_Request_Method="PUT",
    )  # fmt: skip
    assert asked.status == 403
    assert not [name for name in asked.headers if name.startswith("access-control")]


def test_websockets_are_opened_to_own_pages_alone(
    served: str, proxy: tuple[str, list[bytes]]
) -> None:
    def status(**headers: str) -> int:
        return open_websocket(served, STREAM, protocol="streamlit", **headers)

    port = served.rpartition(":")[2]
    assert status(Origin=served) == 101
    assert status(Origin=STRANGER) == 403
    assert status(Origin="http://localhost:6666") == 403
    assert status(Origin="null") == 403
    evil = f"evil.example:{port}"
    assert status(Host=evil, Origin=f"http://{evil}") == 403
    assert status(Host=evil) == 403
    # Streamlit's own check asks an address service about an origin that it does not know.
    assert proxy[1] == []
