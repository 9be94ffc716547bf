"""Read input files, which may be hostile: within limits, and one content from first byte to last.

- Only regular files are opened, and never more is read than their size, which is 0 for the files of
  ``/proc``.
- A file that another one takes the place of, or that is written to, is told: what is decoded is
  what was hashed.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeAlias

from reelcheck.errors import VideoError
from reelcheck.status import Status

_BLOCK_BYTES = 2**18
PATIENCE_SECONDS = 30.0
"""Time in which an input may give nothing."""
_MIN_BYTES_PER_SECOND = 50_000
"""An input that stays slower, apart from the patience, is given up: so a short one is soon."""
_TICK_SECONDS = 0.02
"""More than the time between two ticks of Linux's clock for files, 1 to 10 ms."""
_Version: TypeAlias = tuple[int, ...]
_OPEN_FLAGS = os.O_RDONLY | sum(
    # Without waiting for the writer of a pipe. Not every system has every flag.
    getattr(os, name, 0)
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
)


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """How much may be read of one input, how long that may take, and from where."""

    max_bytes: int
    max_seconds: float
    allow_private_addresses: bool = False
    """Whether a URL may lead to this machine or into its network."""


class Reading:
    """How far the reading of one input has come. It begins when it is made."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self.num_bytes = 0
        self._started = time.monotonic()

    def require_size(self, num_bytes: int) -> None:
        """Refuse an input that is too large, before it is read.

        Raises:
            VideoError: it is.
        """
        if num_bytes > self.limits.max_bytes:
            raise make_unreadable(
                f"has {num_bytes} bytes; max_file_bytes is {self.limits.max_bytes}"
            )

    def advance(self, num_bytes: int) -> None:
        """Count bytes that have come.

        Raises:
            VideoError: these are too many, or came too slowly.
        """
        self.num_bytes += num_bytes
        if self.num_bytes > self.limits.max_bytes:
            raise make_unreadable(f"gives more than {self.limits.max_bytes} bytes (max_file_bytes)")
        if (reason := self.describe_delay()) is not None:
            raise make_unreadable(reason)

    def describe_delay(self, *, grace_seconds: float = 0.0) -> str | None:
        """Say why the reading has taken too long; None: it has not."""
        spent = time.monotonic() - self._started - grace_seconds
        if spent > self.limits.max_seconds:
            return f"could not be read within {self.limits.max_seconds:g} seconds"
        if spent > PATIENCE_SECONDS + self.num_bytes / _MIN_BYTES_PER_SECOND:
            return f"gave only {self.num_bytes} bytes in {spent:.0f} seconds"
        return None


def make_unreadable(reason: str) -> VideoError:
    """Make the error of an input that cannot be read."""
    return VideoError(Status.UNREADABLE, reason)


def describe_error(error: BaseException) -> str:
    """Describe an error of the network in one line, which is never empty."""
    text = " ".join(str(error).split())[:200]
    if isinstance(error, TimeoutError):
        text = text or "no answer in time"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _make_change_error() -> VideoError:
    return make_unreadable("changed while it was read; run again")


def open_regular(path: Path) -> FileIO:
    """Open a regular file, without waiting; nothing else is read.

    Raises:
        VideoError: it cannot be opened, or is something else.
    """
    try:
        # To open some devices is to start them, so look first, and again at what was opened.
        _require_regular(path.stat())
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise make_unreadable(f"cannot be read: {error.strerror}") from error
    try:
        _require_regular(os.fstat(descriptor))
        return FileIO(descriptor, "r")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise make_unreadable("not a regular file")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Read a small regular file.

    Raises:
        VideoError: it cannot be read, is something else, or is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise make_unreadable(f"has {size} bytes; {max_bytes} at most are read")
        return file.read(size) or b""


def hash_file(path: Path, reading: Reading) -> str:
    """Compute the SHA-256 of a regular file's content, as hexadecimal digits.

    Raises:
        VideoError: it cannot be read within the limits, is no regular file, or has changed
            meanwhile.
    """
    with open_regular(path) as file:
        return _hash_open_file(file, reading)[0]


@contextmanager
def hold_content(path: Path, video_id: str, limits: ReadLimits) -> Iterator[Path]:
    """Give a path that leads to a proved content, until the block ends.

    The file is opened once and hashed; on Linux each further opening of the given path is one of
    this same file, whatever is put in its place. That it was not written to meanwhile is told by
    its times at the end: an ordinary user cannot set back the time of a file's last change of any
    kind (``st_ctime_ns``). Who has the file mapped into memory can write without a sign there.

    Args:
        path: the file.
        video_id: SHA-256 that the content must have.
        limits: of the reading.

    Raises:
        VideoError: the file cannot be read, holds something else, or has changed meanwhile; then
            nothing of it must be used.
    """
    with open_regular(path) as file:
        digest, version = _hash_open_file(file, Reading(limits))
        if digest != video_id:
            raise _make_change_error()
        held = Path(f"/proc/self/fd/{file.fileno()}")
        if not held.exists():  # another system
            held = path
        try:
            yield held
        finally:
            if not _is_version(held, version):
                raise _make_change_error()


def _hash_open_file(file: FileIO, reading: Reading) -> tuple[str, _Version]:
    """Compute the hash of the content, and the version of the file that has it."""
    info = _wait_for_tick(file)
    reading.require_size(info.st_size)
    digest, remaining = hashlib.sha256(), info.st_size
    buffer = memoryview(bytearray(min(_BLOCK_BYTES, info.st_size)))
    try:
        while remaining and (num_bytes := file.readinto(buffer[:remaining])):
            digest.update(buffer[:num_bytes])
            remaining -= num_bytes
            reading.advance(num_bytes)
    except OSError as error:
        raise make_unreadable(f"cannot be read: {error.strerror}") from error
    version = _describe_version(info)
    if _describe_version(os.fstat(file.fileno())) != version:
        raise _make_change_error()
    if remaining:
        raise make_unreadable(f"gave {info.st_size - remaining} bytes of {info.st_size}")
    return digest.hexdigest(), version


def _wait_for_tick(file: FileIO) -> os.stat_result:
    """Wait until the next change of a file will have another time than the last one had."""
    info = os.fstat(file.fileno())
    if 0 <= time.time_ns() - info.st_ctime_ns < _TICK_SECONDS * 1e9:
        time.sleep(_TICK_SECONDS)
        info = os.fstat(file.fileno())
    return info


def _describe_version(info: os.stat_result) -> _Version:
    """Describe which file this is, and its last change."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _is_version(path: Path, version: _Version) -> bool:
    try:
        return _describe_version(path.stat()) == version
    except OSError:
        return False
