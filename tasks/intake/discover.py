"""Find every file under a source and name its content.

- Every file becomes a row, also a file that is no video: nothing is lost silently.
- The content is hashed once: a file with the same size and times as last time is taken to be the
  same. Its ``ctime_ns`` cannot be set back by a user who may write to the file, so that no other
  content gets the answer of an earlier one.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from reelcheck.config import DatasetLayout, RunSettings
from reelcheck.errors import SourceError, StoreError
from reelcheck.locations import FileRow, is_url, is_web_url
from reelcheck.records import InputFile
from reelcheck.status import RETRIED, Status
from storage.layout import StoreLayout
from storage.object_store.objects import ObjectFolder
from storage.refusals import require_one_kind_of_labels, require_source
from storage.schemas import VIDEOS
from storage.tables import read_rows
from tasks.intake.contents import hash_here
from tasks.intake.dataset_layouts import label_by_layout
from tasks.intake.labels import label_files

_VersionColumn = Literal["root", "path", "size_bytes", "mtime_ns", "ctime_ns"]
HashFiles = Callable[[Sequence[InputFile]], list[InputFile]]
"""Gives the files in their order with the hashes of their contents."""


_VERSION: tuple[_VersionColumn, ...] = ("root", "path", "size_bytes", "mtime_ns", "ctime_ns")


class KnownFileRow(FileRow):
    """What an earlier run's table says of a file: its content, and when it had that content."""

    video_id: str | None
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    status: str


def discover(
    source: str | Path,
    layout: StoreLayout,
    *,
    labels: Path | None,
    exclude: Path | None,
    dataset_layout: DatasetLayout | None = None,
    hash_files: HashFiles | None = None,
) -> list[InputFile]:
    """Find all files under ``source`` (or the one file it is), identify and label them.

    Args:
        source: folder, file or URL.
        layout: the store, whose table of an earlier run may hold content hashes.
        labels: labels table; None: labels come from folder names.
        exclude: a folder of our own output, to be skipped when it lies inside the source.
        dataset_layout: public data set whose layout gives the labels instead.
        hash_files: see ``identify``.

    Raises:
        SettingsError: both a labels table and a layout.
        SourceError: the source does not exist or holds no file; a labels table is unusable, or the
            files do not fit the layout.
    """
    require_one_kind_of_labels(labels, dataset_layout)
    found = find_files(source, exclude=exclude)
    if not found:
        raise SourceError(f"{source} holds no files; give a folder of videos or one video")
    # Labels first: a wrong table must not cost hours of hashing.
    if dataset_layout is not None:
        files = label_by_layout(found, dataset_layout)
    else:
        files = label_files(found, labels, is_complete=is_whole_folder(source, found))
    known = read_rows(layout.videos_path, VIDEOS) if layout.videos_path.exists() else []
    return identify(files, known, hash_files=hash_files)


def identify(
    files: Sequence[InputFile],
    known: Iterable[KnownFileRow],
    *,
    hash_files: HashFiles | None = None,
) -> list[InputFile]:
    """Add the hashes of their contents to the files.

    Args:
        files: as found.
        known: rows of an earlier run's table.
        hash_files: reads the files that are not known; None: this process does, within the
            default limits.
    """
    # A web server gives no times: what it sends may be another video each time. A file that could
    # not be read may have been another one already when its id was found.
    known_ids = {
        tuple(row[name] for name in _VERSION): row["video_id"]
        for row in known
        if row["mtime_ns"] is not None and row["status"] not in RETRIED
    }
    known_files = [
        file
        if file.status is not None
        else replace(file, video_id=known_ids.get(tuple(getattr(file, n) for n in _VERSION)))
        for file in files
    ]
    unread = [file for file in known_files if file.video_id is None and file.status is None]
    hashed = iter((hash_files or partial(hash_here, run=RunSettings()))(unread))
    return [
        next(hashed) if file.video_id is None and file.status is None else file
        for file in known_files
    ]


def find_files(source: str | Path, *, exclude: Path | None = None) -> list[InputFile]:
    """Find every file under a folder or a URL, or the one it names: sorted, not yet identified.

    Links to folders are not followed, so a loop of links does no harm. Objects stay where they are:
    a decode process fetches each object when its turn comes, so a machine needs disk space for one
    video per process, and machines need no common disk.

    Args:
        source: folder, file, URL in an object store, or URL of one file of a web server;
            credentials come from the environment, as fsspec's packages take them.
        exclude: a folder of our own output, to be skipped when it lies inside the source.

    Raises:
        SourceError: the source does not exist or is the folder to exclude; the object store is
            unknown, needs another package, or holds nothing under that URL; a URL of a web server
            names no file.
    """
    require_source(source)
    if is_url(source):
        return _find_objects(str(source))
    folder = Path(source)
    if exclude is not None and exclude.resolve() == folder.resolve():
        raise SourceError(f"{source} cannot be both the source and the output; give another folder")
    if folder.is_dir():
        root = folder.resolve()
        paths = _walk(root, exclude.resolve() if exclude else None)
    else:  # also a broken link, which becomes a row
        root = folder.parent.resolve()
        paths = [root / folder.name]
    return [_describe(root, path) for path in sorted(paths)]


def _find_objects(url: str) -> list[InputFile]:
    if is_web_url(url):
        return [_name_web_file(url)]
    try:
        objects = ObjectFolder(url).list_objects()
    except StoreError as error:
        raise SourceError(str(error)) from error
    if not objects:
        raise SourceError(f"{url} names no object that can be read; check the address")
    root = url.rstrip("/")
    if len(objects) == 1 and root.endswith(f"/{objects[0].name}"):
        root = root.removesuffix(f"/{objects[0].name}")
    return [
        InputFile(
            root=root,
            path=found.name,
            size_bytes=found.size_bytes,
            mtime_ns=found.mtime_ns,
        )
        for found in objects
    ]


def _name_web_file(url: str) -> InputFile:
    """Name the one file of a web address; nothing is asked of the server yet."""
    root, _, name = url.rpartition("/")
    if not name or root.endswith(":/"):
        raise SourceError(
            f"{url} names no file: a web server's folders are not searched; give the address of "
            "each file"
        )
    return InputFile(root=root, path=name)


def is_whole_folder(source: str | Path, files: Sequence[InputFile]) -> bool:
    """Whether a source is a whole folder, and not the one file that was found."""
    if not is_url(source):
        return Path(source).is_dir()
    return files[0].root == str(source).rstrip("/")


def _walk(folder: Path, exclude: Path | None) -> list[Path]:
    paths = []
    unopened: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unopened.append):
        # Links to folders are not followed; each is a row that says so.
        names += [name for name in folders if (Path(parent) / name).is_symlink()]
        if exclude is not None:
            folders[:] = [name for name in folders if Path(parent) / name != exclude]
        paths += [Path(parent) / name for name in names]
    # A folder that cannot be opened becomes a row itself: its files are not known.
    return paths + [Path(error.filename) for error in unopened]


def _describe(root: Path, path: Path) -> InputFile:
    name = path.relative_to(root).as_posix()
    if not _is_utf8(name):
        shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        reason = "the file name is not valid UTF-8; rename the file"
        return InputFile(root=str(root), path=shown, status=Status.UNREADABLE, reason=reason)
    file = InputFile(root=str(root), path=name)
    try:
        info = path.stat()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return replace(file, status=Status.UNREADABLE, reason=reason)
    if stat.S_ISDIR(info.st_mode):
        is_link = path.is_symlink()
        reason = "a link to a folder, not followed" if is_link else "the folder cannot be opened"
        return replace(file, status=Status.UNREADABLE, reason=reason)
    if not stat.S_ISREG(info.st_mode):
        return replace(file, status=Status.UNREADABLE, reason="not a regular file")
    file = replace(
        file, size_bytes=info.st_size, mtime_ns=info.st_mtime_ns, ctime_ns=info.st_ctime_ns
    )
    if info.st_size == 0:
        # Not opened: in /proc, files of this size can be read without end.
        return replace(file, status=Status.UNSUPPORTED, reason="empty file (0 bytes)")
    return file


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
