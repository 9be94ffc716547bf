"""A lock: one run at a time may write to a folder.

The operating system holds the lock for the process and releases it when the process ends, however
it ends. The file that names the holder is for people only.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from reelcheck.errors import StoreError
from storage.atomic import write_text
from storage.outputs import LockedFolder


@contextmanager
def hold_run_lock(folder: LockedFolder) -> Iterator[None]:
    """Hold the only right to write to one preprocessing of a store, or to one output folder.

    Raises:
        StoreError: another run holds the lock; the message names the run.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.lock_path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(
            f"{folder.path} is in use by another run{_describe_holder(folder.lock_holder_path)}; "
            "wait until it has ended, or write to another folder"
        ) from None
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(folder.lock_holder_path, json.dumps(holder) + "\n")
        yield
    finally:
        folder.lock_holder_path.unlink(missing_ok=True)
        lock.release()


def _describe_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, LookupError):
        return ""  # the run has just begun or just ended
