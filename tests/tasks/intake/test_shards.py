"""What is left to do, from what the finished shards say."""

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import InputFile
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import VIDEO_RESULTS
from storage.tables import write_table
from tasks.intake.shards import plan_shards, read_known_results


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_plan_shards_different_contents_never_share_a_name(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path / "store", "h")
    known = InputFile(root="r", path="x")
    names = set()
    for ids in ("abz", "acz", "az", "abcz"):
        files = [replace(known, path=name, video_id=name) for name in ids]
        names |= {shard.name for shard in plan_shards(files, layout, shard_size=9)}
    assert len(names) == 4


def say(layout: StoreLayout, shard: str, status: str, *, age: int) -> None:
    """A finished shard's word on video ``v``; age 0 is the newest."""
    path = layout.shard_videos_path(shard)
    write_table(path, [{"video_id": "v", "status": status}], VIDEO_RESULTS)
    os.utime(path, ns=(0, 10**18 - age))


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a")])
@pytest.mark.parametrize(
    ("statuses", "winner"),
    [
        (("ok", "timeout", "decode_error"), 0),
        (("timeout", "no_face", "decode_error"), 1),
        (("timeout", "internal_error", "decode_error"), 2),
        (("unreadable", "decode_error", "timeout"), 2),
        (("decode_error", "timeout", "unreadable"), 2),
    ],
)
def test_known_results_success_wins_then_the_newest(
    tmp_path: Path, names: tuple[str, ...], statuses: tuple[str, ...], winner: int
) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    for place, (name, status) in enumerate(zip(names, statuses, strict=True)):
        say(layout, name, status, age=10 - place)
    (known,) = read_known_results(layout).values()
    assert (known.shard, known.row["status"]) == (names[winner], statuses[winner])


def test_plan_shards_nothing_to_do_gives_none(tmp_path: Path) -> None:
    assert plan_shards([], locate_preprocessed(tmp_path, "h"), shard_size=3) == ()


@settings(deadline=None, max_examples=40)
@given(
    numbers=st.lists(st.integers(0, 40), max_size=60),
    done=st.sets(st.integers(0, 40), max_size=20),
    shard_size=st.integers(1, 9),
    shuffle=st.randoms(use_true_random=False),
)
def test_plan_shards_cover_exactly_what_is_not_done(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[int],
    done: set[int],
    shard_size: int,
    shuffle: random.Random,
) -> None:
    layout = locate_preprocessed(tmp_path_factory.mktemp("store"), "h")
    rows = [{"video_id": sha256(str(number).encode()), "status": "ok"} for number in sorted(done)]
    for place, part in enumerate((rows[::2], rows[1::2])):
        write_table(layout.shard_videos_path(f"done{place}"), part, VIDEO_RESULTS)
    files = [
        InputFile(root="/r", path=f"{place:03}", video_id=sha256(str(number).encode()))
        for place, number in enumerate(numbers)
    ]
    shards = plan_shards(files, layout, shard_size=shard_size)
    planned = [video_id for shard in shards for video_id in shard.video_ids]
    assert planned == sorted({sha256(str(number).encode()) for number in set(numbers) - done})
    assert len({shard.name for shard in shards}) == len(shards)
    assert all(len(shard.video_ids) == shard_size for shard in shards[:-1])
    assert all(1 <= len(shard.video_ids) == len(shard.locations) <= shard_size for shard in shards)
    content_of = {f"/r/{file.path}": file.video_id for file in files}
    for shard in shards:
        assert [content_of[path] for path in shard.locations] == list(shard.video_ids)
    assert plan_shards(files, layout, shard_size=shard_size) == shards
    shuffle.shuffle(files)
    again = plan_shards(files, layout, shard_size=shard_size)
    assert [shard.video_ids for shard in again] == [shard.video_ids for shard in shards]
    assert [shard.name for shard in again] == [shard.name for shard in shards]
