"""Objects of a store or a web server: listed, read and written.

Credentials and the address of the store come from the environment, as fsspec's packages take them
(for S3: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``).
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from reelcheck.errors import StoreError
from storage.atomic import atomic_path

_AT_ONCE = 128
"""Objects that are fetched side by side."""


@dataclass(frozen=True)
class RemoteObject:
    """What a listing says of an object."""

    name: str
    """Relative to the place, with forward slashes."""
    size_bytes: int | None
    """Web servers do not always tell."""
    mtime_ns: int | None
    """When it was written, where the store tells."""
    version: str
    """Another one after every change, as far as the store tells."""


class ObjectFolder:
    """A folder of an object store.

    Args:
        url: of any store that fsspec knows.

    Raises:
        StoreError: the store is unknown or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._told():
            self._store, self._path = fsspec.url_to_fs(url)

    def listed(self) -> list[RemoteObject]:
        """Everything below the folder, sorted by name; where it is one object, that.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        with self._told():
            self._store.invalidate_cache()
            found = self._store.find(self._path, detail=True)
        base = PurePosixPath(self._path)
        base = base.parent if list(found) == [self._path] else base
        return sorted(
            (_described(_below(name, base), facts) for name, facts in found.items()),
            key=lambda found: found.name,
        )

    def get(self, targets: Mapping[str, Path]) -> None:
        """Fetch objects into files, each of which appears whole."""
        names = sorted(targets)
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            coming = [_beside(targets[name]) for name in part]
            with self._told():
                self._store.get([self._of(name) for name in part], [str(path) for path in coming])
            for name, path in zip(part, coming, strict=True):
                path.replace(targets[name])

    def put(self, name: str, path: Path) -> None:
        """Write a file's content into an object."""
        with self._told():
            self._store.put_file(str(path), self._of(name))

    def read(self, name: str) -> bytes | None:
        """An object's content; None: there is none."""
        with self._told():
            try:
                content: bytes = self._store.cat_file(self._of(name))
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes, *, is_new: bool = False) -> bool:
        """Write an object; False: it should have been new, and was there."""
        with self._told():
            try:
                mode = "create" if is_new else "overwrite"
                self._store.pipe_file(self._of(name), content, mode=mode)
            except FileExistsError:
                return False
        return True

    def remove(self, names: list[str]) -> None:
        """Delete objects that are there."""
        if names:
            with self._told():
                self._store.rm([self._of(name) for name in names])

    def _of(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileExistsError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise StoreError(
                f"{self.url} cannot be used: {type(error).__name__}: {reason}; check the address "
                "and the credentials in the environment"
            ) from error


def fetch(url: str, target: Path) -> str:
    """Fetch one object into a file.

    Returns:
        The SHA-256 of its content.

    Raises:
        OSError: it cannot be fetched.
    """
    digest = hashlib.sha256()
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        for block in blocks_of(url):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def blocks_of(url: str) -> Iterator[bytes]:
    """The content of one object, in pieces.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with fsspec.open(url, "rb") as file:
            while block := file.read(2**20):
                yield block
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise OSError(f"cannot be fetched: {type(error).__name__}: {reason}") from error


def _described(name: str, facts: Mapping[str, Any]) -> RemoteObject:
    written = next(
        (facts[key] for key in ("LastModified", "created", "updated") if key in facts), None
    )
    mtime_ns = round(written.timestamp() * 1e9) if isinstance(written, datetime) else None
    size = facts.get("size")
    version = facts.get("ETag") or facts.get("etag") or f"{size} {mtime_ns}"
    return RemoteObject(name=name, size_bytes=size, mtime_ns=mtime_ns, version=str(version))


def _below(name: str, base: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
