"""Requests as a browser sends them for any site's page, with the headers that are asked for."""

import http.client
import os
import socket
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import urlsplit

STRANGER = "http://evil.example"


@dataclass(frozen=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


def ask(
    address: str, path: str, *, method: str = "GET", content: bytes = b"", **headers: str
) -> Answer:
    """Ask the server at the address; ``content_type`` stands for the header Content-Type."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, content or None, given)
        answer = connection.getresponse()
        read = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, read, answer.read())
    finally:
        connection.close()


def open_websocket(address: str, path: str, *, protocol: str, **headers: str) -> int:
    """Ask for a websocket; the status is 101 where it is opened."""
    where = urlsplit(address)
    given = {
        "Host": where.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": protocol,
        **headers,
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(200).split()[1])
