"""What the user names -> the files to score: folders, files, patterns and lists."""

import glob
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from tasks.discover import find_files


def find_inputs(
    sources: Sequence[str], *, exclude: Path | None = None, may_be_empty: bool = False
) -> list[InputFile]:
    """Every file that the sources name, once, sorted by folder and path, not yet identified.

    Args:
        sources: folders (searched through), files, patterns such as ``inbox/**/*.mp4``, and
            ``@LIST``: a text file with one path on each line, relative to the folder it lies in.
            What a list names and is not there becomes a row that says so.
        exclude: a folder of our own output.
        may_be_empty: no file at all is no error, nor is a pattern that matches nothing.

    Raises:
        SourceError: a source does not exist, matches nothing, or is a list that cannot be read; or
            there is no file at all.
    """
    found: dict[Path, InputFile] = {}
    for source in sources:
        for file in _files_of(source, exclude, may_be_empty=may_be_empty):
            found.setdefault(Path(file.root) / file.path, file)
    if not found and not may_be_empty:
        named = " ".join(sources)
        raise SourceError(f"{named} holds no files; give a folder of videos or one video")
    return sorted(found.values(), key=lambda file: (file.root, file.path))


def settled(files: Iterable[InputFile], *, seconds: float) -> list[InputFile]:
    """The files that nobody has written to for so long; the others may not be whole yet."""
    now = time.time_ns()
    # A time far in the future is that of a wrong clock: it would be waited for in vain.
    return [f for f in files if f.mtime_ns is None or abs(now - f.mtime_ns) >= seconds * 1e9]


def sampled(files: Sequence[InputFile], *, num_files: int) -> list[InputFile]:
    """So many files by chance, in order; the same ones every time."""

    def drawn(file: InputFile) -> tuple[bytes, str]:
        return hashlib.sha256(file.path.encode()).digest(), file.root

    return sorted(sorted(files, key=drawn)[:num_files], key=lambda file: (file.root, file.path))


def _files_of(source: str, exclude: Path | None, *, may_be_empty: bool) -> list[InputFile]:
    if source.startswith("@"):
        return _listed(Path(source[1:]), exclude)
    if os.path.lexists(source):
        return find_files(Path(source), exclude=exclude)
    if glob.has_magic(source):
        folder, matches = _matches(source)
        if not matches and not may_be_empty:
            raise SourceError(f"nothing matches {source}; quote the pattern and check it")
        files = [_seen_from(folder, file) for path in matches for file in find_files(path)]
        ours = exclude.resolve() if exclude else None
        return [file for file in files if ours not in (Path(file.root) / file.path).parents]
    raise SourceError(
        f"{source} does not exist; give a folder, a file, a pattern such as 'inbox/*.mp4', or @LIST"
    )


def _matches(source: str) -> tuple[Path, list[Path]]:
    """The pattern's folder and what it matches; no folders: `**` matches what lies in them, too."""
    parts = Path(source).parts
    unreal = (n for n in range(len(parts)) if not os.path.lexists(Path(*parts[: n + 1])))
    num_real = next(unreal, len(parts) - 1)
    folder, pattern = Path(*parts[:num_real]), Path(*parts[num_real:])
    if pattern.name == "**":
        pattern /= "*"
    try:
        # Not glob.glob: it follows links to folders, and never ends where two of them are loops.
        found = sorted(folder.glob(str(pattern)))
    except ValueError as error:
        raise SourceError(f"{source} is not a pattern: {error}") from error
    return folder, [path for path in found if not os.path.isdir(path)]  # noqa: PTH112 - never raises


def _seen_from(folder: Path, file: InputFile) -> InputFile:
    """The file with its path relative to the folder, if it lies there: names stay apart."""
    path, root = Path(file.root) / file.path, folder.resolve()
    if not path.is_relative_to(root):
        return file
    return replace(file, root=str(root), path=path.relative_to(root).as_posix())


def _listed(path: Path, exclude: Path | None) -> list[InputFile]:
    try:
        # Some editors begin a text with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the list {path} cannot be read: {error}") from error
    # Not splitlines, which also splits at characters that names may hold.
    lines = (line for line in text.split("\n") if line.strip())
    return [file for line in lines for file in _named(path, line, exclude)]


def _named(list_path: Path, line: str, exclude: Path | None) -> list[InputFile]:
    path = list_path.parent / line
    if os.path.lexists(path):
        found = find_files(path, exclude=exclude)
        return [_seen_from(list_path.parent, file) for file in found]
    root = str(list_path.parent.resolve())
    reason = f"{list_path.name} names it, but it is not there"
    return [InputFile(root=root, path=line, status=Status.MISSING, reason=reason)]
