"""One run at a time writes to a place of an object store.

The right is an object that its holder renews; that of a run that was killed runs out.
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
from storage.objects import ObjectFolder

LEASE = "in_use.json"
"""Name of the object."""
LEASE_SECONDS = 300.0
"""A lease that was not renewed for so long belongs to a run that is dead."""


@contextmanager
def leased(remote: ObjectFolder) -> Iterator[None]:
    """Hold the only right to write to the place, until the block ends.

    Raises:
        StoreError: another run holds it; the message says which.
    """
    token = secrets.token_hex(8)
    holder = {"token": token, "host": socket.gethostname(), "pid": os.getpid()}

    def content() -> bytes:
        return json.dumps({**holder, "until": time.time() + LEASE_SECONDS}).encode()

    if not remote.write(LEASE, content(), is_new=True):
        _require_ended(remote)
        remote.write(LEASE, content())
        if json.loads(remote.read(LEASE) or b"{}").get("token") != token:
            _require_ended(remote)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            with suppress(StoreError):  # the next time may do
                remote.write(LEASE, content())

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
