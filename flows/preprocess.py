"""Flow: folder of videos -> face crop sequences, a table of files and a manifest."""

from pathlib import Path

from prefect import flow

from reelcheck.config import PreprocessSettings, RunSettings, settings_hash
from storage.atomic import write_text
from storage.layout import StoreLayout, preprocessed
from tasks.collect import collect_tables
from tasks.discover import discover, plan_shards
from tasks.extract import extract_shard
from tasks.faces.weights import configured_face_model_sha256, find_face_model


@flow(name="preprocess", validate_parameters=True)
def preprocess(
    source: Path,
    store: Path,
    labels: Path | None = None,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    exclude: Path | None = None,
) -> dict[str, int]:
    """Make a store of crop sequences from a folder of videos; a second run does what is missing.

    Args:
        source: folder of videos (searched through), or one video.
        store: folder to write to; may hold several preprocessings and sources.
        labels: CSV of path,label[,group,identity,source,pair,generator]; None: folder names.
        settings: what the crops look like; None: the defaults.
        run: how to use the machine; None: the defaults.
        exclude: a folder inside the source that is not input.

    Returns:
        Number of files per status.
    """
    settings = settings or PreprocessSettings(face_model_sha256=configured_face_model_sha256())
    run = run or RunSettings()
    layout = store_layout(store, settings)
    # First, because without it all the rest would be for nothing.
    find_face_model(settings.face_model_sha256)
    files = discover(source, layout, labels=labels, exclude=exclude or store)
    write_text(layout.settings_path, settings.model_dump_json(indent=2) + "\n")
    for shard in plan_shards(files, layout, shard_size=run.shard_size):
        extract_shard(shard, layout, settings, run)
    return collect_tables(files, layout, is_complete=source.is_dir())


def store_layout(store: Path, settings: PreprocessSettings) -> StoreLayout:
    """Where crops made with these settings lie in a store."""
    return preprocessed(store.absolute(), settings_hash(settings))
