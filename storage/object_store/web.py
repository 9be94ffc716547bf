"""Read one file of a web server, which may be hostile, by HTTP.

The server can neither lead into this machine's network nor to its files: redirects lead to http and
https only, and the address of every connection is looked at when it is made, after the name was
looked up. It can neither keep the reader waiting nor fill the disk.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp

from reelcheck.reading import PATIENCE_SECONDS, Reading, describe_error, make_unreadable

_CONNECT_SECONDS = 10.0
_MAX_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")))
"""Other networks of IPv6 whose addresses can stand for ones of IPv4 (RFC 4291, 7915, 8215)."""


def read_web_file(url: str, take: Callable[[bytes], object], reading: Reading) -> None:
    """Read one file, and hand over its content in pieces.

    Args:
        url: http or https.
        take: called with each piece.
        reading: limits.

    Raises:
        VideoError: it cannot be read, or not within the limits; pieces may have been handed over.
    """
    try:
        asyncio.run(_read(url, take, reading))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise make_unreadable(f"cannot be fetched: {describe_error(error)}") from error


async def _read(url: str, take: Callable[[bytes], object], reading: Reading) -> None:
    limits = reading.limits
    make_socket = partial(_make_socket, allow_private_addresses=limits.allow_private_addresses)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=make_socket, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=limits.max_seconds, sock_connect=_CONNECT_SECONDS, sock_read=PATIENCE_SECONDS
        ),
        # A small packed content may be a large one.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    )
    async with session, session.get(url, max_redirects=_MAX_REDIRECTS) as answer:
        if answer.status != 200:
            raise make_unreadable(f"cannot be fetched: the server answers {answer.status}")
        reading.require_size(answer.content_length or 0)
        async for piece in answer.content.iter_any():
            reading.advance(len(piece))
            take(piece)


def _make_socket(address: Any, *, allow_private_addresses: bool) -> socket.socket:
    """Make the socket for a connection to an address that a name was found to have.

    Raises:
        OSError: the address is none of the public network.
    """
    family, kind, protocol, _, (host, *_) = address
    if not (allow_private_addresses or is_public(host)):
        raise OSError(
            errno.EACCES,
            f"{host} is an address of this machine or of its network; only with "
            "--allow-private-addresses are these read",
        )
    return socket.socket(family, kind, protocol)


def is_public(host: str) -> bool:
    """Whether an IP address is one of the public network, also where IPv6 wraps one of IPv4."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            within = ipaddress.IPv4Address(address.packed[-4:])
        if within is not None:
            return is_public(str(within))
        if address.is_site_local or any(address in network for network in _TRANSLATED):
            return False
    return address.is_global and not address.is_multicast
