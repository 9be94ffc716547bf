"""One shard of videos -> crops and rows on disk, in decode processes that cannot harm the batch."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
import pebble
from prefect import task

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import FaceModelError, WorkerError
from reelcheck.progress import progress_bar
from reelcheck.records import CropSequence, Shard, VideoResult
from reelcheck.status import Status
from storage.crops import write_crops
from storage.layout import StoreLayout
from storage.schemas import SEQUENCES, VIDEO_RESULTS
from storage.tables import Row, write_table
from tasks.faces.weights import find_face_model
from tasks.faces.worker import extract_one, start_worker

_VIDEOS_PER_PROCESS = 500
"""A process is replaced after this many videos: decord and MediaPipe leak a little."""
_MAX_FUTILE_POOLS = 3
"""Pools in a row that broke before any video was done."""


@task(name="extract shard", task_run_name="extract {shard.name}")
def extract_shard(
    shard: Shard, layout: StoreLayout, settings: PreprocessSettings, run: RunSettings
) -> int:
    """Extract face crops from a shard's videos and write its three files, the video rows last.

    Returns:
        Number of videos with status ok.
    """
    results = sorted(extract_videos(shard, settings, run), key=lambda result: result.video_id)
    sequences = [sequence for result in results for sequence in result.sequences]
    write_crops(layout.crops_path(shard.name), sequences)
    write_table(
        layout.shard_sequences_path(shard.name),
        [_sequence_row(sequence, shard.name, row) for row, sequence in enumerate(sequences)],
        SEQUENCES,
    )
    write_table(
        layout.shard_videos_path(shard.name), [_video_row(r) for r in results], VIDEO_RESULTS
    )
    return sum(result.status is Status.OK for result in results)


def extract_videos(
    shard: Shard, settings: PreprocessSettings, run: RunSettings
) -> list[VideoResult]:
    """One result for every video of the shard, in its order, whatever happens to one of them.

    Raises:
        FaceModelError: the face detector cannot be had or started.
        WorkerError: decode processes cannot start.
    """
    videos = dict(zip(shard.video_ids, shard.paths, strict=True))
    results: dict[str, VideoResult] = {}
    num_futile = 0
    title = f"extract shard {shard.position}"
    with progress_bar(total=len(videos), description=title, unit="videos") as bar:
        while pending := {name: path for name, path in videos.items() if name not in results}:
            # After a pool that did nothing, one video at a time, to find the one to blame.
            chosen = dict(list(pending.items())[:1]) if num_futile else pending
            done = {r.video_id: r for r in _pool_results(chosen, settings, run, bar.update)}
            num_futile = 0 if done else num_futile + 1
            if num_futile == _MAX_FUTILE_POOLS:
                done = {video_id: _blamed(video_id, results, run) for video_id in chosen}
                num_futile = 0
            results |= done
    return [results[video_id] for video_id in shard.video_ids]


def _pool_results(
    videos: Mapping[str, str],
    settings: PreprocessSettings,
    run: RunSettings,
    on_video: Callable[[], object],
) -> Iterator[VideoResult]:
    """Results of one pool of processes; some are missing if the pool itself broke.

    It does when a process dies before it could say which video it had taken.
    """
    model_path = find_face_model(settings.face_model_sha256)
    pool = pebble.ProcessPool(
        max_workers=min(run.num_workers or _available_cores(), len(videos)),
        max_tasks=_VIDEOS_PER_PROCESS,
        initializer=start_worker,
        initargs=(settings, model_path, run.max_memory_bytes, os.getpid()),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        futures = {
            video_id: _submit(pool, path, video_id, run) for video_id, path in videos.items()
        }
        for video_id, future in futures.items():
            with suppress(BrokenProcessPool):
                yield _result(video_id, future, run)
                on_video()
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _blamed(video_id: str, others: Mapping[str, VideoResult], run: RunSettings) -> VideoResult:
    """The result of a video on which every pool broke.

    Raises:
        WorkerError: no video was ever done, so it is not this one's fault.
    """
    if not others:
        raise WorkerError(
            "decode processes die while they start; give them more memory "
            f"(max_memory_bytes is {run.max_memory_bytes})"
        )
    reason = "the decode process died on this video every time"
    return VideoResult(video_id=video_id, status=Status.DECODE_ERROR, reason=reason)


def _submit(
    pool: pebble.ProcessPool, path: str, video_id: str, run: RunSettings
) -> "Future[VideoResult]":
    future: Future[VideoResult] = pool.schedule(
        extract_one, args=[Path(path), video_id], timeout=run.timeout_seconds
    )
    return future


def _result(video_id: str, future: "Future[VideoResult]", run: RunSettings) -> VideoResult:
    try:
        return future.result()
    except FutureTimeoutError:
        status, reason = Status.TIMEOUT, f"gave up after {run.timeout_seconds:g} seconds"
    except pebble.ProcessExpired as error:
        # Linux kills with SIGKILL what takes too much memory.
        was_killed = error.exitcode == -signal.SIGKILL
        status = Status.OUT_OF_MEMORY if was_killed else Status.DECODE_ERROR
        reason = f"the decode process died on this video (exit code {error.exitcode})"
    except (FaceModelError, BrokenProcessPool):
        raise
    except MemoryError:
        status, reason = Status.OUT_OF_MEMORY, "needed more memory than a decode process may use"
    except Exception as error:  # noqa: BLE001 - a video must never end the batch
        status, reason = Status.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
    return VideoResult(video_id=video_id, status=status, reason=reason)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _video_row(result: VideoResult) -> Row:
    names = [field.name for field in fields(result) if field.name != "sequences"]
    return {name: getattr(result, name) for name in names}


def _sequence_row(sequence: CropSequence, shard: str, row: int) -> Row:
    sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in sequence.boxes_xyxy]
    return {
        "sequence_id": sequence.sequence_id,
        "video_id": sequence.video_id,
        "track_id": sequence.track_id,
        "shard": shard,
        "row": row,
        "num_frames": sequence.num_frames,
        "frame_indices": sequence.frame_indices,
        "pts_seconds": sequence.pts_seconds,
        "boxes_xyxy": sequence.boxes_xyxy,
        "confidences": sequence.confidences,
        "face_pixels": float(np.median(sides)),
    }
