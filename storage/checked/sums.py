"""SHA256SUMS: checksums of files for people, such as reports and pictures, which carry none.

The format is that of ``sha256sum``, which checks it, too: ``sha256sum --check SHA256SUMS``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from reelcheck.errors import DamagedError
from storage.atomic import write_text
from storage.hashing import sha256_of
from storage.layout import SUMS

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def write_sums(folder: Path, written: Iterable[Path]) -> None:
    """List the checksums of files that were just written; others in the list keep theirs.

    Args:
        folder: folder of the list.
        written: files below it, whose names hold no line break; missing ones are left out.
    """
    names = (path.relative_to(folder).as_posix() for path in written if path.is_file())
    sums = {**_read_sums(folder), **{name: sha256_of(folder / name) for name in names}}
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums.keys() - {SUMS}))
    write_text(folder / SUMS, text)


def list_sums(folder: Path) -> list[Path]:
    """List the files whose checksums are known."""
    return [folder / name for name in sorted(_read_sums(folder))]


def require_sum(folder: Path, path: Path) -> None:
    """Make sure that a file is as the list says.

    Raises:
        DamagedError: it is not.
    """
    listed = _read_sums(folder)[path.relative_to(folder).as_posix()]
    if not path.is_file() or sha256_of(path) != listed:
        raise DamagedError(
            f"{path} is missing, or not as {folder / SUMS} says; run the command that wrote it "
            "again"
        )


def _read_sums(folder: Path) -> dict[str, str]:
    """Read the list, name -> checksum; a line that is none of a list names the list itself."""
    if not (folder / SUMS).is_file():
        return {}
    text = (folder / SUMS).read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    found = [_LINE.fullmatch(line) for line in text.split("\n") if text]
    return {line[2] if line else SUMS: line[1] if line else "" for line in found}
