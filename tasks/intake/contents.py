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

from reelcheck.config import RunSettings
from reelcheck.errors import VideoError
from reelcheck.locations import is_url
from reelcheck.processes import count_cores
from reelcheck.progress import show_progress
from reelcheck.reading import Reading, ReadLimits, describe_error, hash_file
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.object_store.objects import read_object

_MIN_THREADS = 4
"""Threads that there may be on any machine: they wait for disks and servers, not for a core."""
_LOOK_SECONDS = 0.05
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
    num_told = 0
    try:
        while num_told < len(files):
            num_done = readers.wait()
            for _ in range(num_done - num_told):
                on_file()
            num_told = num_done
    finally:
        readers.stop()
    return [readers.named[index] for index in range(len(files))]


class _Readers:
    """Threads that read files: one, and more while files take long.

    Many threads that read small files cost several times the work itself.

    Args:
        files: what is to be read.
        limits: of each file.

    Attributes:
        named: files that are done, by their positions.
    """

    def __init__(self, files: Sequence[InputFile], limits: ReadLimits) -> None:
        self.named: dict[int, InputFile] = {}
        self._limits = limits
        self._num_files = len(files)
        self._waiting = deque(enumerate(files))
        self._at_work: dict[int, tuple[InputFile, Reading]] = {}
        self._seen_at_work: set[int] = set()
        self._are_all_done = threading.Event()

    def wait(self) -> int:
        """Wait a moment, or until all files are done; count those that are."""
        self._give_up_overdue()
        # All that are at work were so a moment ago: others must not wait for them.
        at_work = set(self._at_work.copy())
        is_stuck = at_work <= self._seen_at_work
        if self._waiting and is_stuck and len(at_work) < max(_MIN_THREADS, count_cores()):
            # A thread that hangs in a call of the system must not keep the process from ending.
            threading.Thread(target=self._work, name="read", daemon=True).start()
        self._seen_at_work = at_work
        self._are_all_done.wait(_LOOK_SECONDS)
        return len(self.named)

    def stop(self) -> None:
        """Begin with no other file."""
        self._waiting.clear()

    def _work(self) -> None:
        with suppress(IndexError):  # no file is left
            while True:
                index, file = self._waiting.popleft()
                reading = Reading(self._limits)
                self._at_work[index] = file, reading
                self._finish(index, _hash_one(file, reading))

    def _finish(self, index: int, file: InputFile) -> None:
        # A file that was given up may come in the end; the first word counts.
        self.named.setdefault(index, file)
        self._at_work.pop(index, None)
        if len(self.named) == self._num_files:
            self._are_all_done.set()

    def _give_up_overdue(self) -> None:
        """Leave the files whose threads hang; each gets that status."""
        for index, (file, reading) in self._at_work.copy().items():  # threads change it
            reason = reading.describe_delay(grace_seconds=_GRACE_SECONDS)
            if reason is not None:
                self._finish(index, _mark_unreadable(file, reason))


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
