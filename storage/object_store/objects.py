"""List, read and write the objects of a store or a web server.

fsspec's packages take credentials and the address of the store from the environment (for S3:
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``). Of the places that fsspec
knows, only object stores are used: an address may come from a stranger, and others, such as
``file://``, lead to this machine.

S3 writes on condition (``If-Match``, ``If-None-Match``): the server itself refuses who comes too
late. fsspec has no such call for other stores: there an object is read, compared and written, and
two writers within the same moment can both succeed.
"""

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from reelcheck.errors import StoreError, VideoError
from reelcheck.locations import is_web_url
from reelcheck.reading import (
    PATIENCE_SECONDS,
    Reading,
    ReadLimits,
    describe_error,
    make_unreadable,
)
from storage.atomic import atomic_path, name_temporary

_MAX_PARALLEL = 128
"""Objects that are fetched at the same time."""
_BLOCK_BYTES = 2**20
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_S3_OPTIONS = {
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": PATIENCE_SECONDS,
        # s3fs repeats requests itself.
        "retries": {"max_attempts": 1},
    }
}


@dataclass(frozen=True)
class RemoteObject:
    """One object of a listing."""

    name: str
    """Path relative to the folder, with forward slashes."""
    size_bytes: int | None
    """None: the server does not give the size."""
    mtime_ns: int | None
    """Time of the last change in nanoseconds since 1970; None: the server does not give it."""
    version: str
    """Changes with the object, as far as the store shows its changes."""


class ObjectFolder:
    """A folder of an object store.

    Args:
        url: address in an object store.

    Raises:
        StoreError: the store is unknown or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        options = _choose_options(url)
        with self._explain_errors():
            self._store, self._path = fsspec.url_to_fs(url, **options)

    def list_objects(self) -> list[RemoteObject]:
        """List all objects below the folder, sorted by name, or the one object that the URL names.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        with self._explain_errors():
            self._store.invalidate_cache()
            facts_of = self._store.find(self._path, detail=True)
        base = PurePosixPath(self._path)
        base = base.parent if list(facts_of) == [self._path] else base
        return sorted(
            (_describe(_relate_to(base, name), facts) for name, facts in facts_of.items()),
            key=lambda described: described.name,
        )

    def get(self, targets: Mapping[str, Path]) -> None:
        """Fetch objects into files, each of which appears whole."""
        names = sorted(targets)
        for start in range(0, len(names), _MAX_PARALLEL):
            chunk = names[start : start + _MAX_PARALLEL]
            for name in chunk:
                targets[name].parent.mkdir(parents=True, exist_ok=True)
            temporary = [name_temporary(targets[name]) for name in chunk]
            with self._explain_errors():
                self._store.get([self._join(name) for name in chunk], list(map(str, temporary)))
            for name, path in zip(chunk, temporary, strict=True):
                path.replace(targets[name])

    def put(self, name: str, path: Path) -> None:
        """Write a file's content into an object."""
        with self._explain_errors():
            self._store.put_file(str(path), self._join(name))

    def put_over(self, name: str, path: Path, *, version: str | None) -> bool:
        """Write a file's content into an object that nobody else has written meanwhile.

        Args:
            name: name of the object.
            path: the file.
            version: of the object that is replaced, as listed; None: there is none yet. Only S3
                compares it, and not for files that travel in parts (above 100 MB) and replace
                an object.

        Returns:
            Whether it was written.
        """
        if not self._is_s3:
            self.put(name, path)
            return True
        condition = {"mode": "create"} if version is None else {"IfMatch": version}
        with self._explain_errors():
            return _try(self._store.put_file, str(path), self._join(name), **condition)

    def read(self, name: str) -> bytes | None:
        """Read an object's content; None: there is no such object."""
        with self._explain_errors():
            try:
                content: bytes = self._store.cat_file(self._join(name))
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        with self._explain_errors():
            self._store.pipe_file(self._join(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object; False: there is one already, of other content."""
        with self._explain_errors():
            is_new = _try(self._store.pipe_file, self._join(name), content, mode="create")
        # A request that is sent again, as its answer was lost, meets what it wrote itself.
        return is_new or self.read(name) == content

    def swap(self, name: str, old: bytes, new: bytes | None) -> bool:
        """Put new content in the place of the old; None: delete the object.

        Returns:
            Whether the new content is there; False: somebody else has changed the object.
        """
        is_done = self._replace(name, old, new)
        return is_done or (new is not None and self.read(name) == new)

    def _replace(self, name: str, old: bytes, new: bytes | None) -> bool:
        with self._explain_errors():
            self._store.invalidate_cache()
            try:
                version = self._store.info(self._join(name)).get("ETag")
            except FileNotFoundError:
                return False
        # The version is the older of the two: what was read is of it, or the condition fails.
        if self.read(name) != old:
            return False
        if self._is_s3:
            bucket, key, _ = self._store.split_path(self._join(name))
            place = {"Bucket": bucket, "Key": key, "IfMatch": version}
            method, more = ("delete_object", {}) if new is None else ("put_object", {"Body": new})
            with self._explain_errors():
                return _try(self._store.call_s3, method, **place, **more)
        if new is None:
            self.remove([name])
        else:
            self.write(name, new)
        return self.read(name) == new

    def remove(self, names: list[str]) -> None:
        """Delete objects, all of which must exist."""
        if names:
            with self._explain_errors():
                self._store.rm([self._join(name) for name in names])

    @property
    def _is_s3(self) -> bool:
        return hasattr(self._store, "call_s3")

    def _join(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise StoreError(
                f"{self.url} cannot be used: {type(error).__name__}: {reason}; check the address "
                "and the credentials in the environment"
            ) from error


def _try(request: Callable[..., object], *arguments: Any, **named: Any) -> bool:
    """Send a request that has a condition; False: the condition was not met."""
    try:
        request(*arguments, **named)
    except FileExistsError:
        return False
    except FileNotFoundError:
        if "IfMatch" in named:
            return False
        raise
    except OSError as error:
        if error.errno == errno.EINVAL and "pre-conditions" in str(error):
            return False
        raise
    return True


def fetch(url: str, target: Path, limits: ReadLimits) -> str:
    """Fetch one object, or one file of a web server, into a file.

    Returns:
        The SHA-256 of its content.

    Raises:
        VideoError: it cannot be fetched, or not within the limits.
    """
    digest = hashlib.sha256()
    try:
        with atomic_path(target, is_synced=False) as temporary, temporary.open("wb") as file:

            def take(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            read_object(url, take, Reading(limits))
    except OSError as error:
        raise make_unreadable(f"cannot be fetched: {describe_error(error)}") from error
    return digest.hexdigest()


def read_object(url: str, take: Callable[[bytes], object], reading: Reading) -> None:
    """Read one object, or one file of a web server, and hand over its content in pieces.

    Args:
        url: its address.
        take: called with each piece.
        reading: limits; those of addresses hold for web servers only, as the environment says
            where a store is.

    Raises:
        VideoError: it cannot be read, or not within the limits; pieces may have been handed over.
    """
    if is_web_url(url):
        from storage.object_store.web import read_web_file  # noqa: PLC0415 - slow; seldom wanted

        read_web_file(url, take, reading)
        return
    try:
        with fsspec.open(url, "rb", **_choose_options(url)) as file:
            reading.require_size(file.size or 0)
            while piece := file.read(_BLOCK_BYTES):
                reading.advance(len(piece))
                take(piece)
    except VideoError:
        raise
    except Exception as error:
        raise make_unreadable(f"cannot be fetched: {describe_error(error)}") from error


def _choose_options(url: str) -> dict[str, Any]:
    """Choose fsspec's options for a store.

    Raises:
        StoreError: the address is none of an object store.
    """
    scheme = url.partition("://")[0].lower()
    # fsspec would take what stands after "::" for a second address.
    if scheme not in _STORES or "::" in url:
        raise StoreError(
            f"{url} is no address in an object store; give one that begins with "
            f"{', '.join(f'{name}://' for name in _STORES)} and holds no '::'"
        )
    return _S3_OPTIONS if scheme.startswith("s3") else {}


def _describe(name: str, facts: Mapping[str, Any]) -> RemoteObject:
    written = next(
        (facts[key] for key in ("LastModified", "created", "updated") if key in facts), None
    )
    mtime_ns = round(written.timestamp() * 1e9) if isinstance(written, datetime) else None
    size = facts.get("size")
    version = facts.get("ETag") or facts.get("etag") or f"{size} {mtime_ns}"
    return RemoteObject(name=name, size_bytes=size, mtime_ns=mtime_ns, version=str(version))


def _relate_to(base: PurePosixPath, name: str) -> str:
    path = PurePosixPath(name)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
