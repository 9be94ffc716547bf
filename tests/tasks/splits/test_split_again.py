"""Splitting again, and by date: what is assigned stays where it is."""

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import locate_preprocessed
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks.splits.split import LEFT_OUT, assign_splits, resolve_settings, split_store

DATES = st.dates(dt.date(2024, 1, 1), dt.date(2024, 3, 1)).map(str)


def test_split_without_settings_keeps_those_of_the_existing_split(
    cases: Any, tmp_path: Path
) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    cases.write_manifest(layout, cases.singles("s", 40))
    split_store(layout, SplitSettings(seed=3))
    before = layout.split_path.read_bytes()
    split_store(layout, None)
    assert layout.split_path.read_bytes() == before


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 5))
def test_assign_again_with_more_videos_keeps_what_was(
    cases: Any, data: st.DataObject, seed: int
) -> None:
    old, new = (data.draw(cases.linked_videos(prefix, max_size=15)) for prefix in "on")
    chosen = SplitSettings(seed=seed)
    before = cases.parts_of(assign_splits(cases.singles("s", 60) + old, chosen))
    videos = cases.singles("s", 60) + old + new
    after = cases.parts_of(assign_splits(videos, chosen, previous=before))
    assert {name: after[name] for name in before if name in after} == before
    # Whoever is in a split shares nothing with another split, directly or through others in splits.
    used = [item for item in videos if after[item["video_id"]] != LEFT_OUT]
    for component in cases.components_of(used):
        assert len({after[name] for name in component}) == 1
    # Nobody is left out for nothing.
    for component in cases.components_of(videos):
        if LEFT_OUT in {after[name] for name in component}:
            assert len({before[name] for name in component if name in before}) > 1


@settings(deadline=None, max_examples=25)
@given(number=st.integers(0, 12), cut=st.integers(0, 12))
def test_assign_new_video_goes_where_it_would_go_alone(cases: Any, number: int, cut: int) -> None:
    # Not where it happens to go in the company of others: order of arrival must not matter.
    before = cases.parts_of(assign_splits(cases.singles("s", 60), SplitSettings()))
    new = cases.singles("n", number)
    together = assign_splits(cases.singles("s", 60) + new, SplitSettings(), previous=before)
    first = assign_splits(cases.singles("s", 60) + new[:cut], SplitSettings(), previous=before)
    later = assign_splits(
        cases.singles("s", 60) + new, SplitSettings(), previous=cases.parts_of(first)
    )
    assert later == together


def test_assign_new_videos_are_dealt_by_the_fractions(cases: Any) -> None:
    before = cases.parts_of(assign_splits(cases.singles("s", 60), SplitSettings()))
    videos = cases.singles("s", 60) + cases.singles("n", 600)
    after = assign_splits(videos, SplitSettings(), previous=before)
    counts = Counter(row["split"] for row in after if row["video_id"].startswith("n"))
    assert 50 <= counts["val"] <= 130
    assert 50 <= counts["test"] <= 130


def test_assign_link_found_later_between_splits_leaves_out_the_tested_one(cases: Any) -> None:
    videos = cases.singles("s", 60)
    before = cases.parts_of(assign_splits(videos, SplitSettings()))
    one = next(name for name, split in before.items() if split == "train")
    two = next(name for name, split in before.items() if split == "test")
    linked = [{**item, "pair": "p"} if item["video_id"] in {one, two} else item for item in videos]
    after = cases.parts_of(assign_splits(linked, SplitSettings(), previous=before))
    assert {name for name in before if before[name] != after[name]} == {two}
    assert after[two] == LEFT_OUT


def test_assign_new_video_that_would_connect_two_splits_is_left_out(cases: Any) -> None:
    videos = cases.singles("s", 60)
    before = cases.parts_of(assign_splits(videos, SplitSettings()))
    one, two = (next(v for v, split in before.items() if split == p) for p in ("train", "test"))
    people = {one: "alice", two: "bob"}
    named = [{**item, "identity": people.get(item["video_id"])} for item in videos]
    bridge = cases.video("bridge", 1, identity="alice", donor="bob")
    friend = cases.video("friend", 1, identity="alice")
    after = cases.parts_of(
        assign_splits([*named, bridge, friend], SplitSettings(), previous=before)
    )
    assert after == {**before, "bridge": LEFT_OUT, "friend": "train"}


@settings(deadline=None, max_examples=60)
@given(
    dates=st.lists(DATES, min_size=40, max_size=40),
    later=st.lists(DATES, max_size=10),
    data=st.data(),
)
def test_assign_by_date_nothing_learned_from_is_newer_than_what_is_tested(
    cases: Any, dates: list[str], later: list[str], data: st.DataObject
) -> None:
    linked = data.draw(cases.linked_videos(max_size=10))
    videos = [
        {**item, "date": date}
        for item, date in zip(cases.singles("s", 40) + linked, dates + dates, strict=False)
    ]
    try:
        chosen = resolve_settings(SplitSettings(by_date=True), None, videos, [])
        before = cases.parts_of(assign_splits(videos, chosen))
    except StoreError:
        return  # too few days, or a split lacks a label
    begins = {"val": str(chosen.val_from), "test": str(chosen.test_from)}
    new = [
        {**cases.video(f"n{n}", n % 2, identity="5" if n % 3 else None), "date": date}
        for n, date in enumerate(later)
    ]
    after = cases.parts_of(assign_splits(videos + new, chosen, previous=before))
    assert {name: after[name] for name in before} == before
    used = [item for item in videos + new if after[item["video_id"]] != LEFT_OUT]
    for item in used:
        if after[item["video_id"]] == "train":
            assert item["date"] < begins["val"]
        if after[item["video_id"]] == "val":
            assert item["date"] < begins["test"]
    date_of = {item["video_id"]: item["date"] for item in used}
    for component in cases.components_of(used):
        [split] = {after[name] for name in component}
        if split != "train":
            assert max(date_of[name] for name in component) >= begins[split]


def test_assign_newer_video_of_a_learned_person_is_left_out(cases: Any) -> None:
    videos = [
        {**item, "date": f"2024-01-{n + 1:02}"} for n, item in enumerate(cases.singles("s", 30))
    ]
    videos[0]["identity"] = "alice"
    chosen = resolve_settings(SplitSettings(by_date=True), None, videos, [])
    before = cases.parts_of(assign_splits(videos, chosen))
    assert before["s000"] == "train"
    late = {**cases.video("late", 1, identity="alice"), "date": "2024-03-01"}
    early = {**cases.video("early", 1, identity="alice"), "date": "2024-01-02"}
    other = {**cases.video("other", 1), "date": "2024-03-01"}
    after = cases.parts_of(assign_splits([*videos, late, early, other], chosen, previous=before))
    assert after == {**before, "late": LEFT_OUT, "early": "train", "other": "test"}


def test_days_are_chosen_once(cases: Any) -> None:
    videos = [
        {**item, "date": f"2024-01-{n + 1:02}"} for n, item in enumerate(cases.singles("s", 30))
    ]
    first = resolve_settings(SplitSettings(by_date=True), None, videos, [])
    later = [
        {**item, "date": f"2025-01-{n + 1:02}"} for n, item in enumerate(cases.singles("n", 30))
    ]
    asked = SplitSettings(by_date=True)
    assert resolve_settings(asked, first, videos + later, []) == first
    assert resolve_settings(None, first, videos + later, []) == first


def test_given_split_of_a_new_video_moves_nobody(cases: Any) -> None:
    videos = cases.singles("s", 60)
    before = cases.parts_of(assign_splits(videos, SplitSettings()))
    names = {split: next(v for v, p in before.items() if p == split) for split in ("train", "test")}
    people = {names["train"]: "alice", names["test"]: "bob"}
    named = [{**item, "identity": people.get(item["video_id"])} for item in videos]
    new = [
        cases.video("n1", 1, identity="alice", split="test"),
        cases.video("n2", 1, identity="bob", split="test"),
        cases.video("n3", 1, identity="alice", donor="bob"),
    ]
    after = cases.parts_of(assign_splits([*named, *new], SplitSettings(), previous=before))
    assert after == {**before, "n1": LEFT_OUT, "n2": "test", "n3": LEFT_OUT}


def test_assign_by_date_names_a_video_without_one(cases: Any) -> None:
    videos = [{**item, "date": "2024-01-01"} for item in cases.singles("s", 20)]
    videos[3]["date"] = None
    with pytest.raises(StoreError, match=r"1 videos have no date, for example videos/s003\.mp4"):
        assign_splits(videos, SplitSettings(by_date=True))


def test_split_again_is_the_same_file(cases: Any, tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    cases.write_manifest(layout, cases.singles("s", 40))
    split_store(layout, SplitSettings())
    before = layout.split_path.read_bytes()
    split_store(layout, SplitSettings())
    assert layout.split_path.read_bytes() == before


def test_split_same_settings_stick_and_other_settings_deal_anew(cases: Any, tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    cases.write_manifest(layout, cases.singles("s", 40))
    split_store(layout, SplitSettings())
    before = cases.parts_of(read_rows(layout.split_path, SPLIT))
    videos = cases.singles("n", 40) + cases.singles("s", 40)
    cases.write_manifest(layout, videos)
    split_store(layout, SplitSettings())
    sticky = cases.parts_of(read_rows(layout.split_path, SPLIT))
    assert {name: sticky[name] for name in before} == before
    anew = cases.parts_of(
        assign_splits(sorted(videos, key=lambda v: str(v["video_id"])), SplitSettings())
    )
    assert sticky != anew
    other = SplitSettings(seed=1)
    split_store(layout, other)
    dealt = assign_splits(sorted(videos, key=lambda v: str(v["video_id"])), other)
    assert read_rows(layout.split_path, SPLIT) == dealt
