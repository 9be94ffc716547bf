"""One shard of videos -> crops and rows on disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.records import CropSequence, Shard, VideoResult
from reelcheck.settings import settings_hash
from storage.copies import output_folder
from storage.crops import CropWriter
from storage.layout import StoreLayout, preprocessed
from storage.schemas import SEQUENCES, VIDEO_RESULTS
from storage.tables import Row, write_table
from tasks.decode_pool import DecodePool
from tasks.summary import WorkDone, summed

_NOT_IN_TABLES = {"sequences", "stage_seconds"}


def extract_shard(
    shard: Shard,
    layout: StoreLayout,
    pool: DecodePool,
    *,
    compress: bool = False,
    on_video: Callable[[VideoResult], object] | None = None,
) -> WorkDone:
    """Extract face crops from a shard's videos and write its files, the video rows last.

    Args:
        shard: one of those that the pool was made with.
        layout: the store.
        pool: the run's decode processes.
        compress: store crops as zstd.
        on_video: called with each result when it is written.

    Returns:
        How much was done and what it cost.

    Raises:
        FaceModelError: the face detector cannot be had or started.
        WorkerError: decode processes cannot start.
    """
    # Of an earlier attempt; without its rows the shard no longer counts as done.
    layout.shard_videos_path(shard.name).unlink(missing_ok=True)
    for path in layout.crops_paths(shard.name):
        path.unlink()
    sequence_rows, video_rows = [], []
    num_frames, write_seconds = 0, 0.0
    stage_seconds = []
    with CropWriter(partial(layout.crops_path, shard.name), compress=compress) as writer:
        for result in pool.results(shard):
            started = time.thread_time()
            for sequence in result.sequences:
                part, row = writer.append(sequence)
                sequence_rows.append(_sequence_row(sequence, shard.name, part, row))
            video_rows.append(_video_row(result))
            write_seconds += time.thread_time() - started
            stage_seconds.append(result.stage_seconds)
            num_frames += result.num_frames_decoded or 0
            if on_video is not None:
                on_video(result)
    started = time.thread_time()
    write_table(layout.shard_sequences_path(shard.name), sequence_rows, SEQUENCES)
    write_table(layout.shard_videos_path(shard.name), video_rows, VIDEO_RESULTS)
    write_seconds += time.thread_time() - started
    return WorkDone(
        num_videos=len(video_rows),
        num_frames=num_frames,
        cpu_seconds=summed([*stage_seconds, {"write": write_seconds}]),
    )


@dataclass(frozen=True, kw_only=True)
class ExtractWork:
    """What a task needs that extracts a shard on any machine."""

    store: str | Path
    """Path or URL."""
    settings: PreprocessSettings
    run: RunSettings


def extract_shard_alone(shard: Shard, work: ExtractWork) -> WorkDone:
    """Extract a shard with decode processes of its own; the rest is as above."""
    relative = preprocessed(Path(), settings_hash(work.settings)).shard_videos_path(shard.name)
    with (
        output_folder(work.store, marker=relative.as_posix()) as folder,
        DecodePool([shard], work.settings, work.run) as pool,
    ):
        layout = preprocessed(folder, settings_hash(work.settings))
        return extract_shard(shard, layout, pool, compress=work.run.compress_crops)


def _video_row(result: VideoResult) -> Row:
    names = [field.name for field in fields(result) if field.name not in _NOT_IN_TABLES]
    return {name: getattr(result, name) for name in names}


def _sequence_row(sequence: CropSequence, shard: str, part: int, row: int) -> Row:
    sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in sequence.boxes_xyxy]
    return {
        "sequence_id": sequence.sequence_id,
        "video_id": sequence.video_id,
        "track_id": sequence.track_id,
        "shard": shard,
        "part": part,
        "row": row,
        "num_frames": sequence.num_frames,
        "frame_indices": sequence.frame_indices,
        "pts_seconds": sequence.pts_seconds,
        "boxes_xyxy": sequence.boxes_xyxy,
        "confidences": sequence.confidences,
        "sharpness": sequence.sharpness,
        "brightness": sequence.brightness,
        "keypoints_xy": sequence.keypoints_xy,
        "fingerprints": sequence.fingerprints,
        "face_pixels": float(np.median(sides)),
    }
