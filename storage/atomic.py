"""Write files that appear whole or not at all: beside the target first, then renamed.

What is written is on the disk before it gets its name, and the name before the call returns, so
that a file which marks others as complete never outlives them when the power fails. That costs
about 10 ms per file (``benchmarks/fsync.py``): answers, of which there are many and each of which
says by itself whether it is whole, go without.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DAMAGED = ".damaged"


def name_temporary(target: Path) -> Path:
    """Name a hidden file beside the target, which ``remove_temporaries`` knows."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def atomic_path(target: Path, *, is_synced: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename the file to the target on success.

    The temporary name is hidden and unique: a crash leaves only a file that nobody reads, and two
    writers cannot disturb each other. After an exception the temporary file is removed.

    Args:
        target: the file.
        is_synced: wait until file and name are on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(target)
    try:
        yield temporary
        if is_synced:
            _sync(temporary, os.O_RDWR)
        temporary.replace(target)
        if is_synced and sys.platform != "win32":  # which has no such thing for folders
            _sync(target.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files of killed processes, in a folder without other writers."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def write_text(target: Path, text: str, *, is_synced: bool = True) -> None:
    """Write UTF-8 text atomically; for ``is_synced`` see ``atomic_path``."""
    write_bytes(target, text.encode(), is_synced=is_synced)


def write_bytes(target: Path, content: bytes, *, is_synced: bool = True) -> None:
    """Write a file's content atomically; for ``is_synced`` see ``atomic_path``."""
    with atomic_path(target, is_synced=is_synced) as temporary:
        temporary.write_bytes(content)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it counts as missing and can still be looked at.

    Returns:
        Its new path; an earlier file of that name is replaced.
    """
    return path.replace(path.with_name(path.name + _DAMAGED))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
