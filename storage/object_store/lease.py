"""A lease: one run at a time may write to a folder on object storage.

The lease is an object that its holder renews. The lease of a killed run expires. A run that stalled
(a suspended laptop, a stopped process) may wake up when its lease has expired and another run has
taken over: so the lease names its holder by a token, only the holder's own lease is renewed or
removed, and before everything that is published the holder asks whether the lease is still its own.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from reelcheck.errors import StoreError
from storage.object_store.objects import ObjectFolder

LEASE = "in_use.json"
"""Name of the object."""
LEASE_SECONDS = 300.0
"""A lease that was not renewed for this time belongs to a run that has ended."""


class Lease:
    """The right to write to a folder, as its holder sees it; made by ``hold_lease``.

    Attributes:
        token: names this holding of the lease; tasks on other machines get it and check it.
    """

    def __init__(self, remote: ObjectFolder) -> None:
        self.token = secrets.token_hex(8)
        self._remote = remote
        self._guard = threading.Lock()  # one thread renews, another checks
        self._renewed_at = _read_clocks()
        self._content = self._make_content()

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            StoreError: another run holds it; the message names the run.
        """
        while not self._remote.create(LEASE, self._content):
            if (found := self._remote.read(LEASE)) is None:
                continue  # it was released just now
            _require_ended(self._remote, found)
            if self._remote.swap(LEASE, found, self._content):
                return

    def renew(self) -> bool:
        """Renew the lease; False: it is no longer this holder's.

        Raises:
            StoreError: the store cannot be asked.
        """
        # Before the request, as the time that the request takes counts, too.
        clocks, content = _read_clocks(), self._make_content()
        if not self._replace_own(content):
            return False
        self._renewed_at = clocks
        return True

    def require_held(self) -> None:
        """Make sure that no other run can have written; call it before anything is published.

        A lease that should have expired meanwhile is renewed first, as long as nobody took it.

        Raises:
            StoreError: another run has taken over, or the store cannot be asked.
        """
        if _measure_seconds_since(self._renewed_at) < LEASE_SECONDS / 2:
            require_lease(self._remote, self.token)
        elif not self.renew():
            raise make_lost_error(self._remote)

    def release(self) -> None:
        """Remove the lease, unless it is another's by now."""
        self._replace_own(None)

    def _replace_own(self, content: bytes | None) -> bool:
        with self._guard:
            is_done = self._remote.swap(LEASE, self._content, content)
            if not is_done and (found := self._remote.read(LEASE)) is not None:
                # The answer to an earlier request may have been lost: it is this holder's, still.
                is_own = _parse(self._remote, found)["token"] == self.token
                is_done = is_own and self._remote.swap(LEASE, found, content)
            if is_done and content is not None:
                self._content = content
            return is_done

    def _make_content(self) -> bytes:
        holder = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps({**holder, "until": time.time() + LEASE_SECONDS}).encode()


@contextmanager
def hold_lease(remote: ObjectFolder) -> Iterator[Lease]:
    """Hold the only right to write to a folder, until the block ends.

    Raises:
        StoreError: another run holds the lease; the message names the run.
    """
    lease = Lease(remote)
    lease.acquire()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            with suppress(StoreError):  # the next attempt comes in time
                if not lease.renew():
                    return  # the next check says so

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        with suppress(StoreError):  # it runs out by itself
            lease.release()


def require_lease(remote: ObjectFolder, token: str) -> None:
    """Make sure that the lease of a folder is still the one with this token.

    Raises:
        StoreError: it is not, or the store cannot be asked.
    """
    found = remote.read(LEASE)
    if found is None or _parse(remote, found).get("token") != token:
        raise make_lost_error(remote)


def make_lost_error(remote: ObjectFolder) -> StoreError:
    """Make the error of a run whose lease went to another run."""
    return StoreError(
        f"another run took over {remote.url} while this one stood still or was cut off; this one "
        "publishes nothing more: run again when the other has ended"
    )


def _require_ended(remote: ObjectFolder, found: bytes) -> None:
    lease = _parse(remote, found)
    if lease["until"] < time.time():
        return
    until = datetime.fromtimestamp(lease["until"], UTC).isoformat(timespec="seconds")
    raise StoreError(
        f"{remote.url} is in use by another run (process {lease['pid']} on {lease['host']}); wait "
        f"until it has ended. If it was killed, its lease runs out at {until}"
    )


def _parse(remote: ObjectFolder, found: bytes) -> dict[str, Any]:
    try:
        lease: dict[str, Any] = json.loads(found)
        datetime.fromtimestamp(lease["until"], UTC)
        if {"token", "host", "pid"} <= lease.keys():
            return lease
    except (ValueError, TypeError, LookupError, OverflowError, OSError):
        pass
    raise StoreError(
        f"{remote.url}/{LEASE} is no lease that a run has written; if no run writes there, delete "
        "it and run again"
    )


def _read_clocks() -> tuple[float, float]:
    """Read a clock that goes on while the machine sleeps, and the clock on the wall, in seconds.

    Linux's monotonic clock stops in sleep, CLOCK_BOOTTIME does not; other systems lack it, and
    there the clock on the wall shows the sleep.
    """
    steady = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(steady), time.time()


def _measure_seconds_since(then: tuple[float, float]) -> float:
    """Measure the time since both clocks were read; the larger, if they do not agree."""
    return max(now - before for now, before in zip(_read_clocks(), then, strict=True))
