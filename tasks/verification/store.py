"""What can be checked in a store: each table, and each crop sequence."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from reelcheck.errors import DamagedError
from storage.checked.settings import read_preprocessing
from storage.crops import CropReader
from storage.hashing import is_named_after_content
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, SEQUENCES, SPLIT, VIDEO_RESULTS, VIDEOS
from storage.tables import read_metadata, read_rows
from tasks.splits.stored import hash_split
from tasks.verification.checks import (
    Check,
    check_document,
    check_table,
    keep_existing,
    list_sum_checks,
    require_same,
)


def list_store_checks(layout: StoreLayout) -> Iterator[Check]:
    """List the checks of one preprocessing of a store."""
    yield Check(layout.settings_path, partial(read_preprocessing, layout))
    yield check_table(layout.videos_path, VIDEOS)
    yield check_table(layout.manifest_path, MANIFEST)
    yield from keep_existing(
        iter(
            (
                Check(layout.split_path, partial(require_split, layout.split_path)),
                check_document(layout.summary_path),
                check_document(layout.audit_path),
            )
        )
    )
    for shard in layout.done_shards():
        yield from _list_shard_checks(layout, shard)
    for path in sorted(layout.path.glob("features/*/*.safetensors")):
        yield Check(path, partial(_require_name_of_content, path), marker=path)
    yield from list_sum_checks(layout.path)


def require_split(path: Path) -> None:
    """Make sure that a split is the one that its hash names.

    Raises:
        DamagedError: the table is not as it was written, or of another hash.
    """
    wanted = read_metadata(path)["split_hash"]
    require_same(path, found=hash_split(read_rows(path, SPLIT)), wanted=wanted, what="its hash")


def _list_shard_checks(layout: StoreLayout, shard: str) -> Iterator[Check]:
    marker = layout.shard_videos_path(shard)
    yield check_table(marker, VIDEO_RESULTS, marker=marker)
    sequences = layout.shard_sequences_path(shard)
    yield Check(sequences, partial(_require_sequences, layout, shard), marker)
    for path in layout.crops_paths(shard):
        yield Check(path, partial(_require_crops, layout, shard, path), marker)


def _require_sequences(layout: StoreLayout, shard: str) -> None:
    """Make sure that a shard's table is whole, and that its crop files are there."""
    path = layout.shard_sequences_path(shard)
    numbers = {row["crop_file"] for row in read_rows(path, SEQUENCES)}
    for number in sorted(numbers):
        crops = layout.crops_path(shard, number)
        if not crops.exists():
            raise DamagedError(
                f"{crops} is missing; delete {layout.shard_videos_path(shard)} and run preprocess "
                "again"
            )


def _require_crops(layout: StoreLayout, shard: str, path: Path) -> None:
    """Make sure that every sequence of a crop file is as it was written, and no other."""
    columns = ("sequence_id", "crop_file", "crop_row")
    known: dict[Path, dict[int, str]] = defaultdict(dict)
    for row in read_rows(layout.shard_sequences_path(shard), SEQUENCES, columns=columns):
        known[layout.crops_path(shard, row["crop_file"])][row["crop_row"]] = row["sequence_id"]
    crops = CropReader(path)
    require_same(path, found=len(crops), wanted=len(known[path]), what="its number of sequences")
    for crop_row, sequence_id in known[path].items():
        crops.read(crop_row, sequence_id=sequence_id)


def _require_name_of_content(path: Path) -> None:
    if not is_named_after_content(path):
        raise DamagedError(f"{path} is not as it was written; the next training makes it again")
