"""Names of folders, one on each line, and below them a checksum: small files for people, too."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from reelcheck.errors import DamagedError, StoreError
from storage.atomic import write_text


def write_names(path: Path, names: Sequence[str]) -> None:
    """Write names without line breaks, atomically."""
    text = "".join(f"{name}\n" for name in names)
    write_text(path, text + _make_last_line(text))


def read_names(path: Path) -> list[str]:
    """Read names; a missing file holds none.

    Raises:
        DamagedError: the file is not as it was written.
        StoreError: a name leads out of the folder that it is looked for in.
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
    names = body.splitlines()
    for name in names:
        if name in {".", ".."} or "/" in name or "\0" in name:
            raise StoreError(
                f"{path} names {name!r}, which is no folder in the registry; promote a version: "
                "reelcheck models promote"
            )
    return names


def _make_last_line(text: str) -> str:
    return f"# checksum {zlib.crc32(text.encode()):08x}\n"
