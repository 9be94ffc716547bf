"""Flow: folder of videos -> face crop sequences, a table of files and a manifest."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.spread import RUNS_ALONE, hash_spread, spread
from reelcheck.config import DatasetLayout, PreprocessSettings, RunSettings
from reelcheck.cores import spent_cpu_seconds
from reelcheck.places import Place, is_url
from reelcheck.progress import progress_bar, video_progress
from reelcheck.records import Shard
from reelcheck.settings import settings_hash
from storage.atomic import remove_temporaries, write_text
from storage.copies import reading_file, writing
from storage.layout import StoreLayout, is_no_crops, preprocessed
from storage.lock import run_lock
from tasks.collect import collect_tables
from tasks.decode_pool import DecodePool
from tasks.discover import contents_of, discover, is_whole_folder, plan_shards
from tasks.extract import ExtractWork, extract_shard, extract_shard_alone
from tasks.faces.weights import configured_face_model_sha256, find_face_model
from tasks.summary import PreprocessSummary, WorkDone, as_json, as_markdown, summarise

# The pool cannot be part of a cache key: it is processes.
_extract_shard = task(
    name="extract shard", task_run_name="extract {shard.name}", cache_policy=NO_CACHE
)(extract_shard)
_extract_shard_alone = task(
    name="extract shard",
    task_run_name="extract {shard.name}",
    **RUNS_ALONE,
)(extract_shard_alone)


@flow(name="preprocess", validate_parameters=True)
def preprocess(
    source: Place,
    store: Place,
    labels: Place | None = None,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    exclude: Path | None = None,
    *,
    dataset_layout: DatasetLayout | None = None,
    retry_failed: bool = False,
) -> PreprocessSummary:
    """Make a store of crop sequences from a folder of videos; a second run does what is missing.

    Args:
        source: folder of videos (searched through), or one video; path or URL.
        store: folder to write to, path or URL; may hold several preprocessings and sources.
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
    # First, because without it all the rest would be for nothing.
    find_face_model(settings.face_model_sha256)
    with ExitStack() as stack:
        copy = stack.enter_context(writing(store, wanted=is_no_crops))
        table = None if labels is None else stack.enter_context(reading_file(labels))
        layout = store_layout(copy.path, settings)
        hash_started = time.thread_time()
        files = task(name="discover")(discover)(
            source,
            layout,
            labels=table,
            exclude=exclude or copy.path,
            dataset_layout=dataset_layout,
            hashed=partial(hash_spread, run=run) if run.where == "cluster" else None,
        )
        hashing = WorkDone(cpu_seconds={"hash": time.thread_time() - hash_started})
        with run_lock(layout):
            remove_temporaries(layout.path)
            remove_temporaries(layout.shards_dir)
            write_text(layout.settings_path, settings.model_dump_json(indent=2) + "\n")
            shards = plan_shards(
                files, layout, shard_size=run.shard_size, retry_failed=retry_failed
            )
            if is_url(store) or run.where == "cluster":
                copy.push()
                extracting = _extract_alone(
                    shards, ExtractWork(store=store, settings=settings, run=run)
                )
                copy.pull(wanted=is_no_crops)
            else:
                extracting = _extract(shards, layout, settings, run)
            counts = collect_tables(files, layout, is_complete=is_whole_folder(source, files))
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
    """One after the other, with decode processes that all shards share."""
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with (
        DecodePool(shards, settings, run) as pool,
        video_progress(total=num_videos, description="preprocess") as advance,
    ):
        return [
            _extract_shard(
                shard,
                layout,
                pool,
                compress=run.compress_crops,
                on_video=lambda result: advance(result.num_frames_decoded or 0),
            )
            for shard in shards
        ]


def _extract_alone(shards: Sequence[Shard], work: ExtractWork) -> list[WorkDone]:
    """Each by itself, here or elsewhere; the store gets the files from the tasks."""
    done = []
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with progress_bar(total=num_videos, description="preprocess", unit="videos") as bar:
        calls = [{"shard": shard, "work": work} for shard in shards]
        for part in spread(_extract_shard_alone, calls, work.run):
            bar.update(part.num_videos)
            done.append(part)
    return done


def store_layout(store: Path, settings: PreprocessSettings) -> StoreLayout:
    """Where crops made with these settings lie in a store."""
    return preprocessed(store.absolute(), settings_hash(settings))
