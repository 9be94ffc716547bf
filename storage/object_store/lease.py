"""A lease: one run at a time may write to a folder on object storage.

The lease is an object that its holder renews. The lease of a killed run expires.
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

from reelcheck.errors import StoreError
from storage.object_store.objects import ObjectFolder

LEASE = "in_use.json"
"""Name of the object."""
LEASE_SECONDS = 300.0
"""A lease that was not renewed for this time belongs to a run that has ended."""


@contextmanager
def hold_lease(remote: ObjectFolder) -> Iterator[None]:
    """Hold the only right to write to a folder, until the block ends.

    Raises:
        StoreError: another run holds the lease; the message names the run.
    """
    token = secrets.token_hex(8)
    holder = {"token": token, "host": socket.gethostname(), "pid": os.getpid()}

    def make_lease() -> bytes:
        return json.dumps({**holder, "until": time.time() + LEASE_SECONDS}).encode()

    if not remote.write(LEASE, make_lease(), is_new=True):
        _require_ended(remote)
        remote.write(LEASE, make_lease())
        if json.loads(remote.read(LEASE) or b"{}").get("token") != token:
            _require_ended(remote)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            with suppress(StoreError):  # the next attempt comes in time
                remote.write(LEASE, make_lease())

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        remote.remove([LEASE])


def _require_ended(remote: ObjectFolder) -> None:
    lease = json.loads(remote.read(LEASE) or b"{}")
    if lease.get("until", 0.0) < time.time():
        return
    until = datetime.fromtimestamp(lease["until"], UTC).isoformat(timespec="seconds")
    raise StoreError(
        f"{remote.url} is in use by another run (process {lease['pid']} on {lease['host']}); wait "
        f"until it has ended. If it was killed, its lease runs out at {until}"
    )
