"""SHA-256 of a file, which names its content."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
