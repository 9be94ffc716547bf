"""Find every file under a source and name its content.

- Every file becomes a row, also those that are no videos: nothing is lost without a word.
- The content is hashed once; as with make and rsync, a file with the same size and modification
  time as last time is taken to be the same.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reelcheck.config import DatasetLayout
from reelcheck.errors import SettingsError, SourceError
from reelcheck.places import is_url, joined
from reelcheck.progress import progress_bar
from reelcheck.records import InputFile, Shard
from reelcheck.status import FAILURES, RETRIED, Status
from storage.hashing import sha256_of
from storage.layout import StoreLayout
from storage.objects import blocks_of
from storage.schemas import VIDEO_RESULTS, VIDEOS
from storage.tables import Row, read_rows
from tasks.labels import label_files
from tasks.layouts import label_by_layout
from tasks.remote import find_objects

HashContents = Callable[[Sequence[InputFile]], list[InputFile]]
"""Gives the files in their order with the hashes of their contents."""


@dataclass(frozen=True)
class KnownResult:
    """What one finished shard says of one content."""

    shard: str
    row: Row
    """Of ``VIDEO_RESULTS``."""


def discover(
    source: str | Path,
    layout: StoreLayout,
    *,
    labels: Path | None,
    exclude: Path | None,
    dataset_layout: DatasetLayout | None = None,
    hashed: HashContents | None = None,
) -> list[InputFile]:
    """All files under ``source`` (or the one file it is), identified and labelled.

    Args:
        source: folder, file or URL.
        layout: where an earlier run's table may tell content hashes.
        labels: labels table; None: labels come from folder names.
        exclude: a folder of our own output, to be skipped when it lies inside the source.
        dataset_layout: public data set whose layout tells the labels instead.
        hashed: see ``identify``.

    Raises:
        SettingsError: both a labels table and a layout.
        SourceError: the source does not exist or holds no file; a labels table is unusable, or the
            files do not fit the layout.
    """
    if labels is not None and dataset_layout is not None:
        raise SettingsError(
            f"labels come from {labels} or from the layout {dataset_layout}, not from both; leave "
            "out --labels or --layout"
        )
    found = _found(source, exclude)
    if not found:
        raise SourceError(f"{source} holds no files; give a folder of videos or one video")
    # Labels first: a wrong table must not cost hours of hashing.
    if dataset_layout is not None:
        files = label_by_layout(found, dataset_layout)
    else:
        files = label_files(found, labels, is_complete=is_whole_folder(source, found))
    known = read_rows(layout.videos_path, VIDEOS) if layout.videos_path.exists() else []
    return identify(files, known, hashed=hashed)


def _found(source: str | Path, exclude: Path | None) -> list[InputFile]:
    if is_url(source):
        return find_objects(str(source))
    folder = Path(source)
    if exclude is not None and exclude.resolve() == folder.resolve():
        raise SourceError(f"{source} cannot be both the source and the output; give another folder")
    return find_files(folder, exclude=exclude)


def identify(
    files: Sequence[InputFile], known: Iterable[Row], *, hashed: HashContents | None = None
) -> list[InputFile]:
    """The files with the hashes of their contents.

    Args:
        files: as found.
        known: rows of an earlier run's table with root, path, size_bytes, mtime_ns and video_id.
        hashed: what reads those that are not known; None: this process.
    """
    # A web server tells no times: what it sends may be another video each time.
    known_ids = {_version_of(row): row["video_id"] for row in known if row["mtime_ns"] is not None}
    found = [replace(file, video_id=known_ids.get(_version_of(asdict(file)))) for file in files]
    unread = [file for file in found if file.video_id is None and file.status is None]
    read = iter((hashed or _hashed_here)(unread))
    return [next(read) if file.video_id is None and file.status is None else file for file in found]


def _hashed_here(files: Sequence[InputFile]) -> list[InputFile]:
    with progress_bar(total=len(files), description="identify", unit="files") as bar:
        identified = []
        for file in files:
            identified.append(hash_contents([file])[0])
            bar.update(1)
    return identified


def hash_contents(files: Sequence[InputFile]) -> list[InputFile]:
    """Read every file and name its content; one that cannot be read says so."""
    return [_identified(file) for file in files]


def find_files(source: Path, *, exclude: Path | None = None) -> list[InputFile]:
    """Every file under a folder, or the file itself, sorted by path, not yet identified.

    Links to folders are not followed, so a loop of links ends nowhere.

    Raises:
        SourceError: the source does not exist.
    """
    if source.is_dir():
        root = source.resolve()
        paths = _walk(root, exclude.resolve() if exclude else None)
    elif source.exists() or source.is_symlink():  # a broken link becomes a row
        root = source.parent.resolve()
        paths = [root / source.name]
    else:
        raise SourceError(f"{source} does not exist; give a folder of videos or one video")
    return [_describe(root, path) for path in sorted(paths)]


def is_whole_folder(source: str | Path, files: Sequence[InputFile]) -> bool:
    """Whether the files found under a source are all of their folder, not the one file it is."""
    if not is_url(source):
        return Path(source).is_dir()
    return files[0].root == str(source).rstrip("/")


def contents_of(files: Iterable[InputFile]) -> dict[str, str]:
    """Video id -> one path of each content that can be opened, sorted by id."""
    paths: dict[str, str] = {}
    for file in files:
        if file.video_id is not None and file.status is None:
            paths.setdefault(file.video_id, joined(file.root, file.path))
    return dict(sorted(paths.items()))


def _version_of(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("root", "path", "size_bytes", "mtime_ns"))


def plan_shards(
    files: Iterable[InputFile],
    layout: StoreLayout,
    *,
    shard_size: int,
    retry_failed: bool = False,
) -> tuple[Shard, ...]:
    """Shards of the contents that are still to be processed; the same files, the same shards.

    These are the contents that no finished shard holds, those of which it says nothing about the
    video itself (``RETRIED``), and with ``retry_failed`` those that failed (``FAILURES``).
    """
    again = RETRIED | FAILURES if retry_failed else RETRIED
    done = {
        video_id
        for video_id, known in known_results(layout).items()
        if known.row["status"] not in again
    }
    todo = {key: path for key, path in contents_of(files).items() if key not in done}
    return shards_of(todo, shard_size=shard_size)


def shards_of(paths: Mapping[str, str], *, shard_size: int) -> tuple[Shard, ...]:
    """Shards of contents.

    Args:
        paths: video id -> one path of the content.
        shard_size: contents of each.
    """
    items = sorted(paths.items())
    parts = [items[start : start + shard_size] for start in range(0, len(items), shard_size)]
    return tuple(_shard(part, f"{n}/{len(parts)}") for n, part in enumerate(parts, start=1))


def known_results(layout: StoreLayout) -> dict[str, KnownResult]:
    """Video id -> what is known of it.

    Where several shards hold a video, a result wins over a failure, and the newer failure over the
    older.
    """
    results: dict[str, KnownResult] = {}
    for shard in _oldest_first(layout):
        for row in read_rows(layout.shard_videos_path(shard), VIDEO_RESULTS):
            known = results.get(row["video_id"])
            if known is None or known.row["status"] in RETRIED | FAILURES:
                results[row["video_id"]] = KnownResult(shard, row)
    return results


def _oldest_first(layout: StoreLayout) -> list[str]:
    def age(shard: str) -> tuple[int, str]:
        return layout.shard_videos_path(shard).stat().st_mtime_ns, shard

    return sorted(layout.done_shards(), key=age)


def _shard(items: Sequence[tuple[str, str]], position: str) -> Shard:
    ids = "\n".join(video_id for video_id, _ in items)
    return Shard(
        # Named after its contents: no two different shards share a name.
        name=hashlib.sha256(ids.encode()).hexdigest()[:16],
        position=position,
        video_ids=tuple(video_id for video_id, _ in items),
        paths=tuple(path for _, path in items),
    )


def _walk(folder: Path, exclude: Path | None) -> list[Path]:
    found = []
    unopened: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unopened.append):
        # Links to folders are not followed; each is a row that says so.
        names += [name for name in folders if (Path(parent) / name).is_symlink()]
        if exclude is not None:
            folders[:] = [name for name in folders if Path(parent) / name != exclude]
        found += [Path(parent) / name for name in names]
    # A folder that cannot be opened becomes a row itself: what is in it is not known.
    return found + [Path(error.filename) for error in unopened]


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
    return replace(file, size_bytes=info.st_size, mtime_ns=info.st_mtime_ns)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identified(file: InputFile) -> InputFile:
    try:
        return replace(file, video_id=_content_hash(joined(file.root, file.path)))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}" if error.strerror else str(error)
        return replace(file, status=Status.UNREADABLE, reason=reason)


def _content_hash(location: str) -> str:
    if not is_url(location):
        return sha256_of(Path(location))
    digest = hashlib.sha256()
    for block in blocks_of(location):
        digest.update(block)
    return digest.hexdigest()
