"""Folder of videos -> the same videos in one profile, so that files no longer tell the labels.

What the profile is and why: ``tasks/faces/reencode.py``. Decoding happens in child processes only.
Paths stay as they are but for the ending, so that folder names and layouts still tell labels. Files
that are no videos are not copied: take tables such as ``metadata.json`` along by hand.
"""

import errno
import json
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import pebble

from reelcheck.config import NormaliseSettings, RunSettings
from reelcheck.cores import available_cores
from reelcheck.errors import SourceError, VideoError, WorkerError
from reelcheck.progress import video_progress
from reelcheck.records import InputFile
from reelcheck.settings import settings_hash
from reelcheck.status import FAILURES, RETRIED, Status
from storage.atomic import remove_temporaries
from storage.lock import run_lock
from storage.outputs import NormalisedLayout
from storage.schemas import NORMALISED
from storage.tables import Row, read_csv, write_csv
from tasks.discover import find_files, identify
from tasks.faces.reencode import Reencoded, reencode
from tasks.faces.worker import limit_process

_Job: TypeAlias = tuple[Path, Path, NormaliseSettings]
_Result: TypeAlias = Future[Reencoded]
_START_SECONDS = 120.0
"""Beyond its deadline, what a video may take: the time that a process needs to start."""
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""What ends the run, because it would meet all other videos, too."""


def normalise(
    source: Path,
    out: Path,
    settings: NormaliseSettings,
    run: RunSettings,
    *,
    retry_failed: bool = False,
) -> dict[str, int]:
    """Write every video of a folder in one profile; a second run does what is missing.

    Args:
        source: folder of videos, searched through.
        out: folder to write to: the videos and, last, ``normalised.csv``.
        settings: the profile.
        run: processes, deadline of a video, memory of a process; the decoder is PyAV's.
        retry_failed: try failed videos again, too.

    Returns:
        Number of files per status.

    Raises:
        SourceError: no such folder, nothing in it, or one that the output would be written over.
        StoreError: another run is writing there, or the table there is damaged.
        WorkerError: decode processes cannot start.
        OSError: the output cannot be written.
    """
    _require_apart(source, out)
    found = find_files(source, exclude=out)
    if not found:
        raise SourceError(f"{source} holds no files; give a folder of videos")
    layout = NormalisedLayout(out.absolute())
    profile = settings_hash(settings)
    with run_lock(layout):
        known = _known(layout)
        files = identify(found, [{**row, "root": found[0].root} for row in known.values()])
        targets = target_names([file.path for file in files])
        again = RETRIED | FAILURES if retry_failed else RETRIED
        rows = {
            file.path: row
            for file in files
            if (row := known.get(file.path)) is not None
            and row["video_id"] == file.video_id
            and row["profile"] == profile
            and _still_holds(row, targets[file.path], layout, again=again)
        }
        todo = [file for file in files if file.path not in rows]
        with closing(_outcomes(todo, targets, layout, settings, run)) as outcomes:
            for file, outcome in outcomes:
                row = _row(file, outcome, targets[file.path], profile)
                if row["out"] is None:  # what an earlier content of that name gave
                    (layout.path / targets[file.path]).unlink(missing_ok=True)
                _note(row, layout)
                rows[file.path] = row
        write_csv(layout.table_path, [rows[file.path] for file in files], NORMALISED)
        layout.unfinished_path.unlink(missing_ok=True)
    return dict(sorted(Counter(str(row["status"]) for row in rows.values()).items()))


def target_names(paths: Iterable[str]) -> dict[str, str]:
    """Path -> path of the MP4 file made of it; no two the same.

    ``a.mov`` becomes ``a.mp4``, unless another file would, too: then it keeps its old ending and
    becomes ``a.mov.mp4``.
    """
    ordered = sorted(paths)
    wanted = {path: str(PurePosixPath(path).with_suffix(".mp4")) for path in ordered}
    num_wanting = Counter(wanted.values())
    names = {path: path for path in ordered if wanted[path] == path}
    taken = set(names) | {str(folder) for path in ordered for folder in PurePosixPath(path).parents}
    for path in ordered:
        if path in names:
            continue
        name = wanted[path] if num_wanting[wanted[path]] == 1 else f"{path}.mp4"
        while name in taken:
            name = f"{name}.mp4"
        names[path] = name
        taken.add(name)
    return names


def _require_apart(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise SourceError(f"{source} is no folder; give a folder of videos")
    if source.resolve().is_relative_to(out.resolve()):
        raise SourceError(f"{out} holds the source {source}; give another folder for the output")


def _known(layout: NormalisedLayout) -> dict[str, Row]:
    """Path -> what earlier runs say of that file, finished and unfinished."""
    rows = read_csv(layout.table_path, NORMALISED) if layout.table_path.exists() else []
    if layout.unfinished_path.exists():
        for line in layout.unfinished_path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):  # a run was killed as it wrote this one
                rows.append(json.loads(line))
    return {row["path"]: row for row in rows}


def _note(row: Row, layout: NormalisedLayout) -> None:
    with layout.unfinished_path.open("a", encoding="utf-8") as file:
        # On a line of its own, even after one that a killed run did not end.
        file.write("\n" + json.dumps(row))


def _still_holds(
    row: Row, target: str, layout: NormalisedLayout, *, again: frozenset[Status]
) -> bool:
    if row["status"] == Status.OK:
        return bool(row["out"] == target and (layout.path / target).exists())
    return row["status"] not in again


def _outcomes(
    files: Sequence[InputFile],
    targets: Mapping[str, str],
    layout: NormalisedLayout,
    settings: NormaliseSettings,
    run: RunSettings,
) -> Generator[tuple[InputFile, Reencoded | VideoError]]:
    """What becomes of each file, as it comes.

    Raises:
        WorkerError: decode processes cannot start.
        OSError: the output cannot be written.
    """
    with video_progress(total=len(files), description="normalise") as advance:
        for file in files:
            if file.status is not None:
                advance(0)
                yield file, VideoError(file.status, file.reason or "")
        jobs = {
            file: (Path(file.root) / file.path, layout.path / targets[file.path], settings)
            for file in files
            if file.status is None
        }
        if jobs:
            folders = {target.parent for _, target, _ in jobs.values()}
            _clean(folders)
            try:
                with closing(_worked_off(jobs, run)) as worked_off:
                    for file, outcome in worked_off:
                        advance(outcome.num_frames if isinstance(outcome, Reencoded) else 0)
                        yield file, outcome
            finally:
                _clean(folders)


def _clean(folders: Iterable[Path]) -> None:
    """Delete what killed processes left."""
    for folder in folders:
        remove_temporaries(folder)


def _worked_off(
    jobs: Mapping[InputFile, _Job], run: RunSettings
) -> Generator[tuple[InputFile, Reencoded | VideoError]]:
    num_workers = min(run.num_workers or available_cores(), len(jobs))
    pool = pebble.ProcessPool(
        max_workers=num_workers,
        initializer=limit_process,
        initargs=(run.max_memory_bytes, os.getpid()),
        context=multiprocessing.get_context("spawn"),
    )
    left = deque(jobs.items())
    given: dict[_Result, InputFile] = {}
    try:
        while left or given:
            while left and len(given) < 2 * num_workers:
                file, job = left.popleft()
                given[pool.schedule(reencode, args=job, timeout=run.timeout_seconds)] = file
            patience = run.timeout_seconds + _START_SECONDS
            done, _ = wait(given, patience, return_when=FIRST_COMPLETED)
            if not done:
                raise _cannot_start(run)
            for future in done:
                yield given.pop(future), _outcome(future, run)
    finally:
        pool.stop()
        pool.join()


def _outcome(future: _Result, run: RunSettings) -> Reencoded | VideoError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        raise _cannot_start(run) from error
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FutureTimeoutError):
        reason = f"gave up after {run.timeout_seconds:g} seconds"
        return VideoError(Status.TIMEOUT, reason)
    if isinstance(error, MemoryError):
        reason = "needed more memory than a decode process may use"
        return VideoError(Status.OUT_OF_MEMORY, reason)
    if isinstance(error, pebble.ProcessExpired):
        # Linux kills with SIGKILL what takes too much of the machine's memory.
        was_killed = error.exitcode == -signal.SIGKILL
        status = Status.OUT_OF_MEMORY if was_killed else Status.DECODE_ERROR
        return VideoError(status, f"the decode process died (exit code {error.exitcode})")
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        raise error
    return VideoError(Status.INTERNAL_ERROR, f"{type(error).__name__}: {error}")


def _cannot_start(run: RunSettings) -> WorkerError:
    return WorkerError(
        "decode processes give no sign of life; give them more memory (max_memory_bytes is "
        f"{run.max_memory_bytes})"
    )


def _row(file: InputFile, outcome: Reencoded | VideoError, target: str, profile: str) -> Row:
    is_written = isinstance(outcome, Reencoded)
    return {
        "path": file.path,
        "status": str(Status.OK if isinstance(outcome, Reencoded) else outcome.status),
        "reason": outcome.remark if isinstance(outcome, Reencoded) else outcome.reason,
        "out": target if is_written else None,
        "video_id": file.video_id,
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "profile": profile,
    }
