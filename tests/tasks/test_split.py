"""The split: nothing connected on two sides, whatever the links; and it stays as it was."""

import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import StoreLayout, preprocessed
from storage.schemas import LABEL_COLUMNS, MANIFEST, SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows, write_table
from tasks.links import components, find_ties
from tasks.near_duplicates import Likeness
from tasks.split import (
    LEFT_OUT,
    assign_splits,
    count_splits,
    effective_settings,
    split,
    split_hash,
)

Video = dict[str, Any]
FEW = st.integers(0, 9).map(str)
LINKS = ("group", "identity", "donor", "pair")
COLUMNS = [name for name in LABEL_COLUMNS if name != "label"]


def video(name: str, label: int, **links: str | None) -> Video:
    path = f"videos/{name}.mp4"
    known = {"video_id": name, "root": "r", "path": path, "label": label, "has_crops": True}
    return {**known, **dict.fromkeys(COLUMNS), **links}


def singles(prefix: str, number: int) -> list[Video]:
    """Unconnected videos, every other one fake."""
    return [video(f"{prefix}{place:03}", place % 2) for place in range(number)]


@st.composite
def linked_videos(draw: st.DrawFn, prefix: str = "l", max_size: int = 30) -> list[Video]:
    """Videos with random links, among them to sources that are there and that are not."""
    number = draw(st.integers(0, max_size))
    names = [f"{prefix}{place:03}" for place in range(number)]
    sources = st.sampled_from(["absent1.mp4", "absent2.mp4", *(f"videos/{n}.mp4" for n in names)])
    rarely = st.integers(0, 3)
    return [
        video(
            name,
            draw(st.integers(0, 1)),
            **{column: draw(FEW) if draw(rarely) == 0 else None for column in LINKS},
            source=draw(sources) if draw(rarely) == 0 else None,
        )
        for name in names
    ]


def components_of(videos: Sequence[Video]) -> list[set[str]]:
    """The truth, by networkx: videos are joined through nodes for what they share."""
    graph = nx.Graph()
    by_path = {item["path"]: item["video_id"] for item in videos}
    for item in videos:
        node = ("video", item["video_id"])
        graph.add_node(node)
        for column in LINKS:
            if item[column] is not None:
                graph.add_edge(node, ("identity" if column == "donor" else column, item[column]))
        source = item["source"]
        if source in by_path:
            graph.add_edge(node, ("video", by_path[source]))
        elif source is not None:
            graph.add_edge(node, ("absent", source))
    parts = nx.connected_components(graph)
    return [{name for kind, name in part if kind == "video"} for part in parts]


def connect(videos: Sequence[Video]) -> list[str]:
    """For each video the smallest id among those that it is connected with."""
    joined = components(len(videos), find_ties(videos))
    return [
        min(videos[place]["video_id"] for place in joined.subset(own)) for own in range(len(videos))
    ]


def parts_of(rows: Sequence[Video]) -> dict[str, str]:
    return {row["video_id"]: row["split"] for row in rows}


def write_manifest(layout: StoreLayout, videos: Sequence[Video]) -> None:
    """One file and two crop sequences for each video."""
    files = [{"status": "ok", **item} for item in videos]
    write_table(layout.videos_path, files, VIDEOS)
    rows = [
        {
            **item,
            "sequence_id": f"{item['video_id']}-{track}",
            "track_id": track,
            "shard": "s",
            "part": 0,
            "row": 0,
            "num_frames": 0,
            "frame_indices": [],
            "pts_seconds": [],
            "boxes_xyxy": [],
            "confidences": [],
            "sharpness": [],
            "brightness": [],
            "keypoints_xy": [],
            "fingerprints": [],
            "face_pixels": 50.0,
        }
        for item in videos
        for track in range(2)
    ]
    write_table(layout.manifest_path, rows, MANIFEST)


@settings(deadline=None, max_examples=1000)
@given(linked=linked_videos(), seed=st.integers(0, 5))
def test_assign_no_connected_videos_in_two_parts(linked: list[Video], seed: int) -> None:
    videos = singles("s", 40) + linked
    rows = assign_splits(videos, SplitSettings(seed=seed))
    assert [row["video_id"] for row in rows] == sorted(item["video_id"] for item in videos)
    parts = parts_of(rows)
    for component in components_of(videos):
        assert len({parts[name] for name in component}) == 1
    labels = {item["video_id"]: item["label"] for item in videos}
    assert all(row["label"] == labels[row["video_id"]] for row in rows)
    both = {(part, label) for part in ("train", "val", "test") for label in (0, 1)}
    assert {(row["split"], row["label"]) for row in rows} == both


@settings(deadline=None, max_examples=60)
@given(linked=linked_videos(), shuffle=st.randoms(use_true_random=False))
def test_connect_finds_the_components_of_networkx(
    linked: list[Video], shuffle: random.Random
) -> None:
    named = dict(zip([item["video_id"] for item in linked], connect(linked), strict=True))
    for component in components_of(linked):
        assert {named[name] for name in component} == {min(component)}
    shuffled = list(linked)
    shuffle.shuffle(shuffled)
    again = dict(zip([item["video_id"] for item in shuffled], connect(shuffled), strict=True))
    assert again == named


def test_connect_source_is_found_by_bare_file_name() -> None:
    videos = [video("a", 0), video("b", 1, source="a.mp4"), video("c", 0)]
    assert connect(videos) == ["a", "a", "c"]


def test_connect_same_absent_source_joins_its_fakes() -> None:
    videos = [video("a", 1, source="x.mp4"), video("b", 1, source="x.mp4"), video("c", 1)]
    assert connect(videos) == ["a", "a", "c"]


def test_connect_same_absent_source_written_two_ways_joins_its_fakes() -> None:
    videos = [video("a", 1, source="x.mp4"), video("b", 1, source="real/x.mp4"), video("c", 1)]
    assert connect(videos) == ["a", "a", "c"]


def test_split_videos_are_tied_through_one_without_crops(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    source = {**video("s", 0, identity="alice"), "path": "real/s.mp4"}
    tied = [video("f", 1, source="real/s.mp4"), video("r", 0, identity="alice")]
    others = singles("x", 40)
    write_manifest(layout, [*tied, *others])
    files = [{"status": "ok", **item} for item in (*tied, *others)]
    write_table(layout.videos_path, [{"status": "no_face", **source}, *files], VIDEOS)
    split.fn(layout, SplitSettings())
    rows = {row["video_id"]: row for row in read_rows(layout.split_path, SPLIT)}
    assert not rows["s"]["has_crops"]
    assert rows["f"]["component"] == rows["r"]["component"] == "f"


def test_split_without_settings_keeps_those_of_the_existing_split(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    write_manifest(layout, singles("s", 40))
    split.fn(layout, SplitSettings(seed=3))
    before = layout.split_path.read_bytes()
    split.fn(layout, None)
    assert layout.split_path.read_bytes() == before


def test_connect_same_word_in_different_columns_joins_nothing() -> None:
    videos = [video("a", 0, group="x"), video("b", 0, identity="x"), video("c", 1, pair="x")]
    assert connect(videos) == ["a", "b", "c"]


def test_connect_ambiguous_source_name_ties_to_every_video_it_can_mean() -> None:
    videos = [video("a", 0), video("b", 0), video("c", 1, source="v.mp4")]
    videos[0]["path"], videos[1]["path"] = "one/v.mp4", "two/v.mp4"
    assert connect(videos) == ["a", "a", "a"]
    videos[2]["source"] = "two/v.mp4"
    assert connect(videos) == ["a", "b", "b"]


@settings(deadline=None, max_examples=25)
@given(
    val=st.sampled_from([0.1, 0.15, 0.2, 0.25]),
    test=st.sampled_from([0.1, 0.15, 0.2, 0.25]),
    seed=st.integers(0, 100),
)
def test_assign_sizes_are_near_the_fractions(val: float, test: float, seed: int) -> None:
    chosen = SplitSettings(val_fraction=val, test_fraction=test, seed=seed)
    counts = count_splits(assign_splits(singles("s", 200), chosen))
    for part, fraction in (("val", val), ("test", test)):
        for label in ("real", "fake"):
            assert abs(counts[part][label] - 100 * fraction) <= 4


def test_assign_another_seed_gives_another_split() -> None:
    videos = singles("s", 60)
    splits = {
        tuple(parts_of(assign_splits(videos, SplitSettings(seed=seed))).items())
        for seed in range(4)
    }
    assert len(splits) == 4


@settings(deadline=None, max_examples=60)
@given(
    old=linked_videos(prefix="o", max_size=15),
    new=linked_videos(prefix="n", max_size=15),
    seed=st.integers(0, 5),
)
def test_assign_again_with_more_videos_keeps_what_was(
    old: list[Video], new: list[Video], seed: int
) -> None:
    chosen = SplitSettings(seed=seed)
    before = parts_of(assign_splits(singles("s", 60) + old, chosen))
    videos = singles("s", 60) + old + new
    after = parts_of(assign_splits(videos, chosen, previous=before))
    assert {name: after[name] for name in before if name in after} == before
    # Whoever is in a part shares nothing with another part, directly or through others in parts.
    used = [item for item in videos if after[item["video_id"]] != LEFT_OUT]
    for component in components_of(used):
        assert len({after[name] for name in component}) == 1
    # Nobody is left out for nothing.
    for component in components_of(videos):
        if LEFT_OUT in {after[name] for name in component}:
            assert len({before[name] for name in component if name in before}) > 1


@settings(deadline=None, max_examples=25)
@given(new=linked_videos(prefix="n", max_size=12), cut=st.integers(0, 12))
def test_assign_new_video_goes_where_it_would_go_alone(new: list[Video], cut: int) -> None:
    # Not where it happens to go in the company of others: order of arrival must not matter.
    before = parts_of(assign_splits(singles("s", 60), SplitSettings()))
    unlinked = [{**item, **dict.fromkeys((*LINKS, "source"))} for item in new]
    together = assign_splits(singles("s", 60) + unlinked, SplitSettings(), previous=before)
    first = assign_splits(singles("s", 60) + unlinked[:cut], SplitSettings(), previous=before)
    later = assign_splits(singles("s", 60) + unlinked, SplitSettings(), previous=parts_of(first))
    assert later == together


def test_assign_new_videos_are_dealt_by_the_fractions() -> None:
    before = parts_of(assign_splits(singles("s", 60), SplitSettings()))
    videos = singles("s", 60) + singles("n", 600)
    after = assign_splits(videos, SplitSettings(), previous=before)
    counts = Counter(row["split"] for row in after if row["video_id"].startswith("n"))
    assert 50 <= counts["val"] <= 130
    assert 50 <= counts["test"] <= 130


def test_assign_link_found_later_between_parts_leaves_out_the_tested_one() -> None:
    videos = singles("s", 60)
    before = parts_of(assign_splits(videos, SplitSettings()))
    one = next(name for name, part in before.items() if part == "train")
    two = next(name for name, part in before.items() if part == "test")
    linked = [{**item, "pair": "p"} if item["video_id"] in {one, two} else item for item in videos]
    after = parts_of(assign_splits(linked, SplitSettings(), previous=before))
    assert {name for name in before if before[name] != after[name]} == {two}
    assert after[two] == LEFT_OUT


def test_assign_new_video_that_would_connect_two_parts_is_left_out() -> None:
    videos = singles("s", 60)
    before = parts_of(assign_splits(videos, SplitSettings()))
    one, two = (next(v for v, part in before.items() if part == p) for p in ("train", "test"))
    people = {one: "alice", two: "bob"}
    named = [{**item, "identity": people.get(item["video_id"])} for item in videos]
    bridge = video("bridge", 1, identity="alice", donor="bob")
    friend = video("friend", 1, identity="alice")
    after = parts_of(assign_splits([*named, bridge, friend], SplitSettings(), previous=before))
    assert after == {**before, "bridge": LEFT_OUT, "friend": "train"}


def test_assign_videos_that_look_alike_stay_together() -> None:
    videos = singles("s", 60)
    chain = [Likeness(f"s{n:03}", f"s{n + 7:03}", "faces") for n in range(0, 28, 7)]
    rows = {
        row["video_id"]: row for row in assign_splits(videos, SplitSettings(), likenesses=chain)
    }
    tied = [rows[f"s{n:03}"] for n in range(0, 35, 7)]
    assert {row["component"] for row in tied} == {"s000"}
    assert len({row["split"] for row in tied}) == 1


def test_assign_video_without_crops_is_in_a_part_and_not_counted() -> None:
    videos = [*singles("s", 40), {**video("z", 1, pair="p"), "has_crops": False}]
    videos[0]["pair"] = "p"
    rows = {row["video_id"]: row for row in assign_splits(videos, SplitSettings())}
    assert rows["z"]["split"] == rows["s000"]["split"]
    assert not rows["z"]["has_crops"]
    assert sum(sum(counts.values()) for counts in count_splits(rows.values()).values()) == 40


DATES = st.dates(dt.date(2024, 1, 1), dt.date(2024, 3, 1)).map(str)


@settings(deadline=None, max_examples=60)
@given(
    dates=st.lists(DATES, min_size=40, max_size=40),
    later=st.lists(DATES, max_size=10),
    linked=linked_videos(max_size=10),
)
def test_assign_by_date_nothing_learned_from_is_newer_than_what_is_tested(
    dates: list[str], later: list[str], linked: list[Video]
) -> None:
    videos = [
        {**item, "date": date}
        for item, date in zip(singles("s", 40) + linked, dates + dates, strict=False)
    ]
    try:
        chosen = effective_settings(SplitSettings(by_date=True), None, videos, [])
        before = parts_of(assign_splits(videos, chosen))
    except StoreError:
        return  # too few days, or a part lacks a label
    begins = {"val": str(chosen.val_from), "test": str(chosen.test_from)}
    new = [
        {**video(f"n{n}", n % 2, identity="5" if n % 3 else None), "date": date}
        for n, date in enumerate(later)
    ]
    after = parts_of(assign_splits(videos + new, chosen, previous=before))
    assert {name: after[name] for name in before} == before
    used = [item for item in videos + new if after[item["video_id"]] != LEFT_OUT]
    for item in used:
        if after[item["video_id"]] == "train":
            assert item["date"] < begins["val"]
        if after[item["video_id"]] == "val":
            assert item["date"] < begins["test"]
    date_of = {item["video_id"]: item["date"] for item in used}
    for component in components_of(used):
        [part] = {after[name] for name in component}
        if part != "train":
            assert max(date_of[name] for name in component) >= begins[part]


def test_assign_newer_video_of_a_learned_person_is_left_out() -> None:
    videos = [{**item, "date": f"2024-01-{n + 1:02}"} for n, item in enumerate(singles("s", 30))]
    videos[0]["identity"] = "alice"
    chosen = effective_settings(SplitSettings(by_date=True), None, videos, [])
    before = parts_of(assign_splits(videos, chosen))
    assert before["s000"] == "train"
    late = {**video("late", 1, identity="alice"), "date": "2024-03-01"}
    early = {**video("early", 1, identity="alice"), "date": "2024-01-02"}
    other = {**video("other", 1), "date": "2024-03-01"}
    after = parts_of(assign_splits([*videos, late, early, other], chosen, previous=before))
    assert after == {**before, "late": LEFT_OUT, "early": "train", "other": "test"}


def test_days_are_chosen_once() -> None:
    videos = [{**item, "date": f"2024-01-{n + 1:02}"} for n, item in enumerate(singles("s", 30))]
    first = effective_settings(SplitSettings(by_date=True), None, videos, [])
    later = [{**item, "date": f"2025-01-{n + 1:02}"} for n, item in enumerate(singles("n", 30))]
    asked = SplitSettings(by_date=True)
    assert effective_settings(asked, first, videos + later, []) == first
    assert effective_settings(None, first, videos + later, []) == first


def test_given_part_of_a_new_video_moves_nobody() -> None:
    videos = singles("s", 60)
    before = parts_of(assign_splits(videos, SplitSettings()))
    names = {part: next(v for v, p in before.items() if p == part) for part in ("train", "test")}
    people = {names["train"]: "alice", names["test"]: "bob"}
    named = [{**item, "identity": people.get(item["video_id"])} for item in videos]
    new = [
        video("n1", 1, identity="alice", split="test"),
        video("n2", 1, identity="bob", split="test"),
        video("n3", 1, identity="alice", donor="bob"),
    ]
    after = parts_of(assign_splits([*named, *new], SplitSettings(), previous=before))
    assert after == {**before, "n1": LEFT_OUT, "n2": "test", "n3": LEFT_OUT}


def test_assign_by_date_names_a_video_without_one() -> None:
    videos = [{**item, "date": "2024-01-01"} for item in singles("s", 20)]
    videos[3]["date"] = None
    with pytest.raises(StoreError, match=r"1 videos have no date, for example videos/s003\.mp4"):
        assign_splits(videos, SplitSettings(by_date=True))


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        ([video(f"{n}", 1) for n in range(20)], ("0 real", "20 fake", "both labels")),
        ([video(f"{n}", n % 2, group="g") for n in range(20)], ("1 unconnected group", "group")),
        ([video("a", 0), video("b", 1)], ("2 videos", "Add videos")),
        (
            [video("a", 0), *(video(f"{n}", 1) for n in range(20))],
            ("1 real", "20 fake"),
        ),
    ],
    ids=["one label", "one group", "two videos", "one real video"],
)
def test_assign_impossible_data_says_what_is_there_and_what_to_do(
    videos: list[Video], words: tuple[str, ...]
) -> None:
    with pytest.raises(StoreError) as caught:
        assign_splits(videos, SplitSettings())
    for word in words:
        assert word in str(caught.value)


def test_assign_part_that_would_lack_a_label_is_named() -> None:
    # All real videos but one are one person's: no part but train can have a real one.
    videos = [video(f"r{n}", 0, identity="x") for n in range(5)] + [video("q", 0)]
    with pytest.raises(StoreError, match=r"the (val|test) part has no real video") as caught:
        assign_splits(videos + [video(f"f{n}", 1) for n in range(20)], SplitSettings())
    assert "fraction" in str(caught.value)


@pytest.mark.parametrize("content", ["empty", "unlabelled"])
def test_split_without_labels_says_how_to_give_them(tmp_path: Path, content: str) -> None:
    layout = preprocessed(tmp_path, "h")
    unlabelled = [{**item, "label": None} for item in singles("s", 20)]
    write_manifest(layout, unlabelled if content == "unlabelled" else [])
    with pytest.raises(StoreError, match="--labels CSV"):
        split.fn(layout, SplitSettings())
    assert not layout.split_path.exists()


def test_split_writes_each_labelled_video_once(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    videos = singles("s", 40)
    write_manifest(layout, [*videos, {**video("u", 0), "label": None}])
    counts = split.fn(layout, SplitSettings())
    rows = read_rows(layout.split_path, SPLIT)
    assert [row["video_id"] for row in rows] == [item["video_id"] for item in videos]
    expected = Counter((row["split"], "fake" if row["label"] else "real") for row in rows)
    assert {(part, label): n for part, by in counts.items() for label, n in by.items()} == expected
    assert read_metadata(layout.split_path)["split_hash"] == split_hash(rows)


@settings(deadline=None, max_examples=15)
@given(linked=linked_videos(), shuffle=st.randoms(use_true_random=False))
def test_split_does_not_depend_on_order_of_rows(
    tmp_path_factory: pytest.TempPathFactory, linked: list[Video], shuffle: random.Random
) -> None:
    videos = singles("s", 40) + linked
    folder = tmp_path_factory.mktemp("order")
    contents = set()
    for name in ("one", "two"):
        layout = preprocessed(folder, name)
        write_manifest(layout, videos)
        split.fn(layout, SplitSettings())
        contents.add(layout.split_path.read_bytes())
        shuffle.shuffle(videos)
    assert len(contents) == 1


def test_split_again_is_the_same_file(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    write_manifest(layout, singles("s", 40))
    split.fn(layout, SplitSettings())
    before = layout.split_path.read_bytes()
    split.fn(layout, SplitSettings())
    assert layout.split_path.read_bytes() == before


def test_split_same_settings_stick_and_other_settings_deal_anew(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    write_manifest(layout, singles("s", 40))
    split.fn(layout, SplitSettings())
    before = parts_of(read_rows(layout.split_path, SPLIT))
    videos = singles("n", 40) + singles("s", 40)
    write_manifest(layout, videos)
    split.fn(layout, SplitSettings())
    sticky = parts_of(read_rows(layout.split_path, SPLIT))
    assert {name: sticky[name] for name in before} == before
    anew = parts_of(
        assign_splits(sorted(videos, key=lambda v: str(v["video_id"])), SplitSettings())
    )
    assert sticky != anew
    other = SplitSettings(seed=1)
    split.fn(layout, other)
    dealt = assign_splits(sorted(videos, key=lambda v: str(v["video_id"])), other)
    assert read_rows(layout.split_path, SPLIT) == dealt


@given(parts=st.dictionaries(st.text("ab", min_size=1), st.sampled_from(["train", "val", "test"])))
def test_split_hash_names_who_is_where(parts: dict[str, str]) -> None:
    rows: list[dict[str, object]] = [
        {"video_id": name, "component": name, "label": 0, "split": part}
        for name, part in parts.items()
    ]
    assert split_hash(rows) == split_hash(reversed(rows))
    moved = [{**row, "split": "val" if row["split"] == "train" else "train"} for row in rows]
    if rows:
        assert split_hash(moved[:1] + rows[1:]) != split_hash(rows)
        assert split_hash(rows[1:]) != split_hash(rows)
        corrected = {**rows[0], "label": 1}
        assert split_hash([corrected, *rows[1:]]) != split_hash(rows)


def test_split_damaged_earlier_split_is_a_store_error(tmp_path: Path) -> None:
    layout = preprocessed(tmp_path, "h")
    write_manifest(layout, singles("s", 40))
    layout.split_path.write_bytes(b"damaged")
    with pytest.raises(StoreError):
        split.fn(layout, SplitSettings())
