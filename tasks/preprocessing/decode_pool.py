"""Decode processes for a whole run: one result per video, in order, whatever a video does.

- Each process has a pool of its own, and so its own channel: a process that is killed while it
  sends a result blocks no other process, and it is known on which video it died.
- At most ``2 * num_workers + 2`` videos are in work or finished but not fetched, so that the memory
  of this process does not grow with the run.
- A video that ends its process, or takes too long or too much memory, is tried once more with the
  other decoder. A kill from outside says nothing of the video: the attempt is repeated unchanged.
"""

import multiprocessing
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import pebble

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import FaceModelError, WorkerError
from reelcheck.locations import is_url
from reelcheck.perturbations import Perturbation
from reelcheck.processes import count_cores
from reelcheck.records import Shard, VideoResult
from reelcheck.status import Status
from storage.scratch import make_scratch_folder
from tasks.faces.apart import LOOK_SECONDS, START_SECONDS, call_apart
from tasks.faces.detection.weights import find_face_model
from tasks.faces.worker import Work, check_worker, extract_one, start_worker

_VIDEOS_PER_PROCESS = 500
"""A process is replaced after this many videos: decord and MediaPipe leak a little."""
_MAX_DEATHS = 3
"""Processes that may die on one video by a kill from outside, or before they begin with it."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One video on its way to a result."""

    video_id: str
    location: str
    num_deaths: int = 0
    """Processes that died on it, perhaps through no fault of the video."""
    was_killed: bool = False
    """At least one process was killed from outside."""
    problem: str | None = None
    """Why the first attempt failed; None: this is the first attempt."""


@dataclass(frozen=True, kw_only=True)
class _Running:
    """An attempt in a process."""

    attempt: _Attempt
    pool: pebble.ProcessPool
    overdue_at: float
    """Seconds on the monotonic clock; a process that runs longer has died silently."""


class DecodePool:
    """The decode processes of one run; use it with ``with``. A process starts when it is needed.

    Args:
        shards: all videos of the run, in the order in which ``results`` will be called.
        settings: how to preprocess.
        run: number of processes, limits, decoder.
        perturbation: change of every video before the face search; the limits of time and memory
            hold for both together.
        finds_copies: give faces fingerprints, by which a store finds copies.

    Raises:
        FaceModelError: the face detector cannot be had.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        settings: PreprocessSettings,
        run: RunSettings,
        *,
        perturbation: Perturbation | None = None,
        finds_copies: bool = False,
    ) -> None:
        self._run = run
        self._num_workers = run.num_workers or count_cores()
        self._face_model = find_face_model(settings.face_model_sha256)
        self._work = Work(
            settings=settings,
            limits=run.read_limits,
            perturbation=perturbation,
            finds_copies=finds_copies,
        )
        self._exit_stack = ExitStack()
        self._waiting = deque(
            _Attempt(video_id=video_id, location=location)
            for shard in shards
            for video_id, location in _sort_contents(shard)
        )
        self._idle: list[pebble.ProcessPool] = []
        self._busy: dict[Future[VideoResult], _Running] = {}
        self._ready: dict[str, VideoResult] = {}

    def results(self, shard: Shard) -> Iterator[VideoResult]:
        """Yield one result for every video of the shard, sorted by id.

        Raises:
            FaceModelError: the face detector cannot be started.
            WorkerError: decode processes cannot start.
        """
        for video_id, _ in _sort_contents(shard):
            self._advance(is_waiting=False)
            while video_id not in self._ready:
                if not (self._waiting or self._busy):
                    raise ValueError(f"video {video_id} is not one that this pool was made with")
                self._advance()
            yield self._ready.pop(video_id)

    def __enter__(self) -> Self:
        perturbation = self._work.perturbation
        writes = perturbation is not None and perturbation.needs_file
        if writes or any(is_url(attempt.location) for attempt in self._waiting):
            scratch_dir = self._exit_stack.enter_context(make_scratch_folder())
            self._work = replace(self._work, scratch_dir=scratch_dir)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pools = [*self._idle, *(running.pool for running in self._busy.values())]
        for pool in pools:  # stop all before waiting for the first
            pool.stop()
        for pool in pools:
            pool.join()
        self._exit_stack.close()

    def _advance(self, *, is_waiting: bool = True) -> None:
        """Take finished results, or wait a moment for one, and start attempts in idle processes."""
        self._start_attempts()
        patience = LOOK_SECONDS if is_waiting else 0.0
        done, running = wait(self._busy, patience, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future, future.exception())
        now = time.monotonic()
        for future in running:
            work = self._busy[future]
            # The process hung or died before it took the video. See ``call_apart`` for a pool
            # that is broken and does not tell.
            if work.overdue_at < now or not work.pool.active:
                self._take(future, BrokenProcessPool("no sign of life"))
        self._start_attempts()

    def _start_attempts(self) -> None:
        while (
            self._waiting
            and len(self._busy) < self._num_workers
            and len(self._busy) + len(self._ready) < 2 * self._num_workers + 2
        ):
            attempt = self._waiting.popleft()
            pool = self._take_idle_pool() or self._start_pool()
            future = pool.schedule(
                extract_one,
                args=[attempt.location, attempt.video_id],
                kwargs={"decoder": self._run.decoder, "is_retry": attempt.problem is not None},
                timeout=self._run.timeout_seconds / 2,
            )
            overdue_at = time.monotonic() + self._run.timeout_seconds / 2 + START_SECONDS
            self._busy[future] = _Running(attempt=attempt, pool=pool, overdue_at=overdue_at)

    def _take_idle_pool(self) -> pebble.ProcessPool | None:
        while self._idle:
            pool = self._idle.pop()
            if pool.active:
                return pool
            pool.join()  # its process was killed while it had nothing to do
        return None

    def _take(self, future: "Future[VideoResult]", error: BaseException | None) -> None:
        """Keep the result of an attempt that has ended, or queue another attempt."""
        running = self._busy.pop(future)
        attempt, pool = running.attempt, running.pool
        if error is None or isinstance(error, FutureTimeoutError):
            self._idle.append(pool)  # pebble has replaced the process that took too long
        else:
            pool.stop()
            pool.join()
        if error is not None:
            self._remove_files(attempt)
        outcome = future.result() if error is None else self._handle_failure(attempt, error)
        if isinstance(outcome, _Attempt):
            self._waiting.appendleft(outcome)
        else:
            self._ready[attempt.video_id] = outcome

    def _remove_files(self, attempt: _Attempt) -> None:
        """Remove files that a process fetched or wrote for a video before it ended."""
        if self._work.scratch_dir is not None:
            for folder in self._work.scratch_dir.glob(f"{attempt.video_id}.*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _handle_failure(self, attempt: _Attempt, error: BaseException) -> VideoResult | _Attempt:
        """Decide about an attempt without a result: another one, or a result with the reason."""
        if isinstance(error, FaceModelError):
            raise error
        was_killed = isinstance(error, pebble.ProcessExpired) and error.exitcode == -signal.SIGKILL
        if was_killed or isinstance(error, BrokenProcessPool):
            return self._handle_death(attempt, was_killed=was_killed)
        if isinstance(error, FutureTimeoutError):
            status = Status.TIMEOUT
            problem = f"gave up after {self._run.timeout_seconds / 2:g} seconds"
        elif isinstance(error, pebble.ProcessExpired):
            status = Status.DECODE_ERROR
            problem = f"the decode process died (exit code {error.exitcode})"
        elif isinstance(error, MemoryError):
            status = Status.OUT_OF_MEMORY
            problem = "needed more memory than a decode process may use"
        else:
            reason = f"{type(error).__name__}: {error}"
            return VideoResult(
                video_id=attempt.video_id, status=Status.INTERNAL_ERROR, reason=reason
            )
        if attempt.problem is None:
            return replace(attempt, problem=problem)
        reason = f"both attempts failed: {attempt.problem}; {problem}"
        return VideoResult(video_id=attempt.video_id, status=status, reason=reason)

    def _handle_death(self, attempt: _Attempt, *, was_killed: bool) -> VideoResult | _Attempt:
        """Repeat the attempt, up to a limit.

        Raises:
            WorkerError: processes die while they start, whatever the video is.
        """
        num_deaths = attempt.num_deaths + 1
        was_killed = was_killed or attempt.was_killed
        if num_deaths < _MAX_DEATHS:
            return replace(attempt, num_deaths=num_deaths, was_killed=was_killed)
        if was_killed:
            # Linux kills a process with SIGKILL if it takes too much of the machine's memory.
            status = Status.OUT_OF_MEMORY
            reason = f"the decode process was killed on this video {num_deaths} times"
        else:
            self._require_start()
            status = Status.DECODE_ERROR
            reason = f"the decode process died on this video {num_deaths} times"
        return VideoResult(video_id=attempt.video_id, status=status, reason=reason)

    def _require_start(self) -> None:
        """Raise ``WorkerError`` unless a process without a video starts and answers."""
        try:
            call_apart(
                check_worker,
                timeout_seconds=self._run.timeout_seconds,
                max_memory_bytes=self._run.max_memory_bytes,
                initializer=start_worker,
                initargs=[self._work, self._face_model],
            )
        except (BrokenProcessPool, TimeoutError) as error:
            raise WorkerError(
                "decode processes die while they start; give them more memory "
                f"(max_memory_bytes is {self._run.max_memory_bytes})"
            ) from error

    def _start_pool(self) -> pebble.ProcessPool:
        return pebble.ProcessPool(
            max_workers=1,
            max_tasks=_VIDEOS_PER_PROCESS,
            initializer=start_worker,
            initargs=(self._work, self._face_model, self._run.max_memory_bytes, os.getpid()),
            context=multiprocessing.get_context("spawn"),
        )


def _sort_contents(shard: Shard) -> list[tuple[str, str]]:
    return sorted(zip(shard.video_ids, shard.locations, strict=True))
