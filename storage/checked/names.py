"""Names, one on each line, and below them a checksum: small files that people read, too."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from reelcheck.errors import DamagedError
from storage.atomic import write_text


def write_names(path: Path, names: Sequence[str]) -> None:
    """Write names without white space, atomically."""
    text = "".join(f"{name}\n" for name in names)
    write_text(path, text + _make_last_line(text))


def read_names(path: Path) -> list[str]:
    """Read names; a missing file holds none.

    Raises:
        DamagedError: the file is not as it was written.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    text = content.decode(errors="replace")
    body = text[: text.rfind("#")] if "#" in text else ""
    if content != (body + _make_last_line(body)).encode():
        raise DamagedError(
            f"{path} is not as it was written; delete it and choose again: reelcheck models promote"
        )
    return body.split()


def _make_last_line(text: str) -> str:
    return f"# checksum {zlib.crc32(text.encode()):08x}\n"
