"""Which requests a web server of this project answers: those of its own pages to its own address.

A browser sends what a page of any site asks it to send, to this machine as well, and a stranger's
name may lead to this machine (DNS rebinding). Only the headers Host and Origin, which pages cannot
change, tell these requests from those of the server's own pages.
"""

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared only
_DEFAULT_PORT = 80
_NO_FOREIGN_FRAMES = (b"content-security-policy", b"frame-ancestors 'self'")
_POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1."""


def is_every_address(host: str) -> bool:
    """Say whether a server that listens on ``host`` listens on all addresses of the machine."""
    return host in _EVERY_ADDRESS


def is_loopback(host: str) -> bool:
    """Say whether ``host`` is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def list_names(host: str) -> tuple[str, ...]:
    """List the names under which a server that listens on ``host`` is reached.

    A server that listens on every address is also reached under any IP address: nobody can make
    an address lead elsewhere, so that these need no list.
    """
    names = ("localhost", "127.0.0.1", "::1")
    return (*names, (socket.gethostname() if is_every_address(host) else host).lower())


def list_origins(host: str, port: int, allow_hosts: tuple[str, ...] = ()) -> tuple[str, ...]:
    """List the origins of the server's own pages, as far as they can be listed.

    Args:
        host: address that the server listens on.
        port: the same.
        allow_hosts: further hosts, as a browser's address bar shows them.
    """
    names = [f"[{name}]" if ":" in name else name for name in list_names(host)]
    allowed = [name.lower() for name in allow_hosts]
    own = [f"http://{name}:{port}" for name in (*names, *(n for n in allowed if ":" not in n))]
    proxies = [f"{scheme}://{name}" for name in allowed for scheme in ("http", "https")]
    return (*own, *proxies)


class WebGuard:
    """ASGI middleware that refuses requests to other hosts, and those of other sites' pages.

    A foreign ``Host`` is answered with 421, a foreign ``Origin`` with 403, whatever the method is:
    a preflight, too. A websocket is closed before it is accepted, which the client sees as 403.
    """

    def __init__(
        self,
        app: Application,
        *,
        host: str,
        allow_hosts: tuple[str, ...] = (),
        hides_origin: bool = False,
    ) -> None:
        """Guard an application.

        Args:
            app: what answers all other requests.
            host: address that the server listens on. The port is taken from the connection.
            allow_hosts: further hosts as a browser's address bar shows them, such as a proxy's:
                ``NAME`` or ``NAME:PORT``. ``NAME`` is allowed with the server's own port, too.
            hides_origin: take the approved header ``Origin`` away, which the application would
                judge in a way of its own.
        """
        self._hides_origin = hides_origin
        self._app = app
        self._names = list_names(host)
        self._allow_hosts = tuple(name.lower() for name in allow_hosts)
        self._allows_addresses = is_every_address(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        refusal = self._find_refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if refusal is None:
            if self._hides_origin and "headers" in scope:
                kept = [header for header in scope["headers"] if header[0] != b"origin"]
                scope = {**scope, "headers": kept}
            await self._app(scope, receive, _without_frames(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await _answer(send, *refusal)

    def _find_refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Find status and reason for which a request is refused."""
        hosts = _read_header(scope, b"host")
        port = int(scope["server"][1])
        if len(hosts) != 1 or not self._is_served(hosts[0], port):
            return 421, "this server does not serve that host (--allow-host allows one more)"
        origins = _read_header(scope, b"origin")
        if not all(self._is_own_page(origin, hosts[0], port) for origin in origins):
            return 403, "requests of other sites are refused"
        return None

    def _is_own_page(self, origin: str, host: str, port: int) -> bool:
        scheme, _, authority = origin.partition("://")
        is_own = authority.lower() == host.lower() or self._is_listed(authority, port)
        return scheme in {"http", "https"} and is_own

    def _is_served(self, authority: str, port: int) -> bool:
        if self._is_listed(authority, port):
            return True
        name, its_port = _split_authority(authority)
        return self._allows_addresses and its_port == port and _is_address(name)

    def _is_listed(self, authority: str, port: int) -> bool:
        name, its_port = _split_authority(authority)
        is_own = its_port == port and name in {*self._names, *self._allow_hosts}
        return is_own or authority.lower() in self._allow_hosts


def _read_header(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _split_authority(authority: str) -> tuple[str, int]:
    """Split ``NAME:PORT``; the name is empty where it is neither that nor ``NAME``."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return "", 0
    if parts.netloc != authority or "@" in authority:
        return "", 0
    return parts.hostname or "", _DEFAULT_PORT if port is None else port


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _without_frames(send: Send) -> Send:
    """Forbid other sites to show an answer in a frame, on which a click would be theirs."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), _NO_FOREIGN_FRAMES]
            message = {**message, "headers": headers}
        await send(message)

    return sent


async def _answer(send: Send, status: int, reason: str) -> None:
    content = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
