"""Files of web servers that are hostile: told in one line, within limits, and from nowhere else."""

import hashlib
import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hostile_server import CONTENT, HostileServer, serve_hostility
from hypothesis import given
from hypothesis import strategies as st

from reelcheck import reading as reading_module
from reelcheck.errors import StoreError, VideoError
from reelcheck.reading import Reading, ReadLimits
from reelcheck.status import Status
from storage.object_store import web
from storage.object_store.copies import fetch_file
from storage.object_store.objects import ObjectFolder, fetch, read_object
from storage.object_store.web import is_public

pytestmark = pytest.mark.timeout(60)
LIMITS = ReadLimits(max_bytes=10**6, max_seconds=20, allow_private_addresses=True)
PUBLIC_ONLY = ReadLimits(max_bytes=10**6, max_seconds=20)


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serve_hostility() as state:
        yield state


def read(url: str, limits: ReadLimits = LIMITS) -> bytes:
    pieces: list[bytes] = []
    read_object(url, pieces.append, Reading(limits))
    return b"".join(pieces)


def refusal(url: str, limits: ReadLimits = LIMITS) -> str:
    with pytest.raises(VideoError) as caught:
        read(url, limits)
    assert caught.value.status is Status.UNREADABLE
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_file_is_read_also_where_another_address_has_it(
    server: HostileServer, tmp_path: Path
) -> None:
    assert read(server.url("fine")) == read(server.url("to-fine")) == CONTENT
    digest = fetch(server.url("fine"), tmp_path / "a", LIMITS)
    assert (digest, (tmp_path / "a").read_bytes()) == (hashlib.sha256(CONTENT).hexdigest(), CONTENT)


REASONS = {
    "to-file": "NonHttpUrlRedirect",
    "to-ftp": "NonHttpUrlRedirect",
    "to-itself": "TooManyRedirects",
    "none": "the server answers 404",
    "endless": "gives more than 1000000 bytes (max_file_bytes)",
    "says-too-much": "has 1000000000000 bytes; max_file_bytes is 1000000",
    "ends-early": "ClientPayloadError",
    "hangs-up": "ServerDisconnectedError",
    "talks-nonsense": "Bad status line",
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items(), ids=REASONS.keys())
def test_what_cannot_be_read_has_a_reason(
    server: HostileServer, tmp_path: Path, name: str, reason: str
) -> None:
    assert reason in refusal(server.url(name))
    with pytest.raises(VideoError):
        fetch(server.url(name), tmp_path / "a", LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_the_length_that_was_told_is_no_part(server: HostileServer) -> None:
    # Or all is refused: both halves may come at once.
    with suppress(VideoError):
        assert read(server.url("says-too-little")) == CONTENT


@pytest.mark.parametrize("name", ["stalls", "stalls-midway"])
def test_silence_ends_soon(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(web, "PATIENCE_SECONDS", 0.2)
    assert "imeout" in refusal(server.url(name))


@pytest.mark.parametrize("name", ["stalls", "stalls-midway", "endless", "trickles"])
def test_all_ends_at_the_deadline(server: HostileServer, name: str) -> None:
    limits = ReadLimits(max_bytes=10**12, max_seconds=0.3, allow_private_addresses=True)
    reason = refusal(server.url(name), limits)
    assert "TimeoutError" in reason or "could not be read within 0.3 seconds" in reason


def test_trickle_ends_before_the_deadline(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "PATIENCE_SECONDS", 0.2)
    assert "gave only" in refusal(server.url("trickles"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_this_machine_is_not_asked_unless_that_is_wanted(server: HostileServer, host: str) -> None:
    server.paths.clear()
    assert "--allow-private-addresses" in refusal(server.url("fine", host=host), PUBLIC_ONLY)
    assert server.paths == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_addresses_in_other_spellings_lead_nowhere(server: HostileServer, host: str) -> None:
    server.paths.clear()
    assert refusal(server.url("fine", host=host), PUBLIC_ONLY)
    assert server.paths == []


def test_redirect_to_a_private_address_is_not_followed(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing on this machine is public: one of its addresses stands in for one that is.
    monkeypatch.setattr(web, "is_public", lambda host: host == "127.0.0.1")
    assert read(server.url("fine"), PUBLIC_ONLY) == CONTENT
    server.paths.clear()
    assert "127.0.0.2 is an address" in refusal(server.url("to-private"), PUBLIC_ONLY)
    assert server.paths == ["/to-private.mp4"]


PRIVATE = (
    *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1"),
)
PUBLIC = ("93.184.216.34", "8.8.8.8", "1.1.1.1")


def wrap_in_ipv6(host: str) -> list[str]:
    """Write an address of IPv4 in each way in which IPv6 can hold it."""
    number = int(ipaddress.IPv4Address(host))
    return [
        str(ipaddress.IPv6Address(address))
        for address in (
            0xFFFF << 32 | number,  # mapped
            0x64FF9B << 96 | number,  # NAT64
            0x2002 << 112 | number << 80,  # 6to4
            0x20010000 << 96 | number ^ 0xFFFFFFFF,  # Teredo
        )
    ]


TRANSLATED = ("fec0::1", "64:ff9b:1::a00:1", "::127.0.0.1", "::ffff:0:127.0.0.1")


@pytest.mark.parametrize(
    "host", [*PRIVATE, "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", *TRANSLATED]
)
def test_addresses_that_are_not_of_the_public_network(host: str) -> None:
    assert not is_public(host)


@pytest.mark.parametrize("host", [*PUBLIC, "2606:4700:4700::1111"])
def test_addresses_of_the_public_network(host: str) -> None:
    assert is_public(host)


@given(number=st.integers(0, 2**32 - 1))
def test_address_is_as_public_as_what_it_wraps(number: int) -> None:
    host = str(ipaddress.IPv4Address(number))
    assert {is_public(wrapped) for wrapped in wrap_in_ipv6(host)} == {is_public(host)}


@pytest.mark.parametrize("host", [*PRIVATE, *PUBLIC])
def test_wrapped_address_of_the_list(host: str) -> None:
    assert {is_public(wrapped) for wrapped in wrap_in_ipv6(host)} == {host in PUBLIC}


PLACES = ("file:///etc", "memory://a", "github://a:b@c", "s3://a/b::file:///etc", "http://a/b")


@pytest.mark.parametrize("url", PLACES)
def test_only_object_stores_have_folders(url: str) -> None:
    with pytest.raises(StoreError, match="no address in an object store"):
        ObjectFolder(url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "s3://a/b::file:///etc/passwd", "data:,a"])
def test_files_of_other_places_are_not_read(url: str) -> None:
    assert "no address in an object store" in refusal(url)


def test_single_file_is_fetched_within_limits(server: HostileServer) -> None:
    with fetch_file(server.url("fine"), LIMITS) as path:
        assert path.read_bytes() == CONTENT
    with (
        pytest.raises(StoreError, match=r"--allow-private-addresses.*check the address"),
        fetch_file(server.url("fine"), PUBLIC_ONLY),
    ):
        pytest.fail("a private address was read")
