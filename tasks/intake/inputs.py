"""Folders, files, patterns and lists that a user names -> the files to score."""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.refusals import require_input
from tasks.intake.discover import find_files


def find_inputs(
    sources: Sequence[str], *, exclude: Path | None = None, may_be_empty: bool = False
) -> list[InputFile]:
    """Find every file that the sources name, once: sorted by folder and path, not yet identified.

    Args:
        sources: folders (searched through), files, patterns such as ``inbox/**/*.mp4``, and
            ``@LIST``: a text file with one path on each line, relative to the folder it lies in.
            A path of the list without a file becomes a row with the status missing.
        exclude: a folder of our own output.
        may_be_empty: no file at all is no error, nor is a pattern that matches nothing.

    Raises:
        SourceError: a source does not exist, matches nothing, or is a list that cannot be read; or
            there is no file at all.
    """
    files: dict[str, InputFile] = {}
    for source in sources:
        for file in _find_source(source, exclude, may_be_empty=may_be_empty):
            files.setdefault(file.location, file)
    if not files and not may_be_empty:
        named = " ".join(sources)
        raise SourceError(f"{named} holds no files; give a folder of videos or one video")
    return sorted(files.values(), key=lambda file: (file.root, file.path))


def keep_settled(files: Iterable[InputFile], *, seconds: float) -> list[InputFile]:
    """Keep the files that nobody has written to for this long; the others may be incomplete."""
    now = time.time_ns()
    # A time far in the future comes from a wrong clock: waiting for it would never end.
    return [f for f in files if f.mtime_ns is None or abs(now - f.mtime_ns) >= seconds * 1e9]


def sample_files(files: Sequence[InputFile], *, num_files: int) -> list[InputFile]:
    """Draw ``num_files`` files at random, sorted; the same files are drawn every time."""

    def hash_path(file: InputFile) -> tuple[bytes, str]:
        return hashlib.sha256(file.path.encode()).digest(), file.root

    drawn = sorted(files, key=hash_path)[:num_files]
    return sorted(drawn, key=lambda file: (file.root, file.path))


def _find_source(source: str, exclude: Path | None, *, may_be_empty: bool) -> list[InputFile]:
    require_input(source)
    if source.startswith("@"):
        return _read_list(Path(source[1:]), exclude)
    if os.path.lexists(source):
        return find_files(Path(source), exclude=exclude)
    folder, matches = _match_pattern(source)
    if not matches and not may_be_empty:
        raise SourceError(f"nothing matches {source}; quote the pattern and check it")
    files = [_relate_to(folder, file) for path in matches for file in find_files(path)]
    ours = exclude.resolve() if exclude else None
    return [file for file in files if ours not in Path(file.location).parents]


def _match_pattern(source: str) -> tuple[Path, list[Path]]:
    """Find the pattern's folder and the files that match; ``**`` also matches files in folders."""
    parts = Path(source).parts
    absent = (n for n in range(len(parts)) if not os.path.lexists(Path(*parts[: n + 1])))
    num_present = next(absent, len(parts) - 1)
    folder, pattern = Path(*parts[:num_present]), Path(*parts[num_present:])
    if pattern.name == "**":
        pattern /= "*"
    try:
        # Not glob.glob, which follows links to folders: with two loops of links it never ends.
        paths = sorted(folder.glob(str(pattern)))
    except ValueError as error:
        raise SourceError(f"{source} is not a pattern: {error}") from error
    return folder, [path for path in paths if not os.path.isdir(path)]  # noqa: PTH112 - never raises


def _relate_to(folder: Path, file: InputFile) -> InputFile:
    """Write the file's path relative to the folder if it lies in there, so that paths differ."""
    path, root = Path(file.location), folder.resolve()
    if not path.is_relative_to(root):
        return file
    return replace(file, root=str(root), path=path.relative_to(root).as_posix())


def _read_list(path: Path, exclude: Path | None) -> list[InputFile]:
    try:
        # Some editors begin a text with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the list {path} cannot be read: {error}") from error
    # Not splitlines, which also splits at characters that names may hold.
    lines = (line for line in text.split("\n") if line.strip())
    return [file for line in lines for file in _find_line(path, line, exclude)]


def _find_line(list_path: Path, line: str, exclude: Path | None) -> list[InputFile]:
    path = list_path.parent / line
    if os.path.lexists(path):
        files = find_files(path, exclude=exclude)
        return [_relate_to(list_path.parent, file) for file in files]
    root = str(list_path.parent.resolve())
    reason = f"{list_path.name} names it, but it is not there"
    return [InputFile(root=root, path=line, status=Status.MISSING, reason=reason)]
