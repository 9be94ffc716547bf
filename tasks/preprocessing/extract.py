"""One shard of videos -> crops and rows on disk."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import DamagedError
from reelcheck.records import Shard, VideoResult
from reelcheck.settings import settings_hash
from storage.atomic import set_aside
from storage.crops import CropWriter, row_of_sequence
from storage.layout import StoreLayout, locate_preprocessed
from storage.object_store.copies import open_output_folder
from storage.results import row_of_result
from storage.schemas import SEQUENCES, VIDEO_RESULTS
from storage.tables import require_whole, write_table
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.summary import WorkDone, add_by_name

_log = logging.getLogger(__name__)


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
        on_video: called with each result when its crops are written.

    Returns:
        How much was done and what it cost.

    Raises:
        FaceModelError: the face detector cannot be had or started.
        WorkerError: decode processes cannot start.
    """
    # An earlier attempt may have left files. Without its rows the shard does not count as done.
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
                crop_file, crop_row = writer.append(sequence)
                sequence_rows.append(
                    row_of_sequence(
                        sequence, shard=shard.name, crop_file=crop_file, crop_row=crop_row
                    )
                )
            video_rows.append(row_of_result(result))
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
        cpu_seconds=add_by_name([*stage_seconds, {"write": write_seconds}]),
    )


def set_aside_damaged_shards(layout: StoreLayout) -> None:
    """Make shards whose tables are not as they were written count as not done.

    Crops take long to check: ``tasks/verification`` does it.
    """
    for shard in layout.done_shards():
        videos, sequences = layout.shard_videos_path(shard), layout.shard_sequences_path(shard)
        try:
            require_whole(sequences, SEQUENCES)
            require_whole(videos, VIDEO_RESULTS)
        except DamagedError as error:
            aside = set_aside(videos)
            _log.warning("%s. The shard is made again; %s is kept", error, aside.name)


@dataclass(frozen=True, kw_only=True)
class ExtractWork:
    """Inputs of a task that extracts a shard on any machine."""

    store: str | Path
    """Path or URL."""
    settings: PreprocessSettings
    run: RunSettings
    lease_token: str | None
    """The run's lease on the store, see ``open_output_folder``."""


def extract_shard_anywhere(shard: Shard, work: ExtractWork) -> WorkDone:
    """Extract a shard with decode processes of its own, into a store at a path or URL."""
    relative = locate_preprocessed(Path(), settings_hash(work.settings)).shard_videos_path(
        shard.name
    )
    with (
        open_output_folder(
            work.store, lease_token=work.lease_token, marker=relative.as_posix()
        ) as folder,
        DecodePool([shard], work.settings, work.run, finds_copies=True) as pool,
    ):
        layout = locate_preprocessed(folder, settings_hash(work.settings))
        return extract_shard(shard, layout, pool, compress=work.run.compress_crops)
