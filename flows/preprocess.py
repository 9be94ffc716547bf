"""Flow: folder of videos -> face crop sequences, a table of files and a manifest."""

import time
from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from reelcheck.config import DatasetLayout, PreprocessSettings, RunSettings
from reelcheck.cores import spent_cpu_seconds
from reelcheck.progress import video_progress
from reelcheck.records import Shard
from reelcheck.settings import settings_hash
from storage.atomic import remove_temporaries, write_text
from storage.layout import StoreLayout, preprocessed
from storage.lock import run_lock
from tasks.collect import collect_tables
from tasks.decode_pool import DecodePool
from tasks.discover import contents_of, discover, plan_shards
from tasks.extract import extract_shard
from tasks.faces.weights import configured_face_model_sha256, find_face_model
from tasks.summary import PreprocessSummary, WorkDone, as_json, as_markdown, summarise


@flow(name="preprocess", validate_parameters=True)
def preprocess(
    source: Path,
    store: Path,
    labels: Path | None = None,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    exclude: Path | None = None,
    *,
    dataset_layout: DatasetLayout | None = None,
    retry_failed: bool = False,
) -> PreprocessSummary:
    """Make a store of crop sequences from a folder of videos; a second run does what is missing.

    Args:
        source: folder of videos (searched through), or one video.
        store: folder to write to; may hold several preprocessings and sources.
        labels: CSV of path, label and what else is known (``tasks/labels.py``); None: folder names.
        settings: what the crops look like; None: the defaults.
        run: how to use the machine; None: the defaults.
        exclude: a folder inside the source that is not input.
        dataset_layout: public data set whose layout tells the labels (``tasks/layouts.py``).
        retry_failed: try failed videos again, too.

    Returns:
        What was done and what it cost; also in the store's ``summary.json``.

    Raises:
        SettingsError: both ``labels`` and ``dataset_layout``.
        StoreError: another run is writing to this preprocessing of the store.
    """
    started, cpu_started = time.perf_counter(), spent_cpu_seconds()
    settings = settings or PreprocessSettings(face_model_sha256=configured_face_model_sha256())
    run = run or RunSettings()
    layout = store_layout(store, settings)
    # First, because without it all the rest would be for nothing.
    find_face_model(settings.face_model_sha256)
    hash_started = time.thread_time()
    files = task(name="discover")(discover)(
        source, layout, labels=labels, exclude=exclude or store, dataset_layout=dataset_layout
    )
    hashing = WorkDone(cpu_seconds={"hash": time.thread_time() - hash_started})
    with run_lock(layout):
        remove_temporaries(layout.path)
        remove_temporaries(layout.shards_dir)
        write_text(layout.settings_path, settings.model_dump_json(indent=2) + "\n")
        shards = plan_shards(files, layout, shard_size=run.shard_size, retry_failed=retry_failed)
        extracting = _extract(shards, layout, settings, run)
        counts = collect_tables(files, layout, is_complete=source.is_dir())
        num_planned = sum(len(shard.video_ids) for shard in shards)
        summary = summarise(
            [hashing, *extracting],
            counts=counts,
            num_videos_before=len(contents_of(files)) - num_planned,
            wall_seconds=time.perf_counter() - started,
            cpu_seconds=spent_cpu_seconds() - cpu_started,
        )
        write_text(layout.summary_path, as_json(summary))
    create_markdown_artifact(as_markdown(summary), key="preprocess-summary")
    return summary


def _extract(
    shards: Sequence[Shard], layout: StoreLayout, settings: PreprocessSettings, run: RunSettings
) -> list[WorkDone]:
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with (
        DecodePool(shards, settings, run) as pool,
        video_progress(total=num_videos, description="preprocess") as advance,
    ):
        return [
            extract_shard(
                shard,
                layout,
                pool,
                compress=run.compress_crops,
                on_video=lambda result: advance(result.num_frames_decoded or 0),
            )
            for shard in shards
        ]


def store_layout(store: Path, settings: PreprocessSettings) -> StoreLayout:
    """Where crops made with these settings lie in a store."""
    return preprocessed(store.absolute(), settings_hash(settings))
