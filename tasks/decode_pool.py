"""Decode processes for a whole run: one result per video, in order, whatever happens to one.

- Each process has a pool, and so a channel, of its own: one that is killed while it sends a result
  can block nobody else, and it is known on which video it died.
- At most ``2 * num_workers + 2`` videos are given out or finished but not fetched, so that the
  memory of this process does not grow with the run.
- A video that ends its process, or takes too long or too much memory, is tried once more with the
  other decoder. A process that was killed from outside says nothing of its video: the same again.
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
from reelcheck.cores import available_cores
from reelcheck.errors import FaceModelError, WorkerError
from reelcheck.perturbations import Perturbation
from reelcheck.places import is_url
from reelcheck.records import Shard, VideoResult
from reelcheck.status import Status
from storage.scratch import scratch_folder
from tasks.faces.weights import find_face_model
from tasks.faces.worker import Work, check_worker, extract_one, start_worker

_VIDEOS_PER_PROCESS = 500
"""A process is replaced after this many videos: decord and MediaPipe leak a little."""
_START_SECONDS = 120.0
"""Beyond its deadline, what an attempt may take: the time that a process needs to start."""
_MAX_DEATHS = 3
"""Processes that one video may lose to a kill from outside, or before they say they have it."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One video on its way to a result."""

    video_id: str
    path: str
    num_deaths: int = 0
    """Processes lost without a word on what the video has to do with it."""
    was_killed: bool = False
    """At least one of them from outside."""
    problem: str | None = None
    """How the first attempt failed; None: this is the first."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """An attempt that a process has."""

    attempt: _Attempt
    pool: pebble.ProcessPool
    overdue_at: float
    """On the monotonic clock: past this the process has vanished without a word."""


class DecodePool:
    """The decode processes of one run; use with ``with``. None starts before it is needed.

    Args:
        shards: all videos of the run, in the order in which their results will be asked for.
        settings: of the preprocessing.
        run: number of processes, limits, decoder.
        perturbation: what every video goes through before faces are searched; its deadline and its
            memory are for both.

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
    ) -> None:
        self._run = run
        self._num_workers = run.num_workers or available_cores()
        self._face_model = find_face_model(settings.face_model_sha256)
        self._work = Work(settings=settings, perturbation=perturbation)
        self._exit_stack = ExitStack()
        self._waiting = deque(
            _Attempt(video_id=video_id, path=path)
            for shard in shards
            for video_id, path in _in_order(shard)
        )
        self._idle: list[pebble.ProcessPool] = []
        self._busy: dict[Future[VideoResult], _Given] = {}
        self._ready: dict[str, VideoResult] = {}

    def results(self, shard: Shard) -> Iterator[VideoResult]:
        """One result for every video of the shard, sorted by id.

        Raises:
            FaceModelError: the face detector cannot be started.
            WorkerError: decode processes cannot start.
        """
        for video_id, _ in _in_order(shard):
            self._advance(is_waiting=False)
            while video_id not in self._ready:
                if not (self._waiting or self._busy):
                    raise ValueError(f"video {video_id} is not one that this pool was made with")
                self._advance()
            yield self._ready.pop(video_id)

    def __enter__(self) -> Self:
        perturbation = self._work.perturbation
        writes = perturbation is not None and perturbation.needs_file
        if writes or any(is_url(attempt.path) for attempt in self._waiting):
            scratch_dir = self._exit_stack.enter_context(scratch_folder())
            self._work = replace(self._work, scratch_dir=scratch_dir)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pools = [*self._idle, *(given.pool for given in self._busy.values())]
        for pool in pools:  # all told before the first is waited for
            pool.stop()
        for pool in pools:
            pool.join()
        self._exit_stack.close()

    def _advance(self, *, is_waiting: bool = True) -> None:
        """Take what has finished, or wait for the first that does, and give out what there is."""
        self._give_out()
        first_overdue = min((g.overdue_at for g in self._busy.values()), default=0.0)
        patience = max(0.0, first_overdue - time.monotonic()) if is_waiting else 0.0
        done, running = wait(self._busy, patience, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future, future.exception())
        now = time.monotonic()
        for future in running:
            if self._busy[future].overdue_at < now:
                # It hangs before it took the video, or died as it was about to.
                self._take(future, BrokenProcessPool("no sign of life"))
        self._give_out()

    def _give_out(self) -> None:
        while (
            self._waiting
            and len(self._busy) < self._num_workers
            and len(self._busy) + len(self._ready) < 2 * self._num_workers + 2
        ):
            attempt = self._waiting.popleft()
            pool = self._idle_pool() or self._new_pool()
            future = pool.schedule(
                extract_one,
                args=[attempt.path, attempt.video_id],
                kwargs={"decoder": self._run.decoder, "is_retry": attempt.problem is not None},
                timeout=self._run.timeout_seconds / 2,
            )
            overdue_at = time.monotonic() + self._run.timeout_seconds / 2 + _START_SECONDS
            self._busy[future] = _Given(attempt=attempt, pool=pool, overdue_at=overdue_at)

    def _idle_pool(self) -> pebble.ProcessPool | None:
        while self._idle:
            pool = self._idle.pop()
            if pool.active:
                return pool
            pool.join()  # its process was killed while it had nothing to do
        return None

    def _take(self, future: "Future[VideoResult]", error: BaseException | None) -> None:
        """The result of an attempt that has ended, or another attempt in its place."""
        given = self._busy.pop(future)
        attempt, pool = given.attempt, given.pool
        if error is None or isinstance(error, FutureTimeoutError):
            self._idle.append(pool)  # pebble has replaced the process that took too long
        else:
            pool.stop()
            pool.join()
        if error is not None:
            self._remove_files(attempt)
        outcome = future.result() if error is None else self._after(attempt, error)
        if isinstance(outcome, _Attempt):
            self._waiting.appendleft(outcome)
        else:
            self._ready[attempt.video_id] = outcome

    def _remove_files(self, attempt: _Attempt) -> None:
        """Remove what was fetched or written of a video before its process ended."""
        if self._work.scratch_dir is not None:
            for folder in self._work.scratch_dir.glob(f"{attempt.video_id}.*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _after(self, attempt: _Attempt, error: BaseException) -> VideoResult | _Attempt:
        """What follows from an attempt that gave no result: another one, or a row that says why."""
        if isinstance(error, FaceModelError):
            raise error
        was_killed = isinstance(error, pebble.ProcessExpired) and error.exitcode == -signal.SIGKILL
        if was_killed or isinstance(error, BrokenProcessPool):
            return self._after_death(attempt, was_killed=was_killed)
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

    def _after_death(self, attempt: _Attempt, *, was_killed: bool) -> VideoResult | _Attempt:
        """The same again, up to a limit.

        Raises:
            WorkerError: processes die while they start; not the video's fault.
        """
        num_deaths = attempt.num_deaths + 1
        was_killed = was_killed or attempt.was_killed
        if num_deaths < _MAX_DEATHS:
            return replace(attempt, num_deaths=num_deaths, was_killed=was_killed)
        if was_killed:
            # Linux kills with SIGKILL what takes too much of the machine's memory.
            status = Status.OUT_OF_MEMORY
            reason = f"the decode process was killed on this video {num_deaths} times"
        else:
            self._require_start()
            status = Status.DECODE_ERROR
            reason = f"the decode process died on this video {num_deaths} times"
        return VideoResult(video_id=attempt.video_id, status=status, reason=reason)

    def _require_start(self) -> None:
        """Raise unless a process with nothing to do starts and answers."""
        pool = self._new_pool()
        try:
            pool.schedule(check_worker).result()
        except (BrokenProcessPool, pebble.ProcessExpired) as error:
            raise WorkerError(
                "decode processes die while they start; give them more memory "
                f"(max_memory_bytes is {self._run.max_memory_bytes})"
            ) from error
        finally:
            pool.stop()
            pool.join()

    def _new_pool(self) -> pebble.ProcessPool:
        return pebble.ProcessPool(
            max_workers=1,
            max_tasks=_VIDEOS_PER_PROCESS,
            initializer=start_worker,
            initargs=(self._work, self._face_model, self._run.max_memory_bytes, os.getpid()),
            context=multiprocessing.get_context("spawn"),
        )


def _in_order(shard: Shard) -> list[tuple[str, str]]:
    return sorted(zip(shard.video_ids, shard.paths, strict=True))
