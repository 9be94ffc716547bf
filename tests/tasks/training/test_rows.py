"""Which rows a run may look at: folds, subsets, and data that nothing can be learned from."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reelcheck.errors import SettingsError, StoreError, TrainingError
from reelcheck.train_config import TrainSettings
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import Row, read_rows
from tasks.training.rows import choose_training_rows, group_by_split, make_fold_splits, take_subset

SPLITS = ("train", "val", "test")
COMPONENTS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.lists(st.integers(0, 1), min_size=1, max_size=5)),
    min_size=1,
    max_size=25,
)
"""Part and labels of the videos of each component."""


def split_of(components: Sequence[tuple[str, Sequence[int]]]) -> list[Row]:
    return [
        {
            "video_id": f"{number}-{place}",
            "component": str(number),
            "label": label,
            "split": split,
            "has_crops": True,
        }
        for number, (split, labels) in enumerate(components)
        for place, label in enumerate(labels)
    ]


def num_groups(rows: Sequence[Row]) -> int:
    """Independent groups outside the test split, of the label that has fewer of them."""
    groups = [
        {row["component"] for row in rows if row["label"] == label and row["split"] != "test"}
        for label in (0, 1)
    ]
    return min(map(len, groups))


def ids(rows: Sequence[Row], split: str) -> set[str]:
    return {row["video_id"] for row in rows if row["split"] == split}


@settings(deadline=None)
@given(components=COMPONENTS, folds=st.integers(2, 6), seed=st.integers(0, 3))
def test_every_video_is_validated_by_exactly_one_fold(
    components: list[tuple[str, list[int]]], folds: int, seed: int
) -> None:
    # Two groups of both labels, so that there can be two folds at least.
    rows = split_of([*components, ("train", [0, 1]), ("val", [0, 1])])
    folds = min(folds, num_groups(rows))
    found = make_fold_splits(rows, folds=folds, seed=seed)
    assert len(found) == folds
    validated = Counter(video for fold in found for video in ids(fold, "val"))
    assert validated == Counter(ids(rows, "train") | ids(rows, "val"))
    for fold in found:
        # Only who trains and who validates is decided anew.
        assert ids(fold, "test") == ids(rows, "test")
        assert [{**row, "split": ""} for row in fold] == [{**row, "split": ""} for row in rows]
        splits = {(row["component"], row["split"]) for row in fold}
        assert len(splits) == len({component for component, _ in splits})
    assert found == make_fold_splits(rows, folds=folds, seed=seed)


@settings(deadline=None)
@given(
    folds=st.integers(2, 6),
    sizes=st.lists(st.integers(1, 3), min_size=6, max_size=20),
    seed=st.integers(0, 3),
)
def test_folds_of_paired_videos_all_hold_both_labels(
    folds: int, sizes: list[int], seed: int
) -> None:
    rows = split_of([("train", [0, 1] * size) for size in sizes])
    for fold in make_fold_splits(rows, folds=folds, seed=seed):
        for split in ("train", "val"):
            assert {row["label"] for row in fold if row["split"] == split} == {0, 1}


@settings(deadline=None)
@given(components=COMPONENTS, more=st.integers(1, 3))
def test_more_folds_than_groups_are_refused_with_how_many_there_are(
    components: list[tuple[str, list[int]]], more: int
) -> None:
    rows = split_of(components)
    assume({row["label"] for row in rows if row["split"] != "test"} == {0, 1})
    groups = num_groups(rows)
    folds = max(2, groups + more)
    with pytest.raises(SettingsError, match=f"only {groups} independent groups of") as caught:
        make_fold_splits(rows, folds=folds, seed=0)
    assert f"folds = {folds}" in str(caught.value)
    # What is advised is possible.
    assert (f"at most {groups}," in str(caught.value)) == (groups >= 2)
    if groups >= 2:
        assert len(make_fold_splits(rows, folds=groups, seed=0)) == groups


def test_folds_without_any_fake_are_left_to_self_blending() -> None:
    rows = split_of([("train", [0]), ("val", [0]), ("train", [0, 0])])
    folds = make_fold_splits(rows, folds=3, seed=0)
    assert all(ids(fold, "train") and ids(fold, "val") for fold in folds)
    with pytest.raises(SettingsError, match="only 3 independent groups of real"):
        make_fold_splits(rows, folds=4, seed=0)


@settings(deadline=None)
@given(
    components=COMPONENTS,
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 3),
)
def test_subsets_are_nested_and_keep_the_shares_of_the_labels(
    components: list[tuple[str, list[int]]], shares: tuple[float, float], seed: int
) -> None:
    rows = split_of(components)
    train = [row for row in rows if row["split"] == "train"]
    assume(len(train) >= 2)
    small, large = sorted(2 + round(share * (len(train) - 2)) for share in shares)
    fewer, more = (take_subset(rows, num_videos=size, seed=seed) for size in (small, large))
    assert ids(fewer, "train") <= ids(more, "train") <= ids(rows, "train")
    for kept, size in ((fewer, small), (more, large)):
        # val and test are untouched, and the order of the rows is.
        assert [row for row in kept if row["split"] != "train"] == [
            row for row in rows if row["split"] != "train"
        ]
        assert [row for row in rows if row in kept] == kept
        counts = Counter(row["label"] for row in kept if row["split"] == "train")
        for label, count in Counter(row["label"] for row in train).items():
            assert counts[label] >= 1
            assert abs(counts[label] - size * count / len(train)) <= 1


def test_subset_of_everything_is_everything() -> None:
    rows = split_of([("train", [0, 1]), ("train", [1]), ("val", [0, 1]), ("test", [0])])
    assert take_subset(rows, num_videos=3, seed=0) == rows


def test_subset_takes_component_after_component() -> None:
    rows = split_of([("train", [0, 0, 0, 1, 1, 1])] * 6)
    for size in range(6, 36, 6):
        kept = take_subset(rows, num_videos=size, seed=1)
        assert len({row["component"] for row in kept}) == size // 6


@pytest.mark.parametrize("num_videos", [-1, 0, 1, 4])
def test_subset_of_an_impossible_size_is_refused(num_videos: int) -> None:
    rows = split_of([("train", [0, 1]), ("train", [1]), ("val", [0, 1])])
    with pytest.raises(SettingsError, match=f"{num_videos} is not between 2 and 3.*--subset-sizes"):
        take_subset(rows, num_videos=num_videos, seed=0)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    videos = [*tiny.three_parts(), tiny.Clip(path="unlabelled.mp4", label=None)]
    return tiny.write_store(tmp_path_factory.mktemp("splits"), videos)


@pytest.fixture
def manifest(layout: StoreLayout) -> list[Row]:
    return read_rows(layout.manifest_path, MANIFEST)


@pytest.fixture
def split_rows(layout: StoreLayout) -> list[Row]:
    return read_rows(layout.split_path, SPLIT)


def test_only_videos_of_the_table_are_in_its_splits(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    splits = group_by_split(manifest, split_rows)
    for split, rows in splits.items():
        assert rows
        assert all(row["path"].startswith(f"{split}/") for row in rows)
    assert sum(map(len, splits.values())) == len(manifest) - 1


def test_label_that_has_changed_since_the_split_is_refused(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    manifest[0]["label"] = 1 - manifest[0]["label"]
    with pytest.raises(StoreError, match="has changed since the split was made") as caught:
        group_by_split(manifest, split_rows)
    assert manifest[0]["path"] in str(caught.value)


def test_training_looks_at_train_and_val_rows_only(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    chosen = choose_training_rows(manifest, split_rows, TrainSettings())
    known = group_by_split(manifest, split_rows)
    assert (chosen.train, chosen.val) == (known["train"], known["val"])
    assert chosen.split == split_rows


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("self_blend", [0.0, 0.5, 1.0])
def test_empty_split_is_refused(
    manifest: list[Row], split_rows: list[Row], split: str, self_blend: float
) -> None:
    rows = [row for row in split_rows if row["split"] != split]
    with pytest.raises(TrainingError, match=f"the {split} split holds no videos"):
        choose_training_rows(manifest, rows, TrainSettings(self_blend=self_blend))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("label", "missing"), [(0, "fake"), (1, "real")])
def test_split_of_one_label_is_refused(
    manifest: list[Row], split_rows: list[Row], split: str, label: int, missing: str
) -> None:
    rows = [row for row in split_rows if row["split"] != split or row["label"] == label]
    message = f"the {split} split holds no {missing} video"
    with pytest.raises(TrainingError, match=message) as caught:
        choose_training_rows(manifest, rows, TrainSettings())
    # Without fakes there is a way on, without real videos there is none.
    assert ("self_blend=1" in str(caught.value)) == (missing == "fake")


def test_real_videos_alone_can_be_learned_from_by_self_blending(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    rows = [row for row in split_rows if row["label"] == 0 or row["split"] == "test"]
    chosen = choose_training_rows(manifest, rows, TrainSettings(self_blend=1))
    assert {row["label"] for row in (*chosen.train, *chosen.val)} == {0}
    assert (len(chosen.train), len(chosen.val)) == (4, 2)


def test_self_blending_alone_leaves_every_labelled_fake_out(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    chosen = choose_training_rows(manifest, split_rows, TrainSettings(self_blend=1))
    known = group_by_split(manifest, split_rows)
    for found, rows in ((chosen.train, known["train"]), (chosen.val, known["val"])):
        assert found == [row for row in rows if row["label"] == 0]


def test_rows_without_key_points_cannot_be_blended_and_are_left_out(
    manifest: list[Row], split_rows: list[Row]
) -> None:
    first = next(row for row in manifest if row["path"] == "train/real_0.mp4")
    first["keypoints_xy"] = []
    chosen = choose_training_rows(manifest, split_rows, TrainSettings(self_blend=1))
    assert len(chosen.train) == 3
    assert first not in chosen.train
    # With labelled fakes beside the blends it can be learned from as it is.
    assert first in choose_training_rows(manifest, split_rows, TrainSettings(self_blend=0.5)).train


@pytest.mark.parametrize(("split", "self_blend"), [("train", 0.5), ("train", 1.0), ("val", 1.0)])
def test_self_blending_without_any_key_points_is_refused(
    manifest: list[Row], split_rows: list[Row], split: str, self_blend: float
) -> None:
    for row in manifest:
        # Those of the fakes do not help.
        if row["path"].startswith(f"{split}/real"):
            row["keypoints_xy"] = []
    with pytest.raises(
        TrainingError, match=f"no real sequence of the {split} split has key points"
    ):
        choose_training_rows(manifest, split_rows, TrainSettings(self_blend=self_blend))
    assert choose_training_rows(manifest, split_rows, TrainSettings())
