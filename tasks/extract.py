"""One shard of videos -> crops and rows on disk, in decode processes that cannot harm the batch."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
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
) -> Iterator[VideoResult]:
    """One result for every video of the shard, in order of submission, whatever happens to it."""
    model_path = find_face_model(settings.face_model_sha256)
    num_workers = min(run.num_workers or _available_cores(), len(shard.video_ids))
    pool = pebble.ProcessPool(
        max_workers=num_workers,
        max_tasks=_VIDEOS_PER_PROCESS,
        initializer=start_worker,
        initargs=(settings, model_path, run.max_memory_bytes, os.getpid()),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        futures = [
            (video_id, _submit(pool, path, video_id, run))
            for video_id, path in zip(shard.video_ids, shard.paths, strict=True)
        ]
        title = f"extract shard {shard.position}"
        with progress_bar(total=len(futures), description=title, unit="videos") as bar:
            for video_id, future in futures:
                yield _result(video_id, future, run)
                bar.update(1)
        pool.close()
    finally:
        pool.stop()
        pool.join()


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
    except FaceModelError:
        raise
    except BrokenProcessPool as error:
        raise WorkerError(
            "decode processes die while they start; give them more memory "
            f"(max_memory_bytes is {run.max_memory_bytes})"
        ) from error
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
