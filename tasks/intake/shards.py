"""Contents that are still to be processed -> shards."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reelcheck.records import InputFile, Shard
from reelcheck.status import FAILURES, RETRIED
from storage.layout import StoreLayout
from storage.rows import VideoResultRow
from storage.schemas import VIDEO_RESULTS
from storage.tables import read_rows


@dataclass(frozen=True)
class KnownResult:
    """What one finished shard says of one content."""

    shard: str
    row: VideoResultRow


def find_contents(files: Iterable[InputFile]) -> dict[str, str]:
    """List the contents that can be opened: video id -> one location, sorted by id."""
    locations: dict[str, str] = {}
    for file in files:
        if file.video_id is not None and file.status is None:
            locations.setdefault(file.video_id, file.location)
    return dict(sorted(locations.items()))


def plan_shards(
    files: Iterable[InputFile],
    layout: StoreLayout,
    *,
    shard_size: int,
    retry_failed: bool = False,
) -> tuple[Shard, ...]:
    """Group the contents that are still to be processed; the same files give the same shards.

    A content is processed if no finished shard holds it, if its status says nothing about the
    video itself (``RETRIED``), or, with ``retry_failed``, if it failed (``FAILURES``).
    """
    again = RETRIED | FAILURES if retry_failed else RETRIED
    done = {
        video_id
        for video_id, known in read_known_results(layout).items()
        if known.row["status"] not in again
    }
    contents = find_contents(files)
    todo = {key: location for key, location in contents.items() if key not in done}
    return make_shards(todo, shard_size=shard_size)


def make_shards(contents: Mapping[str, str], *, shard_size: int) -> tuple[Shard, ...]:
    """Group contents into shards.

    Args:
        contents: video id -> one location of the content.
        shard_size: contents of each shard.
    """
    items = sorted(contents.items())
    chunks = [items[start : start + shard_size] for start in range(0, len(items), shard_size)]
    return tuple(
        _make_shard(chunk, f"{number}/{len(chunks)}") for number, chunk in enumerate(chunks, 1)
    )


def read_known_results(layout: StoreLayout) -> dict[str, KnownResult]:
    """Read what finished shards say of each content: video id -> result.

    Where several shards hold a video, a result wins over a failure, and a newer failure wins over
    an older one.
    """
    results: dict[str, KnownResult] = {}
    for shard in _sort_by_age(layout):
        for row in read_rows(layout.shard_videos_path(shard), VIDEO_RESULTS):
            known = results.get(row["video_id"])
            if known is None or known.row["status"] in RETRIED | FAILURES:
                results[row["video_id"]] = KnownResult(shard, row)
    return results


def _sort_by_age(layout: StoreLayout) -> list[str]:
    """Sort the finished shards, the oldest first."""

    def write_time(shard: str) -> tuple[int, str]:
        return layout.shard_videos_path(shard).stat().st_mtime_ns, shard

    return sorted(layout.done_shards(), key=write_time)


def _make_shard(items: Sequence[tuple[str, str]], position: str) -> Shard:
    ids = "\n".join(video_id for video_id, _ in items)
    return Shard(
        # Named after its contents: no two different shards share a name.
        name=hashlib.sha256(ids.encode()).hexdigest()[:16],
        position=position,
        video_ids=tuple(video_id for video_id, _ in items),
        locations=tuple(location for _, location in items),
    )
