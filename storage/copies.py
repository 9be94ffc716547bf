"""Folders of an object store, worked on through copies on this machine.

All other code sees local folders only: files are fetched before a step begins and go up when it has
ended. A folder of this machine is its own copy, so there is one way for both.

Files go up in the order in which they were written: what says that others are complete comes last
there, too. An object appears whole or not at all.
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

from reelcheck.errors import StoreError
from reelcheck.places import is_url
from storage.atomic import write_text
from storage.lease import LEASE, leased
from storage.objects import ObjectFolder, fetch
from storage.scratch import scratch_folder

_RECORD = ".objects.json"
_STAYS_HERE = {"lock", "lock.json", "unfinished", "tensorboard"}
"""Files and folders that belong to a run on one machine."""


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
        return nullcontext() if self._remote is None else leased(self._remote)

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
