"""The split: nothing connected on two sides, whatever the links."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import locate_preprocessed
from storage.schemas import SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows, write_table
from tasks.splits.near_duplicates import Likeness
from tasks.splits.split import assign_splits, count_splits, split_store
from tasks.splits.stored import hash_split
from tasks.splits.ties import connect_files, find_ties


def connect(videos: Sequence[dict[str, Any]]) -> list[str]:
    """For each video the smallest id among those that it is connected with."""
    joined = connect_files(len(videos), find_ties(videos))
    return [
        min(videos[place]["video_id"] for place in joined.subset(own)) for own in range(len(videos))
    ]


@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 5))
def test_assign_no_connected_videos_in_two_splits(
    cases: Any, data: st.DataObject, seed: int
) -> None:
    videos = cases.singles("s", 40) + data.draw(cases.linked_videos())
    rows = assign_splits(videos, SplitSettings(seed=seed))
    assert [row["video_id"] for row in rows] == sorted(item["video_id"] for item in videos)
    splits = cases.parts_of(rows)
    for component in cases.components_of(videos):
        assert len({splits[name] for name in component}) == 1
    labels = {item["video_id"]: item["label"] for item in videos}
    assert all(row["label"] == labels[row["video_id"]] for row in rows)
    both = {(split, label) for split in ("train", "val", "test") for label in (0, 1)}
    assert {(row["split"], row["label"]) for row in rows} == both


@settings(deadline=None, max_examples=60)
@given(data=st.data(), shuffle=st.randoms(use_true_random=False))
def test_connect_finds_the_components_of_networkx(
    cases: Any, data: st.DataObject, shuffle: random.Random
) -> None:
    linked = data.draw(cases.linked_videos())
    named = dict(zip([item["video_id"] for item in linked], connect(linked), strict=True))
    for component in cases.components_of(linked):
        assert {named[name] for name in component} == {min(component)}
    shuffled = list(linked)
    shuffle.shuffle(shuffled)
    again = dict(zip([item["video_id"] for item in shuffled], connect(shuffled), strict=True))
    assert again == named


def test_connect_source_is_found_by_bare_file_name(cases: Any) -> None:
    videos = [cases.video("a", 0), cases.video("b", 1, source="a.mp4"), cases.video("c", 0)]
    assert connect(videos) == ["a", "a", "c"]


def test_connect_same_absent_source_joins_its_fakes(cases: Any) -> None:
    videos = [
        cases.video("a", 1, source="x.mp4"),
        cases.video("b", 1, source="x.mp4"),
        cases.video("c", 1),
    ]
    assert connect(videos) == ["a", "a", "c"]


def test_connect_same_absent_source_written_two_ways_joins_its_fakes(cases: Any) -> None:
    videos = [
        cases.video("a", 1, source="x.mp4"),
        cases.video("b", 1, source="real/x.mp4"),
        cases.video("c", 1),
    ]
    assert connect(videos) == ["a", "a", "c"]


def test_split_videos_are_tied_through_one_without_crops(cases: Any, tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    source = {**cases.video("s", 0, identity="alice"), "path": "real/s.mp4"}
    tied = [cases.video("f", 1, source="real/s.mp4"), cases.video("r", 0, identity="alice")]
    others = cases.singles("x", 40)
    cases.write_manifest(layout, [*tied, *others])
    files = [{"status": "ok", **item} for item in (*tied, *others)]
    write_table(layout.videos_path, [{"status": "no_face", **source}, *files], VIDEOS)
    split_store(layout, SplitSettings())
    rows = {row["video_id"]: row for row in read_rows(layout.split_path, SPLIT)}
    assert not rows["s"]["has_crops"]
    assert rows["f"]["component"] == rows["r"]["component"] == "f"


def test_connect_same_word_in_different_columns_joins_nothing(cases: Any) -> None:
    videos = [
        cases.video("a", 0, group="x"),
        cases.video("b", 0, identity="x"),
        cases.video("c", 1, pair="x"),
    ]
    assert connect(videos) == ["a", "b", "c"]


def test_connect_ambiguous_source_name_ties_to_every_video_it_can_mean(cases: Any) -> None:
    videos = [cases.video("a", 0), cases.video("b", 0), cases.video("c", 1, source="v.mp4")]
    videos[0]["path"], videos[1]["path"] = "one/v.mp4", "two/v.mp4"
    assert connect(videos) == ["a", "a", "a"]
    videos[2]["source"] = "two/v.mp4"
    assert connect(videos) == ["a", "b", "b"]


@settings(deadline=None, max_examples=10)
@given(
    val=st.sampled_from([0.1, 0.15, 0.2, 0.25]),
    test=st.sampled_from([0.1, 0.15, 0.2, 0.25]),
    seed=st.integers(0, 100),
)
def test_assign_sizes_are_near_the_fractions(
    cases: Any, val: float, test: float, seed: int
) -> None:
    chosen = SplitSettings(val_fraction=val, test_fraction=test, seed=seed)
    counts = count_splits(assign_splits(cases.singles("s", 200), chosen))
    for split, fraction in (("val", val), ("test", test)):
        for label in ("real", "fake"):
            assert abs(counts[split][label] - 100 * fraction) <= 4


def test_assign_another_seed_gives_another_split(cases: Any) -> None:
    videos = cases.singles("s", 60)
    splits = {
        tuple(cases.parts_of(assign_splits(videos, SplitSettings(seed=seed))).items())
        for seed in range(4)
    }
    assert len(splits) == 4


def test_assign_videos_that_look_alike_stay_together(cases: Any) -> None:
    videos = cases.singles("s", 60)
    chain = [Likeness(f"s{n:03}", f"s{n + 7:03}", "faces") for n in range(0, 28, 7)]
    rows = {
        row["video_id"]: row for row in assign_splits(videos, SplitSettings(), likenesses=chain)
    }
    tied = [rows[f"s{n:03}"] for n in range(0, 35, 7)]
    assert {row["component"] for row in tied} == {"s000"}
    assert len({row["split"] for row in tied}) == 1


def test_assign_video_without_crops_is_in_a_split_and_not_counted(cases: Any) -> None:
    videos = [*cases.singles("s", 40), {**cases.video("z", 1, pair="p"), "has_crops": False}]
    videos[0]["pair"] = "p"
    rows = {row["video_id"]: row for row in assign_splits(videos, SplitSettings())}
    assert rows["z"]["split"] == rows["s000"]["split"]
    assert not rows["z"]["has_crops"]
    assert sum(sum(counts.values()) for counts in count_splits(rows.values()).values()) == 40


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ([{"label": 1}] * 20, ("0 real", "20 fake", "both labels")),
        ([{"label": n % 2, "group": "g"} for n in range(20)], ("1 unconnected group", "group")),
        ([{"label": 0}, {"label": 1}], ("2 videos", "Add videos")),
        ([{"label": 0}, *[{"label": 1}] * 20], ("1 real", "20 fake")),
        (
            [{"label": n % 2, "group": f"{n // 6}"} for n in range(12)],
            ("12 videos (6 real, 6 fake)", "2 with real videos, 2 with fake", "3 groups each"),
        ),
    ],
    ids=["one label", "one group", "two videos", "one real video", "two groups"],
)
def test_assign_impossible_data_says_what_is_there_and_what_to_do(
    cases: Any, links: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    videos = [cases.video(f"{n}", **each) for n, each in enumerate(links)]
    with pytest.raises(StoreError) as caught:
        assign_splits(videos, SplitSettings())
    for word in words:
        assert word in str(caught.value)


def test_assign_split_that_would_lack_a_label_is_named(cases: Any) -> None:
    # All real videos but one are one person's: no split but train can have a real one.
    videos = [cases.video(f"r{n}", 0, identity="x") for n in range(5)] + [cases.video("q", 0)]
    with pytest.raises(StoreError, match=r"the (val|test) split has no real video") as caught:
        assign_splits(videos + [cases.video(f"f{n}", 1) for n in range(20)], SplitSettings())
    assert "fraction" in str(caught.value)


@pytest.mark.parametrize("content", ["empty", "unlabelled"])
def test_split_without_labels_says_how_to_give_them(
    cases: Any, tmp_path: Path, content: str
) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    unlabelled = [{**item, "label": None} for item in cases.singles("s", 20)]
    cases.write_manifest(layout, unlabelled if content == "unlabelled" else [])
    with pytest.raises(StoreError, match="--labels CSV"):
        split_store(layout, SplitSettings())
    assert not layout.split_path.exists()


def test_split_writes_each_labelled_video_once(cases: Any, tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    videos = cases.singles("s", 40)
    cases.write_manifest(layout, [*videos, {**cases.video("u", 0), "label": None}])
    counts = split_store(layout, SplitSettings())
    rows = read_rows(layout.split_path, SPLIT)
    assert [row["video_id"] for row in rows] == [item["video_id"] for item in videos]
    expected = Counter((row["split"], "fake" if row["label"] else "real") for row in rows)
    assert {
        (split, label): n for split, by in counts.items() for label, n in by.items()
    } == expected
    assert read_metadata(layout.split_path)["split_hash"] == hash_split(rows)


@settings(deadline=None, max_examples=15)
@given(data=st.data(), shuffle=st.randoms(use_true_random=False))
def test_split_does_not_depend_on_order_of_rows(
    cases: Any,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    shuffle: random.Random,
) -> None:
    videos = cases.singles("s", 40) + data.draw(cases.linked_videos())
    folder = tmp_path_factory.mktemp("order")
    contents = set()
    for name in ("one", "two"):
        layout = locate_preprocessed(folder, name)
        cases.write_manifest(layout, videos)
        split_store(layout, SplitSettings())
        contents.add(layout.split_path.read_bytes())
        shuffle.shuffle(videos)
    assert len(contents) == 1


@given(splits=st.dictionaries(st.text("ab", min_size=1), st.sampled_from(["train", "val", "test"])))
def test_split_hash_names_who_is_where(splits: dict[str, str]) -> None:
    rows: list[dict[str, object]] = [
        {"video_id": name, "component": name, "label": 0, "split": split}
        for name, split in splits.items()
    ]
    assert hash_split(rows) == hash_split(reversed(rows))
    moved = [{**row, "split": "val" if row["split"] == "train" else "train"} for row in rows]
    if rows:
        assert hash_split(moved[:1] + rows[1:]) != hash_split(rows)
        assert hash_split(rows[1:]) != hash_split(rows)
        corrected = {**rows[0], "label": 1}
        assert hash_split([corrected, *rows[1:]]) != hash_split(rows)


def test_split_damaged_earlier_split_is_a_store_error(cases: Any, tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    cases.write_manifest(layout, cases.singles("s", 40))
    layout.split_path.write_bytes(b"damaged")
    with pytest.raises(StoreError):
        split_store(layout, SplitSettings())
