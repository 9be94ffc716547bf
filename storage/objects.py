"""Folders of an object store, worked on through copies on this machine.

All other code sees local folders only: files are fetched before a step begins and go up when it has
ended. A folder of this machine is its own copy, so there is one way for both.

- Files go up in the order in which they were written: what says that others are complete comes
  last there, too. An object appears whole or not at all.
- One run at a time writes to a place. Its lease is an object that it renews; that of a run that was
  killed runs out.
- Credentials and the address of the store come from the environment, as fsspec's packages take
  them (for S3: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``).
"""

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from filelock import FileLock
from platformdirs import user_cache_path

from reelcheck.errors import StoreError
from reelcheck.places import is_url
from storage.atomic import atomic_path, write_text
from storage.scratch import scratch_folder

LEASE_SECONDS = 300.0
"""A lease that was not renewed for so long belongs to a run that is dead."""
_RECORD = ".objects.json"
_LEASE = "in_use.json"
_STAYS_HERE = {"lock", "lock.json", "unfinished", "tensorboard"}
"""Files and folders that belong to a run on one machine."""
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


class WorkingCopy:
    """A folder of this machine that stands for a place.

    Attributes:
        path: the folder itself, or the copy of it.
    """

    def __init__(self, place: str | Path) -> None:
        self._remote = ObjectFolder(str(place)) if is_url(place) else None
        self.path = Path(place) if self._remote is None else _cache_folder(str(place))

    def pull(self, *, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Make the copy what the place is.

        Args:
            wanted: by name; other files are neither fetched nor removed.
        """
        if self._remote is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        found = {o.name: o for o in self._remote.listed() if _is_shared(o.name) and wanted(o.name)}
        here, record = self._here(), self._record()
        stale = {
            name
            for name, there in found.items()
            if name not in here or record.get(name) != [there.version, *here[name]]
        }
        for name in here.keys() - found.keys():
            if wanted(name):
                (self.path / name).unlink()
        self._remote.get({name: self.path / name for name in stale})
        for name in stale:
            if (mtime_ns := found[name].mtime_ns) is not None:
                os.utime(self.path / name, ns=(mtime_ns, mtime_ns))
        kept = {name: entry for name, entry in record.items() if not wanted(name)}
        self._write_record({name: there.version for name, there in found.items()}, kept)

    def push(self) -> None:
        """Make the place what the copy is, in the order in which files were written."""
        if self._remote is None:
            return
        here, record = self._here(), self._record()
        changed = [name for name in here if record.get(name, [None])[1:] != [*here[name]]]
        self._remote.remove([name for name in record if name not in here])
        for name in sorted(changed, key=lambda name: (here[name][1], name)):
            self._remote.put(name, self.path / name)
        if changed or record.keys() - here.keys():
            versions = {there.name: there.version for there in self._remote.listed()}
            kept = {name: entry for name, entry in record.items() if name in here}
            self._write_record({n: versions[n] for n in changed if n in versions}, kept)

    def leased(self) -> AbstractContextManager[None]:
        """The only right to write to the place, until the block ends."""
        return nullcontext() if self._remote is None else _lease(self._remote)

    def locked(self) -> AbstractContextManager[object]:
        """Nobody else on this machine changes the copy until the block ends."""
        if self._remote is None:
            return nullcontext()
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_name(f"{self.path.name}.lock"))

    def _here(self) -> dict[str, tuple[int, int]]:
        """Size and time of the files that both sides have."""
        paths = (path for path in self.path.rglob("*") if path.is_file())
        named = {path.relative_to(self.path).as_posix(): path.stat() for path in paths}
        return {n: (info.st_size, info.st_mtime_ns) for n, info in named.items() if _is_shared(n)}

    def _record(self) -> dict[str, list[Any]]:
        """What was the same on both sides after the last pull or push."""
        try:
            record: dict[str, list[Any]] = json.loads((self.path / _RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return record

    def _write_record(self, versions: Mapping[str, str], kept: Mapping[str, list[Any]]) -> None:
        here = self._here()
        same = {name: [version, *here[name]] for name, version in versions.items()}
        write_text(self.path / _RECORD, json.dumps({**kept, **same}))


@contextmanager
def reading(
    place: str | Path, *, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Path]:
    """A folder to read from.

    Args:
        place: path or URL.
        wanted: files that are needed, by name relative to the place.
    """
    copy = WorkingCopy(place)
    with copy.locked():
        copy.pull(wanted=wanted)
    yield copy.path


@contextmanager
def writing(
    place: str | Path, *, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[WorkingCopy]:
    """A folder to read from and write to; what has changed goes up when the block ends.

    Not so after an exception: then the place stays as it was.

    Args:
        place: path or URL.
        wanted: files that are needed, by name relative to the place.

    Raises:
        StoreError: another run is writing there.
    """
    copy = WorkingCopy(place)
    with copy.leased(), copy.locked():
        copy.pull(wanted=wanted)
        yield copy
        copy.push()


@contextmanager
def output_folder(place: str | Path, *, marker: str | None = None) -> Iterator[Path]:
    """An empty folder for new files of a place, or the place itself on this machine.

    For tasks that write files of their own beside others: nothing is fetched, nobody is kept out.

    Args:
        place: path or URL.
        marker: name of the file that says that the others are complete; an earlier one is removed
            before they go up. None: each is complete by itself.
    """
    if not is_url(place):
        yield Path(place)
        return
    remote = ObjectFolder(str(place))
    with scratch_folder() as folder:
        yield folder
        if marker is not None and remote.read(marker) is not None:
            remote.remove([marker])
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            remote.put(path.relative_to(folder).as_posix(), path)


@contextmanager
def reading_file(place: str | Path) -> Iterator[Path]:
    """A single file to read from, under its own name.

    Raises:
        StoreError: it cannot be fetched.
    """
    if not is_url(place):
        yield Path(place)
        return
    with scratch_folder() as folder:
        path = folder / PurePosixPath(place).name
        try:
            fetch(str(place), path)
        except OSError as error:
            raise StoreError(f"{place} {error}; check the address") from error
        yield path


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


@contextmanager
def _lease(remote: ObjectFolder) -> Iterator[None]:
    token = secrets.token_hex(8)
    holder = {"token": token, "host": socket.gethostname(), "pid": os.getpid()}

    def content() -> bytes:
        return json.dumps({**holder, "until": time.time() + LEASE_SECONDS}).encode()

    if not remote.write(_LEASE, content(), is_new=True):
        _require_ended(remote)
        remote.write(_LEASE, content())
        if json.loads(remote.read(_LEASE) or b"{}").get("token") != token:
            _require_ended(remote)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            with suppress(StoreError):  # the next time may do
                remote.write(_LEASE, content())

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        remote.remove([_LEASE])


def _require_ended(remote: ObjectFolder) -> None:
    lease = json.loads(remote.read(_LEASE) or b"{}")
    if lease.get("until", 0.0) < time.time():
        return
    until = datetime.fromtimestamp(lease["until"], UTC).isoformat(timespec="seconds")
    raise StoreError(
        f"{remote.url} is in use by another run (process {lease['pid']} on {lease['host']}); wait "
        f"until it has ended. If it was killed, its lease runs out at {until}"
    )


def _cache_folder(url: str) -> Path:
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return user_cache_path("reelcheck") / "places" / name


def _is_shared(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not (
        name == _LEASE
        or ".." in parts
        or any(part in _STAYS_HERE or part.startswith(".") for part in parts)
    )


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
