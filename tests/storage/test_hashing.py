"""The name of a content."""

import hashlib
from pathlib import Path

import pytest

from storage.hashing import sha256_of


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3_000_000)])
def test_sha256_of_a_file_is_that_of_hashlib(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()
