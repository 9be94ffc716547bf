"""Finished shards and the files of a source -> the two tables of the store."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa

from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.layout import StoreLayout
from storage.rows import VideoRow
from storage.schemas import LABEL_COLUMNS, MANIFEST, SEQUENCES, VIDEOS
from storage.tables import keep_videos, read_rows, read_table, write_table
from tasks.intake.shards import KnownResult, read_known_results

_log = logging.getLogger(__name__)


def collect_tables(
    files: Sequence[InputFile], layout: StoreLayout, *, is_complete: bool = True
) -> dict[str, int]:
    """Write ``videos.parquet`` and, last, ``manifest.parquet``.

    Args:
        files: this source's files.
        layout: the store.
        is_complete: ``files`` are all files of their folder, so that other rows of this folder
            belong to deleted files and are dropped. Rows of other sources always stay.

    Returns:
        Number of this source's files per status.
    """
    results = read_known_results(layout)
    new_rows = [_make_video_row(file, results) for file in files]
    rows = sorted(
        _read_other_rows(layout, new_rows, is_complete=is_complete) + new_rows,
        key=lambda row: (row["root"], row["path"]),
    )
    write_table(layout.videos_path, rows, VIDEOS)
    write_table(layout.manifest_path, _make_manifest(layout, rows, results), MANIFEST)
    return dict(sorted(Counter(str(row["status"]) for row in new_rows).items()))


def _make_video_row(file: InputFile, results: Mapping[str, KnownResult]) -> VideoRow:
    values = asdict(file)
    if file.status is None:
        values |= results[file.video_id or ""].row
    return VIDEOS.complete(values)


def _read_other_rows(
    layout: StoreLayout, new_rows: Sequence[VideoRow], *, is_complete: bool
) -> list[VideoRow]:
    if not layout.videos_path.exists():
        return []
    new = {(row["root"], row["path"]) for row in new_rows}
    complete_roots = {row["root"] for row in new_rows} if is_complete else set()
    return [
        row
        for row in read_rows(layout.videos_path, VIDEOS)
        if (row["root"], row["path"]) not in new and row["root"] not in complete_roots
    ]


def _make_manifest(
    layout: StoreLayout, videos: Iterable[VideoRow], results: Mapping[str, KnownResult]
) -> pa.Table:
    """Join the labels to the sequences of all shards; a video's come from its result's shard."""
    copies: dict[str, list[VideoRow]] = defaultdict(list)
    for video in videos:
        if video["status"] == Status.OK and video["video_id"] is not None:
            copies[video["video_id"]].append(video)
    known = {video_id: _merge_copies(rows) for video_id, rows in copies.items()}
    in_shard: dict[str, list[str]] = defaultdict(list)
    for video_id in known.keys() & results.keys():
        in_shard[results[video_id].shard].append(video_id)
    tables = [
        keep_videos(read_table(layout.shard_sequences_path(shard), SEQUENCES), in_shard[shard])
        for shard in layout.done_shards()
    ]
    sequences = pa.concat_tables([SEQUENCES.schema.empty_table(), *tables]).sort_by("sequence_id")
    labels = [known[video_id] for video_id in sequences["video_id"].to_pylist()]
    columns = {
        field.name: sequences[field.name]
        if field.name in SEQUENCES.names
        else pa.array([values[field.name] for values in labels], field.type)
        for field in MANIFEST.schema
    }
    return pa.table(columns, schema=MANIFEST.schema)


def _merge_copies(copies: Sequence[VideoRow]) -> dict[str, object]:
    """Merge path and labels of all copies of one content; copies that disagree give no label.

    Only training uses the result: splits read the ties between videos from every copy.
    """
    rows: Sequence[Mapping[str, object]] = copies
    merged: dict[str, object] = {"path": copies[0]["path"]}
    for column in LABEL_COLUMNS:
        merged[column] = next((row[column] for row in rows if row[column] is not None), None)
    if {copy["label"] for copy in copies} >= {0, 1}:
        _log.warning(
            "%s have the same content but different labels: used without a label",
            " and ".join(copy["path"] for copy in copies),
        )
        merged["label"] = None
    return merged
