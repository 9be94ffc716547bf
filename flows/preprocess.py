"""Flow: folder of videos -> face crop sequences, a table of files and a manifest."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from flows.spread import choose_hashing, spread_shards
from reelcheck.config import DatasetLayout, PreprocessSettings, RunSettings
from reelcheck.locations import Location, is_url
from reelcheck.processes import measure_cpu_seconds
from reelcheck.progress import show_video_progress
from reelcheck.records import Shard
from reelcheck.settings import settings_hash
from storage.atomic import remove_temporaries, write_text
from storage.checked.documents import write_document
from storage.layout import StoreLayout, is_no_crops, locate_preprocessed
from storage.lock import hold_run_lock
from storage.object_store.copies import fetch_file, open_for_writing
from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
from tasks.intake.discover import is_whole_folder
from tasks.intake.shards import find_contents, plan_shards
from tasks.intake.steps import discover_step
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import ExtractWork, set_aside_damaged_shards
from tasks.preprocessing.steps import (
    collect_tables_step,
    extract_shard_anywhere_step,
    extract_shard_step,
)
from tasks.preprocessing.summary import (
    PreprocessSummary,
    WorkDone,
    format_markdown,
    make_record,
    summarise,
)


@flow(name="preprocess", validate_parameters=True)
def preprocess(
    source: Location,
    store: Location,
    labels: Location | None = None,
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
        labels: CSV of path, label and more (``tasks/intake/labels.py``); None: folder
            names.
        settings: what the crops look like; None: the defaults.
        run: how to use the machine; None: the defaults.
        exclude: a folder inside the source to leave out.
        dataset_layout: public data set whose folders tell the labels
            (``tasks/intake/dataset_layouts.py``).
        retry_failed: try failed videos again, too.

    Returns:
        Counts and times; also in the store's ``summary.json``.

    Raises:
        SettingsError: both ``labels`` and ``dataset_layout``.
        StoreError: another run is writing to this preprocessing of the store.
    """
    started, cpu_started = time.perf_counter(), measure_cpu_seconds()
    settings = settings or PreprocessSettings(face_model_sha256=hash_configured_face_model())
    run = run or RunSettings()
    # First, because without the face model all the rest would be for nothing.
    find_face_model(settings.face_model_sha256)
    with ExitStack() as stack:
        copy = stack.enter_context(open_for_writing(store, wanted=is_no_crops))
        table = None if labels is None else stack.enter_context(fetch_file(labels, run.read_limits))
        layout = locate_store(copy.path, settings)
        hash_started = time.process_time()
        files = discover_step(
            source,
            layout,
            labels=table,
            exclude=exclude or copy.path,
            dataset_layout=dataset_layout,
            hash_files=choose_hashing(run),
        )
        named = WorkDone(cpu_seconds={"hash": time.process_time() - hash_started})
        with hold_run_lock(layout):
            remove_temporaries(layout.path)
            remove_temporaries(layout.shards_dir)
            write_text(layout.settings_path, settings.model_dump_json(indent=2) + "\n")
            set_aside_damaged_shards(layout)
            shards = plan_shards(
                files, layout, shard_size=run.shard_size, retry_failed=retry_failed
            )
            if is_url(store) or run.where == "cluster":
                copy.push()
                work = ExtractWork(
                    store=store, settings=settings, run=run, lease_token=copy.lease_token
                )
                extracting = spread_shards(
                    extract_shard_anywhere_step, shards, work, run, description="preprocess"
                )
                copy.pull(wanted=is_no_crops)
            else:
                extracting = _extract(shards, layout, settings, run)
            counts = collect_tables_step(files, layout, is_complete=is_whole_folder(source, files))
            num_planned = sum(len(shard.video_ids) for shard in shards)
            summary = summarise(
                [named, *extracting],
                counts=counts,
                num_videos_before=len(find_contents(files)) - num_planned,
                wall_seconds=time.perf_counter() - started,
                cpu_seconds=measure_cpu_seconds() - cpu_started,
            )
            write_document(layout.summary_path, make_record(summary))
    create_markdown_artifact(format_markdown(summary), key="preprocess-summary")
    return summary


def _extract(
    shards: Sequence[Shard], layout: StoreLayout, settings: PreprocessSettings, run: RunSettings
) -> list[WorkDone]:
    """Extract shards one after the other, with decode processes that all shards share."""
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with (
        DecodePool(shards, settings, run, finds_copies=True) as pool,
        show_video_progress(total=num_videos, description="preprocess") as advance,
    ):
        return [
            extract_shard_step(
                shard,
                layout,
                pool,
                compress=run.compress_crops,
                on_video=lambda result: advance(result.num_frames_decoded or 0),
            )
            for shard in shards
        ]


def locate_store(store: Path, settings: PreprocessSettings) -> StoreLayout:
    """Locate the crops made with these settings in a store."""
    return locate_preprocessed(store.absolute(), settings_hash(settings))
