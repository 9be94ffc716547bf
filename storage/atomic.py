"""Files appear whole or not at all: write beside the target, then rename over it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it over the target on success.

    The temporary name is hidden and unique, so that a crash leaves only a file that nothing reads
    and two writers cannot mix. On an exception the temporary file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Delete what killed processes left; only for a folder that nobody else writes to."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file's content atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
