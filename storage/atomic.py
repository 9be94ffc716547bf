"""Write files that appear whole or not at all: beside the target first, then renamed."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename the file to the target on success.

    The temporary name is hidden and unique: a crash leaves only a file that nobody reads, and two
    writers cannot disturb each other. After an exception the temporary file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files of killed processes, in a folder without other writers."""
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
