"""SHA-256 of a file, which names its content."""

import hashlib
from pathlib import Path

NUM_NAME_DIGITS = 16
"""Digits in the name of a file that is named after its content, as X.DIGITS.SUFFIX."""


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_named_after_content(path: Path) -> bool:
    """Whether the content of a file is the one that it is named after."""
    return sha256_of(path)[:NUM_NAME_DIGITS] == path.stem.rpartition(".")[2]
