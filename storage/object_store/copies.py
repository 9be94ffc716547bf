"""Working copies, on this machine, of folders on object storage.

All other code sees local folders only: files are downloaded before a step begins and uploaded after
it has ended. A local folder is its own copy, so the same code serves both.

Files are uploaded in the order in which they were written, so that a file which marks others as
complete comes last there, too. An object appears whole or not at all. Before each upload a run asks
whether its lease is still its own (``lease.py``): a run that another one took over from publishes
nothing more.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from reelcheck.errors import StoreError, VideoError
from reelcheck.locations import is_url
from reelcheck.reading import ReadLimits
from storage.atomic import write_text
from storage.layout import COPY_RECORD
from storage.object_store.lease import (
    LEASE,
    Lease,
    hold_lease,
    make_lost_error,
    require_lease,
)
from storage.object_store.objects import ObjectFolder, fetch
from storage.scratch import make_scratch_folder

_STAYS_HERE = {"lock", "lock.json", "unfinished", "tensorboard", "features"}
"""Files and folders that belong to a run on one machine."""


class WorkingCopy:
    """A local folder that stands for a folder at a path or URL.

    Args:
        location: path or URL of the folder.

    Attributes:
        path: the folder itself, or the copy of it.
    """

    def __init__(self, location: str | Path) -> None:
        self._remote = ObjectFolder(str(location)) if is_url(location) else None
        self.path = Path(location) if self._remote is None else _cache_folder(str(location))
        self._lease: Lease | None = None

    @property
    def lease_token(self) -> str | None:
        """Token of the lease that is held, for tasks that write there; None: a local folder."""
        return None if self._lease is None else self._lease.token

    def pull(self, *, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Make the copy equal to the original.

        Args:
            wanted: whether the file of a name is needed; other files are neither fetched nor
                removed.
        """
        if self._remote is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        objects = self._remote.list_objects()
        remote = {o.name: o for o in objects if _is_shared(o.name) and wanted(o.name)}
        local, record = self._list_files(), self._read_record()
        stale = {
            name
            for name, found in remote.items()
            if name not in local or record.get(name) != [found.version, *local[name]]
        }
        for name in local.keys() - remote.keys():
            if wanted(name):
                (self.path / name).unlink()
        self._remote.get({name: self.path / name for name in stale})
        for name in stale:
            if (mtime_ns := remote[name].mtime_ns) is not None:
                os.utime(self.path / name, ns=(mtime_ns, mtime_ns))
        kept = {name: entry for name, entry in record.items() if not wanted(name)}
        self._write_record({name: found.version for name, found in remote.items()}, kept)

    def push(self) -> None:
        """Make the original equal to the copy; files go in the order in which they were written.

        Raises:
            StoreError: another run has taken over; what is not yet uploaded stays here.
        """
        if self._remote is None:
            return
        if self._lease is None:
            raise RuntimeError("only the holder of the lease uploads")
        local, record = self._list_files(), self._read_record()
        changed = [name for name in local if record.get(name, [None])[1:] != [*local[name]]]
        gone = [name for name in record if name not in local]
        if gone:
            self._lease.require_held()
            self._remote.remove(gone)
        for name in sorted(changed, key=lambda name: (local[name][1], name)):
            self._lease.require_held()
            version = record.get(name, [None])[0]
            if not self._remote.put_over(name, self.path / name, version=version):
                raise make_lost_error(self._remote)
        if changed or gone:
            versions = {found.name: found.version for found in self._remote.list_objects()}
            kept = {name: entry for name, entry in record.items() if name in local}
            self._write_record({n: versions[n] for n in changed if n in versions}, kept)

    @contextmanager
    def hold_lease(self) -> Iterator[None]:
        """Hold the only right to write to the original, until the block ends."""
        if self._remote is None:
            yield
            return
        with hold_lease(self._remote) as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def hold_lock(self) -> AbstractContextManager[object]:
        """Keep other processes of this machine from changing the copy, until the block ends."""
        if self._remote is None:
            return nullcontext()
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_name(f"{self.path.name}.lock"))

    def _list_files(self) -> dict[str, tuple[int, int]]:
        """List the files that both sides may have: name -> size and time of the last change."""
        paths = (path for path in self.path.rglob("*") if path.is_file())
        named = {path.relative_to(self.path).as_posix(): path.stat() for path in paths}
        return {n: (info.st_size, info.st_mtime_ns) for n, info in named.items() if _is_shared(n)}

    def _read_record(self) -> dict[str, list[Any]]:
        """Read which files were equal on both sides after the last pull or push."""
        try:
            record: dict[str, list[Any]] = json.loads((self.path / COPY_RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return record

    def _write_record(self, versions: Mapping[str, str], kept: Mapping[str, list[Any]]) -> None:
        local = self._list_files()
        same = {name: [version, *local[name]] for name, version in versions.items()}
        write_text(self.path / COPY_RECORD, json.dumps({**kept, **same}))


@contextmanager
def open_for_reading(
    location: str | Path, *, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Path]:
    """Give a local folder to read from.

    Args:
        location: path or URL of the folder.
        wanted: whether the file of a name, relative to the folder, is needed.
    """
    copy = WorkingCopy(location)
    with copy.hold_lock():
        copy.pull(wanted=wanted)
    yield copy.path


@contextmanager
def open_for_writing(
    location: str | Path, *, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[WorkingCopy]:
    """Give a local folder to read from and write to; upload the changes when the block ends.

    After an exception nothing is uploaded: the original stays unchanged.

    Args:
        location: path or URL of the folder.
        wanted: whether the file of a name, relative to the folder, is needed.

    Raises:
        StoreError: another run is writing to the folder.
    """
    copy = WorkingCopy(location)
    with copy.hold_lease(), copy.hold_lock():
        copy.pull(wanted=wanted)
        yield copy
        copy.push()


@contextmanager
def open_output_folder(
    location: str | Path, *, lease_token: str | None, marker: str | None = None
) -> Iterator[Path]:
    """Give an empty local folder whose files are uploaded; a local output folder is given itself.

    For tasks that write their own files beside those of others: nothing is fetched, nothing locked.

    Args:
        location: path or URL of the output folder.
        lease_token: the lease that the run, of which the task is a part, holds on the folder; None:
            there is none, as for a local folder.
        marker: name of the file that marks the others as complete; an earlier marker is removed
            before the upload. None: each file is complete by itself.

    Raises:
        StoreError: another run has taken over from the run of the lease.
    """
    if not is_url(location):
        yield Path(location)
        return
    remote = ObjectFolder(str(location))

    def require_own_lease() -> None:
        if lease_token is not None:
            require_lease(remote, lease_token)

    require_own_lease()  # else all the work would be for nothing
    with make_scratch_folder() as folder:
        yield folder
        require_own_lease()
        if marker is not None and remote.read(marker) is not None:
            remote.remove([marker])
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            require_own_lease()
            remote.put(path.relative_to(folder).as_posix(), path)


@contextmanager
def fetch_file(location: str | Path, limits: ReadLimits) -> Iterator[Path]:
    """Give a local file to read from, under its own name; a fetched file goes with the block.

    Args:
        location: path or URL of the file.
        limits: for what is fetched.

    Raises:
        StoreError: the file cannot be fetched.
    """
    if not is_url(location):
        yield Path(location)
        return
    with make_scratch_folder() as folder:
        path = folder / PurePosixPath(location).name
        try:
            fetch(str(location), path, limits)
        except VideoError as error:
            raise StoreError(f"{location} {error.reason}; check the address") from error
        yield path


def _cache_folder(url: str) -> Path:
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return user_cache_path("reelcheck") / "places" / name


def _is_shared(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not (
        name == LEASE
        or ".." in parts
        or any(part in _STAYS_HERE or part.startswith(".") for part in parts)
    )
