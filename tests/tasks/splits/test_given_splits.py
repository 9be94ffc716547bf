"""Given splits are kept, a split that nobody was given is taken out of train, a leak is refused."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from reelcheck.records import InputFile
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST, SEQUENCES, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table
from tasks.intake.labels import label_files
from tasks.preprocessing.collect import collect_tables
from tasks.splits.split import assign_splits, split_store

Video = dict[str, Any]
SPLITS = ("train", "val", "test")
BOTH = {"real": 0, "fake": 1}


def videos_of(tree: dict[str, int], *, root: str = "/data") -> list[Video]:
    """So many videos in each folder, labelled as folders are."""
    files = [
        InputFile(root=root, path=f"{folder}/{place:03}.jpg", video_id=f"{folder}/{place:03}")
        for folder, number in tree.items()
        for place in range(number)
    ]
    return [{**vars(file), "has_crops": True} for file in label_files(files, None)]


def both(folder: str, number: int) -> dict[str, int]:
    """A folder with as many real videos as fake ones."""
    return {f"{folder}/Real": number, f"{folder}/Fake": number}


def splits_of(rows: Sequence[Video]) -> dict[str, str]:
    return {row["video_id"]: row["split"] for row in rows}


def folder_of(video_id: str) -> str:
    return video_id.split("/", maxsplit=1)[0]


def counts_of(splits: dict[str, str]) -> Counter[tuple[str, str]]:
    """Videos by first folder and split."""
    return Counter((folder_of(video_id), split) for video_id, split in splits.items())


def test_given_three_splits_are_kept_whatever_their_sizes() -> None:
    videos = videos_of(both("train", 3) | both("Validation", 20) | both("TEST", 9))
    for seed in range(3):
        splits = splits_of(assign_splits(videos, SplitSettings(seed=seed)))
        assert counts_of(splits) == {
            ("train", "train"): 6,
            ("Validation", "val"): 40,
            ("TEST", "test"): 18,
        }


@pytest.mark.parametrize("missing", ["val", "test"])
def test_given_to_nobody_is_taken_out_of_train(missing: str) -> None:
    other = "test" if missing == "val" else "val"
    videos = videos_of(both("train", 100) | both(other, 15))
    rows = assign_splits(videos, SplitSettings())
    counts = counts_of(splits_of(rows))
    assert counts[other, other] == 30
    assert counts["train", other] == 0
    assert 24 <= counts["train", missing] <= 40
    taken = [row["label"] for row in rows if row["split"] == missing]
    assert abs(sum(taken) - len(taken) / 2) <= 2


def test_given_to_train_alone_is_dealt_as_without_folders() -> None:
    inside = videos_of(both("train", 30))
    outside = [{**video, "split": None} for video in inside]
    assert assign_splits(inside, SplitSettings()) == assign_splits(outside, SplitSettings())


def test_given_to_nobody_comes_whole_components() -> None:
    videos = videos_of(both("train", 40) | both("test", 10))
    for video in videos:
        if video["split"] == "train":
            video["group"] = str(int(video["video_id"][-3:]) // 4)
    splits = splits_of(assign_splits(videos, SplitSettings()))
    by_group: dict[str, set[str]] = {}
    for video in videos:
        if video["group"] is not None:
            by_group.setdefault(video["group"], set()).add(splits[video["video_id"]])
    assert {len(found) for found in by_group.values()} == {1}
    assert {"train", "val"} == set().union(*by_group.values())


def test_given_splits_can_be_ignored() -> None:
    videos = videos_of(both("train", 30) | both("test", 30))
    ignored = assign_splits(videos, SplitSettings(honour_given=False))
    bare = [{**video, "split": None} for video in videos]
    assert ignored == assign_splits(bare, SplitSettings())
    assert counts_of(splits_of(ignored))["train", "test"] > 0


def test_unassigned_videos_join_their_component_or_are_dealt() -> None:
    tree = both("train", 20) | both("val", 5) | both("test", 5) | both("more", 100)
    videos = videos_of(tree)
    tied = videos_of({"tied/fake": 1})[0] | {"source": "test/Real/000.jpg"}
    splits = splits_of(assign_splits([*videos, tied], SplitSettings()))
    assert splits["tied/fake/000"] == "test"
    counts = counts_of(splits)
    assert (counts["train", "train"], counts["val", "val"]) == (40, 10)
    assert counts["more", "train"] > 100
    assert counts["more", "val"] > 10
    assert counts["more", "test"] > 10


@settings(deadline=None, max_examples=60)
@given(
    folders=st.lists(st.sampled_from([*SPLITS, "more"]), min_size=1, max_size=20),
    groups=st.lists(st.none() | st.integers(0, 4).map(str), min_size=20, max_size=20),
    seed=st.integers(0, 5),
)
def test_given_splits_are_kept_or_the_leak_is_named(
    folders: list[str], groups: list[str | None], seed: int
) -> None:
    base = videos_of(both("train", 30) | both("val", 10) | both("test", 10))
    some = videos_of(
        {f"{folder}/{place}/real": 1 for place, folder in enumerate(folders)}, root="/other"
    )
    for video, group in zip(some, groups, strict=False):
        video["group"] = group
    by_group: dict[str, set[str]] = {}
    for video in some:
        if video["group"] is not None and video["split"] is not None:
            by_group.setdefault(video["group"], set()).add(video["split"])
    leaks = [group for group, found in by_group.items() if len(found) > 1]
    if leaks:
        with pytest.raises(StoreError, match=f"{len(leaks)} groups in all"):
            assign_splits([*base, *some], SplitSettings(seed=seed))
        return
    splits = splits_of(assign_splits([*base, *some], SplitSettings(seed=seed)))
    for video in (*base, *some):
        wanted = {video["split"]} if video["split"] else by_group.get(video["group"] or "")
        assert not wanted or splits[video["video_id"]] in wanted


def test_leak_names_two_files_and_what_to_do() -> None:
    videos = videos_of(both("train", 10) | both("test", 10))
    videos[3]["group"] = videos[23]["group"] = "one person"
    with pytest.raises(StoreError) as caught:
        assign_splits(videos, SplitSettings())
    message = str(caught.value)
    assert "\n" not in message
    for video in (videos[3], videos[23]):
        assert f"/data/{video['path']} (given to {video['split']})" in message
    assert "--set honour_given=false" in message
    assign_splits(videos, SplitSettings(honour_given=False))


def test_leak_of_copies_names_the_copies() -> None:
    videos = videos_of(both("train", 10) | both("test", 10))
    copy = {**videos[0], "path": "test/Real/copy.jpg", "split": "test"}
    linked = videos_of({"val/real": 1})[0] | {"group": "g"}
    videos[0]["group"] = "g"
    with pytest.raises(StoreError, match=r"train/Real/000\.jpg .*hold the same video") as caught:
        assign_splits([*videos, copy, linked], SplitSettings())
    assert "/data/test/Real/copy.jpg" in str(caught.value)


def test_video_without_label_leaks_nothing() -> None:
    videos = videos_of(both("train", 10) | both("test", 10))
    unused = {**videos_of({"test/real": 1})[0], "video_id": "u", "label": None, "group": "g"}
    videos[0]["group"] = "g"
    splits = splits_of(assign_splits([*videos, unused], SplitSettings()))
    assert splits[videos[0]["video_id"]] in {"train", "val"}


def test_no_video_left_to_train_on_says_what_to_do() -> None:
    with pytest.raises(StoreError, match=r"train split has no real video.*honour_given=false"):
        assign_splits(videos_of(both("test", 20)), SplitSettings())


def test_later_videos_move_nothing_that_was_taken_out_of_train() -> None:
    videos = videos_of(both("train", 60) | both("test", 10))
    before = splits_of(assign_splits(videos, SplitSettings()))
    more = videos_of(both("train/more", 200) | both("test/more", 5))
    after = splits_of(assign_splits([*videos, *more], SplitSettings(), previous=before))
    assert {name: after[name] for name in before} == before
    new = counts_of({name: split for name, split in after.items() if name not in before})
    assert set(new) == {("train", "train"), ("train", "val"), ("test", "test")}
    assert 40 <= new["train", "val"] <= 100


def test_given_wins_over_an_earlier_deal() -> None:
    videos = videos_of(both("a", 30) | both("b", 10))
    before = splits_of(assign_splits(videos, SplitSettings()))
    for video in videos:
        video["split"] = "train" if video["path"].startswith("a/") else "test"
    after = splits_of(assign_splits(videos, SplitSettings(), previous=before))
    for name, split in after.items():
        if folder_of(name) == "b":
            assert split == "test"
        else:
            assert split == ("val" if before[name] == "val" else "train")


def write_store(layout: StoreLayout, files: Sequence[InputFile]) -> None:
    """One finished shard with one crop sequence of every content, and the store's tables."""
    ids = sorted({str(file.video_id) for file in files})
    sequences = [
        {
            "sequence_id": name,
            "video_id": name,
            "track_id": 0,
            "shard": "s",
            "crop_file": 0,
            "crop_row": row,
            "num_frames": 1,
            "frame_indices": [0],
            "pts_seconds": [0.0],
            "boxes_xyxy": [[0.0, 0.0, 9.0, 9.0]],
            "confidences": [1.0],
            "sharpness": [1.0],
            "brightness": [1.0],
            "keypoints_xy": [],
            "fingerprints": [],
            "face_pixels": 9.0,
        }
        for row, name in enumerate(ids)
    ]
    write_table(layout.shard_sequences_path("s"), sequences, SEQUENCES)
    results = [{"video_id": name, "status": "ok"} for name in ids]
    write_table(layout.shard_videos_path("s"), results, VIDEO_RESULTS)
    collect_tables(files, layout)


def labelled_tree(*copies: str) -> list[InputFile]:
    """A tree of pictures with given splits; all of ``copies`` hold the same."""
    tree = both("train", 20) | both("val", 4) | both("test", 4)
    files = [
        InputFile(root="/data", path=f"{folder}/{n}.png", video_id=f"{folder}/{n}")
        for folder, number in tree.items()
        for n in range(number)
    ]
    files += [InputFile(root="/data", path=path, video_id="copy") for path in copies]
    return label_files(files, None)


def test_given_splits_travel_from_folders_through_the_tables(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    write_store(layout, labelled_tree())
    for path, schema in ((layout.videos_path, VIDEOS), (layout.manifest_path, MANIFEST)):
        assert {row["path"].split("/")[0] for row in read_rows(path, schema)} == set(SPLITS)
        assert all(row["path"].startswith(f"{row['split']}/") for row in read_rows(path, schema))
    counts = split_store(layout, None)
    assert counts == {
        "train": {"real": 20, "fake": 20},
        "val": {"real": 4, "fake": 4},
        "test": {"real": 4, "fake": 4},
    }


def test_copies_in_two_split_folders_are_a_leak(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    write_store(layout, labelled_tree("train/real/x.png", "test/real/y.png"))
    with pytest.raises(StoreError, match="hold the same video") as caught:
        split_store(layout, None)
    assert "/data/train/real/x.png" in str(caught.value)
    assert "/data/test/real/y.png" in str(caught.value)
    assert not layout.split_path.exists()
    counts = split_store(layout, SplitSettings(honour_given=False))
    assert sum(sum(labels.values()) for labels in counts.values()) == 57


def test_copies_in_one_split_folder_are_one_video(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    write_store(layout, labelled_tree("test/real/x.png", "test/real/y.png", "loose/real/z.png"))
    assert split_store(layout, None)["test"] == {"real": 5, "fake": 4}
