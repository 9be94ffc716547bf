"""Read the contents of input files and name them by their SHA-256, several files side by side.

A file that gives nothing, such as one of a server that has gone, holds up no other: its thread is
left to itself, and another one takes its place.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from reelcheck.config import RunSettings
from reelcheck.cores import count_cores
from reelcheck.errors import VideoError
from reelcheck.locations import is_url
from reelcheck.progress import show_progress
from reelcheck.reading import Reading, ReadLimits, describe_error, hash_file
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.object_store.objects import read_object

_MIN_THREADS = 4
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 5.0
"""Time that a thread has to notice by itself that its file takes too long."""


def hash_here(files: Sequence[InputFile], *, run: RunSettings) -> list[InputFile]:
    """Read every file in this process, and show the progress; see ``hash_contents``."""
    with show_progress(total=len(files), description="identify", unit="files") as bar:
        return hash_contents(files, run, on_file=lambda: bar.update(1))


def hash_contents(
    files: Sequence[InputFile],
    run: RunSettings,
    *,
    on_file: Callable[[], object] = lambda: None,
) -> list[InputFile]:
    """Read every file and name its content; a file that cannot be read gets that status.

    Args:
        files: as found.
        run: limits of each file.
        on_file: called when a file is done.
    """
    readers = _Readers(files, run.read_limits)
    named: dict[int, InputFile] = {}
    try:
        while len(named) < len(files):
            for index, file in readers.take():
                named[index] = file
                on_file()
    finally:
        readers.stop()
    return [named[index] for index in range(len(files))]


class _Readers:
    """Threads that read files side by side.

    Args:
        files: what is to be read.
        limits: of each file.
    """

    def __init__(self, files: Sequence[InputFile], limits: ReadLimits) -> None:
        self._limits = limits
        self._waiting = deque(enumerate(files))
        self._at_work: dict[int, tuple[InputFile, Reading]] = {}
        self._done: SimpleQueue[tuple[int, InputFile]] = SimpleQueue()
        for _ in range(min(len(files), max(_MIN_THREADS, count_cores()))):
            self._start_thread()

    def take(self) -> list[tuple[int, InputFile]]:
        """Take files that are done, with their positions; wait a moment for the first."""
        finished = self._find_overdue()
        for _ in finished:
            self._start_thread()
        with suppress(Empty):
            finished.append(self._done.get(timeout=_LOOK_SECONDS))
        # A file that was given up may come in the end.
        return [item for item in finished if self._at_work.pop(item[0], None) is not None]

    def stop(self) -> None:
        """Begin with no other file."""
        self._waiting.clear()

    def _start_thread(self) -> None:
        # A thread that hangs in a call of the system must not keep the process from ending.
        threading.Thread(target=self._work, name="read", daemon=True).start()

    def _work(self) -> None:
        with suppress(IndexError):  # no file is left
            while True:
                index, file = self._waiting.popleft()
                reading = Reading(self._limits)
                self._at_work[index] = file, reading
                self._done.put((index, _hash_one(file, reading)))

    def _find_overdue(self) -> list[tuple[int, InputFile]]:
        """Find the files whose threads hang: each with that status, and its position."""
        return [
            (index, _mark_unreadable(file, reason))
            for index, (file, reading) in self._at_work.copy().items()  # threads add to it
            if (reason := reading.describe_delay(grace_seconds=_GRACE_SECONDS)) is not None
        ]


def _hash_one(file: InputFile, reading: Reading) -> InputFile:
    try:
        video_id = _hash_content(file.location, reading)
    except VideoError as error:
        return _mark_unreadable(file, error.reason)
    except Exception as error:  # noqa: BLE001 - one file must not end the others
        return replace(file, status=Status.INTERNAL_ERROR, reason=describe_error(error))
    size = reading.num_bytes if file.size_bytes is None else file.size_bytes
    return replace(file, video_id=video_id, size_bytes=size)


def _hash_content(location: str, reading: Reading) -> str:
    if not is_url(location):
        return hash_file(Path(location), reading)
    digest = hashlib.sha256()
    read_object(location, digest.update, reading)
    return digest.hexdigest()


def _mark_unreadable(file: InputFile, reason: str) -> InputFile:
    return replace(file, status=Status.UNREADABLE, reason=reason)
