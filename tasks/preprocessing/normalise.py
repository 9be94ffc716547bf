"""Folder of videos -> the same videos in one profile, so that files no longer tell the labels.

``tasks/faces/decoding/reencode.py`` describes the profile and its reasons. Only child processes
decode. Paths change in their ending only, so that folder names and layouts still give the labels.
Files that are no videos are not copied: copy tables such as ``metadata.json`` by hand.
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
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import pebble

from reelcheck.config import NormaliseSettings, RunSettings
from reelcheck.errors import SourceError, VideoError, WorkerError
from reelcheck.processes import count_cores
from reelcheck.progress import show_video_progress
from reelcheck.reading import ReadLimits
from reelcheck.records import InputFile
from reelcheck.settings import settings_hash
from reelcheck.status import FAILURES, RETRIED, Status
from storage.atomic import remove_temporaries
from storage.lock import hold_run_lock
from storage.outputs import NormalisedLayout
from storage.refusals import require_folder_apart
from storage.rows import NormalisedRow
from storage.schemas import NORMALISED
from storage.tables import read_csv, write_csv
from tasks.faces.apart import START_SECONDS
from tasks.faces.decoding.reencode import Reencoded
from tasks.faces.worker import limit_process, reencode_one
from tasks.intake.contents import hash_here
from tasks.intake.discover import KnownFileRow, find_files, identify

_Job: TypeAlias = tuple[Path, str, Path, NormaliseSettings, ReadLimits]
_Result: TypeAlias = Future[Reencoded]
_Outcome: TypeAlias = Reencoded | VideoError
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Error numbers that end the run, because all other videos would meet the same error."""


def normalise(
    source: Path,
    out: Path,
    settings: NormaliseSettings,
    run: RunSettings,
    *,
    retry_failed: bool = False,
) -> dict[str, int]:
    """Write every video of a folder in one profile; a second run makes those that are missing.

    Args:
        source: folder of videos, searched through.
        out: folder to write to: the videos and, last, ``normalised.csv``.
        settings: the profile.
        run: processes, deadline of a video, memory of a process; the decoder is PyAV's.
        retry_failed: try failed videos again, too.

    Returns:
        Number of files per status.

    Raises:
        SourceError: there is no such folder, it is empty, or it lies inside the output.
        StoreError: another run is writing to the output, or the table there is damaged.
        WorkerError: decode processes cannot start.
        OSError: the output cannot be written.
    """
    require_folder_apart(source, out)
    files = find_files(source, exclude=out)
    if not files:
        raise SourceError(f"{source} holds no files; give a folder of videos")
    layout = NormalisedLayout(out.absolute())
    profile = settings_hash(settings)
    with hold_run_lock(layout):
        known = _read_known(layout)
        files = identify(
            files,
            [_describe_known(row, files[0].root) for row in known.values()],
            hash_files=partial(hash_here, run=run),
        )
        targets = target_names([file.path for file in files])
        again = RETRIED | FAILURES if retry_failed else RETRIED
        rows = {
            file.path: row
            for file in files
            if (row := known.get(file.path)) is not None
            and row["video_id"] == file.video_id
            and row["profile"] == profile
            and _is_done(row, targets[file.path], layout, again=again)
        }
        todo = [file for file in files if file.path not in rows]
        with closing(_normalise_files(todo, targets, layout, settings, run)) as outcomes:
            for file, outcome in outcomes:
                row = _make_row(file, outcome, targets[file.path], profile)
                if row["out"] is None:  # remove the result of an earlier content of that name
                    (layout.path / targets[file.path]).unlink(missing_ok=True)
                _append_row(row, layout)
                rows[file.path] = row
        write_csv(layout.table_path, [rows[file.path] for file in files], NORMALISED)
        layout.unfinished_path.unlink(missing_ok=True)
    return dict(sorted(Counter(str(row["status"]) for row in rows.values()).items()))


def target_names(paths: Iterable[str]) -> dict[str, str]:
    """Choose a different name for the MP4 file of each path.

    ``a.mov`` becomes ``a.mp4``; if another file wants that name, it becomes ``a.mov.mp4``.
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


def _read_known(layout: NormalisedLayout) -> dict[str, NormalisedRow]:
    """Read the rows of earlier runs, finished and unfinished: path -> row."""
    rows = read_csv(layout.table_path, NORMALISED) if layout.table_path.exists() else []
    if layout.unfinished_path.exists():
        for line in layout.unfinished_path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):  # a run was killed as it wrote this line
                rows.append(json.loads(line))
    return {row["path"]: row for row in rows}


def _describe_known(row: NormalisedRow, root: str) -> KnownFileRow:
    return {
        "root": root,
        "path": row["path"],
        "video_id": row["video_id"],
        "size_bytes": row["size_bytes"],
        "mtime_ns": row["mtime_ns"],
        "ctime_ns": row["ctime_ns"],
        "status": row["status"],
    }


def _append_row(row: NormalisedRow, layout: NormalisedLayout) -> None:
    with layout.unfinished_path.open("a", encoding="utf-8") as file:
        # The line break comes first, because a killed run may have left a line without its end.
        file.write("\n" + json.dumps(row))


def _is_done(
    row: NormalisedRow, target: str, layout: NormalisedLayout, *, again: frozenset[Status]
) -> bool:
    if row["status"] == Status.OK:
        return bool(row["out"] == target and (layout.path / target).exists())
    return row["status"] not in again


def _normalise_files(
    files: Sequence[InputFile],
    targets: Mapping[str, str],
    layout: NormalisedLayout,
    settings: NormaliseSettings,
    run: RunSettings,
) -> Generator[tuple[InputFile, _Outcome]]:
    """Yield each file with its outcome as soon as it is there.

    Raises:
        WorkerError: decode processes cannot start.
        OSError: the output cannot be written.
    """
    with show_video_progress(total=len(files), description="normalise") as advance:
        for file in files:
            if file.status is not None:
                advance(0)
                yield file, VideoError(file.status, file.reason or "")
        jobs = {
            file: (
                Path(file.location),
                file.video_id,
                layout.path / targets[file.path],
                settings,
                run.read_limits,
            )
            for file in files
            if file.status is None and file.video_id is not None
        }
        if jobs:
            folders = {target.parent for _, _, target, *_ in jobs.values()}
            _remove_leftovers(folders)
            try:
                with closing(_run_jobs(jobs, run)) as outcomes:
                    for file, outcome in outcomes:
                        advance(outcome.num_frames if isinstance(outcome, Reencoded) else 0)
                        yield file, outcome
            finally:
                _remove_leftovers(folders)


def _remove_leftovers(folders: Iterable[Path]) -> None:
    """Delete the unfinished files of killed processes."""
    for folder in folders:
        remove_temporaries(folder)


def _run_jobs(
    jobs: Mapping[InputFile, _Job], run: RunSettings
) -> Generator[tuple[InputFile, _Outcome]]:
    num_workers = min(run.num_workers or count_cores(), len(jobs))
    pool = pebble.ProcessPool(
        max_workers=num_workers,
        initializer=limit_process,
        initargs=(run.max_memory_bytes, os.getpid()),
        context=multiprocessing.get_context("spawn"),
    )
    waiting = deque(jobs.items())
    scheduled: dict[_Result, InputFile] = {}
    try:
        while waiting or scheduled:
            while waiting and len(scheduled) < 2 * num_workers:
                file, job = waiting.popleft()
                scheduled[pool.schedule(reencode_one, args=job, timeout=run.timeout_seconds)] = file
            patience = run.timeout_seconds + START_SECONDS
            done, _ = wait(scheduled, patience, return_when=FIRST_COMPLETED)
            if not done:
                raise _make_start_error(run)
            for future in done:
                yield scheduled.pop(future), _take_outcome(future, run)
    finally:
        pool.stop()
        pool.join()


def _take_outcome(future: _Result, run: RunSettings) -> _Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        raise _make_start_error(run) from error
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FutureTimeoutError):
        reason = f"gave up after {run.timeout_seconds:g} seconds"
        return VideoError(Status.TIMEOUT, reason)
    if isinstance(error, MemoryError):
        reason = "needed more memory than a decode process may use"
        return VideoError(Status.OUT_OF_MEMORY, reason)
    if isinstance(error, pebble.ProcessExpired):
        # Linux kills a process with SIGKILL if it takes too much of the machine's memory.
        was_killed = error.exitcode == -signal.SIGKILL
        status = Status.OUT_OF_MEMORY if was_killed else Status.DECODE_ERROR
        return VideoError(status, f"the decode process died (exit code {error.exitcode})")
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        raise error
    return VideoError(Status.INTERNAL_ERROR, f"{type(error).__name__}: {error}")


def _make_start_error(run: RunSettings) -> WorkerError:
    return WorkerError(
        "decode processes do not answer; give them more memory (max_memory_bytes is "
        f"{run.max_memory_bytes})"
    )


def _make_row(file: InputFile, outcome: _Outcome, target: str, profile: str) -> NormalisedRow:
    is_written = isinstance(outcome, Reencoded)
    return {
        "path": file.path,
        "status": str(Status.OK if isinstance(outcome, Reencoded) else outcome.status),
        "reason": outcome.remark if isinstance(outcome, Reencoded) else outcome.reason,
        "out": target if is_written else None,
        "video_id": file.video_id,
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "ctime_ns": file.ctime_ns,
        "profile": profile,
    }
