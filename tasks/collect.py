"""Finished shards + what is known of the files -> the two tables that everybody reads."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
from prefect import task

from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.layout import StoreLayout
from storage.schemas import LABEL_COLUMNS, MANIFEST, SEQUENCES, VIDEOS
from storage.tables import Row, only_videos, read_rows, read_table, write_table
from tasks.discover import KnownResult, known_results

_log = logging.getLogger(__name__)


@task(name="collect tables")
def collect_tables(
    files: Sequence[InputFile], layout: StoreLayout, *, is_complete: bool = True
) -> dict[str, int]:
    """Write ``videos.parquet`` and, last, ``manifest.parquet``.

    Args:
        files: this source's files.
        layout: the store.
        is_complete: the files are all of their folder, so that rows of others in it are of files
            that are gone, and dropped. Rows of other sources stay in any case.

    Returns:
        Number of this source's files per status.
    """
    results = known_results(layout)
    new_rows = [_video_row(file, results) for file in files]
    rows = sorted(
        _other_rows(layout, new_rows, is_complete=is_complete) + new_rows,
        key=lambda row: (row["root"], row["path"]),
    )
    write_table(layout.videos_path, rows, VIDEOS)
    write_table(layout.manifest_path, _manifest(layout, rows, results), MANIFEST)
    return dict(sorted(Counter(str(row["status"]) for row in new_rows).items()))


def _video_row(file: InputFile, results: Mapping[str, KnownResult]) -> Row:
    row = asdict(file)
    if file.status is None:
        row |= results[file.video_id or ""].row
    return row


def _other_rows(layout: StoreLayout, new_rows: Sequence[Row], *, is_complete: bool) -> list[Row]:
    if not layout.videos_path.exists():
        return []
    new = {(row["root"], row["path"]) for row in new_rows}
    complete_roots = {row["root"] for row in new_rows} if is_complete else set()
    return [
        row
        for row in read_rows(layout.videos_path, VIDEOS)
        if (row["root"], row["path"]) not in new and row["root"] not in complete_roots
    ]


def _manifest(
    layout: StoreLayout, videos: Iterable[Row], results: Mapping[str, KnownResult]
) -> pa.Table:
    """Sequences of all shards, each video's from the shard that has its result, with labels."""
    copies: dict[str, list[Row]] = defaultdict(list)
    for video in videos:
        if video["status"] == Status.OK:
            copies[video["video_id"]].append(video)
    known = {video_id: _merged(rows) for video_id, rows in copies.items()}
    in_shard: dict[str, list[str]] = defaultdict(list)
    for video_id in known.keys() & results.keys():
        in_shard[results[video_id].shard].append(video_id)
    tables = [
        only_videos(read_table(layout.shard_sequences_path(shard), SEQUENCES), in_shard[shard])
        for shard in layout.done_shards()
    ]
    sequences = pa.concat_tables([SEQUENCES.empty_table(), *tables]).sort_by("sequence_id")
    of_rows = [known[video_id] for video_id in sequences["video_id"].to_pylist()]
    columns = {
        field.name: sequences[field.name]
        if field.name in SEQUENCES.names
        else pa.array([own[field.name] for own in of_rows], field.type)
        for field in MANIFEST
    }
    return pa.table(columns, schema=MANIFEST)


def _merged(copies: Sequence[Row]) -> Row:
    """What is known of one content from all its copies; copies that disagree leave no label.

    For training. What ties videos together is read from every copy (``tasks.split``).
    """
    merged: Row = {"path": copies[0]["path"]}
    for column in LABEL_COLUMNS:
        merged[column] = next((c[column] for c in copies if c[column] is not None), None)
    if {copy["label"] for copy in copies} >= {0, 1}:
        _log.warning(
            "%s have the same content but different labels: used without a label",
            " and ".join(copy["path"] for copy in copies),
        )
        merged["label"] = None
    return merged
