"""What training and evaluation read from a store, and in which order."""

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from models.batching import Batch, Item, collate
from models.dataset import CropDataset, EpochSampler, twin_keys
from models.transforms import normalise
from reelcheck.errors import StoreError
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import Row, read_rows

LONG = 16


@pytest.fixture(scope="module")
def videos(tiny: Any) -> list[Any]:
    return [
        *tiny.clips(5, num_frames=LONG, num_tracks=2),
        tiny.Clip(path="unlabelled.mp4", label=None, num_frames=7, first_second=1e5),
    ]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any, videos: list[Any]) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("dataset"), videos)


@pytest.fixture(scope="module")
def rows(layout: StoreLayout) -> list[Row]:
    return read_rows(layout.manifest_path, MANIFEST)


def frames_of(clip: Any, track: int) -> Tensor:
    return normalise(torch.from_numpy(clip.pixels(track)).permute(0, 3, 1, 2))


def training_set(layout: StoreLayout, rows: list[Row], **changes: Any) -> CropDataset:
    return CropDataset(layout, rows, **{"min_frames": 3, "use_augmentation": True, **changes})


def is_same(left: Item, right: Item) -> bool:
    return torch.equal(left.frames_TCHW, right.frames_TCHW) and torch.equal(
        left.seconds_T, right.seconds_T
    )


def test_evaluation_item_holds_all_frames_of_its_row_in_order(
    layout: StoreLayout, rows: list[Row], videos: list[Any]
) -> None:
    dataset = CropDataset(layout, rows)
    by_id = {clip.video_id: clip for clip in videos}
    assert len(dataset) == len(rows) == 21
    for index, row in enumerate(rows):
        item, clip = dataset[index], by_id[row["video_id"]]
        assert torch.equal(item.frames_TCHW, frames_of(clip, row["track_id"]))
        assert item.frames_TCHW.dtype == item.seconds_T.dtype == torch.float32
        assert item.index == index
        assert math.isnan(item.label) if clip.label is None else item.label == clip.label
    assert dataset.labels == [by_id[row["video_id"]].label for row in rows]


def test_times_start_at_zero_and_stay_exact_when_the_sequence_is_late(
    layout: StoreLayout, rows: list[Row]
) -> None:
    [late] = [place for place, row in enumerate(rows) if row["path"] == "unlabelled.mp4"]
    seconds = CropDataset(layout, rows)[late].seconds_T
    np.testing.assert_allclose(seconds.numpy(), np.arange(7) / 25, atol=1e-6)


def test_training_item_holds_some_frames_in_order(
    layout: StoreLayout, rows: list[Row], videos: list[Any]
) -> None:
    dataset = training_set(layout, rows, use_augmentation=False)
    frames = frames_of(videos[0], 0)
    [index] = [
        place
        for place, row in enumerate(rows)
        if row["path"] == videos[0].path and row["track_id"] == 0
    ]
    lengths = set()
    for epoch in range(60):
        item = dataset[epoch, index]
        places = [int((frames == frame).flatten(1).all(1).nonzero()) for frame in item.frames_TCHW]
        assert places == sorted(set(places))
        expected = (np.array(places) - places[0]) / 25
        np.testing.assert_allclose(item.seconds_T.numpy(), expected, atol=1e-6)
        lengths.add(len(places))
    assert lengths == set(range(3, LONG + 1))


def test_training_item_is_whole_when_shorter_than_the_smallest_draw(
    layout: StoreLayout, rows: list[Row]
) -> None:
    dataset = training_set(layout, rows, min_frames=LONG + 5)
    assert all(len(dataset[3, i].seconds_T) == rows[i]["num_frames"] for i in range(len(rows)))


def test_training_draw_depends_on_seed_epoch_and_item_only(
    layout: StoreLayout, rows: list[Row]
) -> None:
    dataset, again = training_set(layout, rows), training_set(layout, rows)
    for epoch, index in [(0, 0), (1, 0), (0, 3), (5, 7)]:
        item = dataset[epoch, index]
        torch.manual_seed(epoch + 99)
        before = torch.get_rng_state()
        assert is_same(again[epoch, index], item)
        assert torch.equal(torch.get_rng_state(), before), "the global generator was used"


@pytest.mark.parametrize("use_augmentation", [True, False])
def test_training_draws_differ_between_epochs_and_between_seeds(
    layout: StoreLayout, rows: list[Row], use_augmentation: bool
) -> None:
    dataset = training_set(layout, rows, use_augmentation=use_augmentation)
    other = training_set(layout, rows, use_augmentation=use_augmentation, seed=1)
    indices = range(len(rows) - 1)
    assert not all(is_same(dataset[0, i], dataset[1, i]) for i in indices)
    assert not all(is_same(dataset[0, i], other[0, i]) for i in indices)


@pytest.mark.parametrize("epoch", [0, 3])
def test_batches_are_the_same_with_and_without_loader_processes(
    layout: StoreLayout, rows: list[Row], epoch: int
) -> None:
    def batches(num_workers: int) -> list[Batch]:
        torch.manual_seed(num_workers)
        sampler = EpochSampler(rows, seed=4)
        sampler.set_epoch(epoch)
        loader: DataLoader[Any] = DataLoader(
            training_set(layout, rows),
            sampler=sampler,
            batch_size=4,
            collate_fn=collate,
            num_workers=num_workers,
            multiprocessing_context="forkserver" if num_workers else None,
        )
        return list(loader)

    for left, right in zip(batches(0), batches(2), strict=True):
        for name, tensor in vars(left).items():
            torch.testing.assert_close(getattr(right, name), tensor, atol=0, rtol=0, equal_nan=True)


def test_twins_get_the_same_frames_and_augmentation(tmp_path: Path, tiny: Any) -> None:
    real = tiny.Clip(path="real/a.mp4", label=1, num_frames=LONG)
    twin = tiny.Clip(
        path="fake/b.mp4", label=1, num_frames=LONG, source="real/a.mp4", pixels_from=real.path
    )
    stranger = tiny.Clip(path="fake/c.mp4", label=1, num_frames=LONG, pixels_from=real.path)
    layout = tiny.write_store(tmp_path, [real, twin, stranger])
    rows = read_rows(layout.manifest_path, MANIFEST)
    place = {row["path"]: index for index, row in enumerate(rows)}
    dataset = training_set(layout, rows)
    for epoch in range(10):
        drawn = dataset[epoch, place[real.path]]
        assert is_same(drawn, dataset[epoch, place[twin.path]])
        assert not is_same(drawn, dataset[epoch, place[stranger.path]])


def test_missing_crop_file_is_named(tmp_path: Path, tiny: Any) -> None:
    layout = tiny.write_store(tmp_path, tiny.clips(1))
    rows = read_rows(layout.manifest_path, MANIFEST)
    crops = layout.crops_path(rows[0]["shard"], rows[0]["part"])
    crops.unlink()
    with pytest.raises(StoreError, match=crops.name):
        CropDataset(layout, rows)[0]


def sampler_rows(num_reals: int, sources: list[int]) -> list[Row]:
    reals = [
        {
            "path": f"r/{i}.mp4",
            "video_id": f"r{i}",
            "source": None,
            "track_id": 0,
            "sequence_id": f"r{i}-00-00",
        }
        for i in range(num_reals)
    ]
    fakes = [
        {
            "path": f"f/{place}.mp4x",
            "video_id": f"f{place}",
            "source": f"r/{origin % max(num_reals, 1)}.mp4",
            "track_id": 0,
            "sequence_id": f"f{place}-00-00",
        }
        for place, origin in enumerate(sources)
    ]
    return reals + fakes


@example(num_reals=4, sources=[0, 0, 0], epochs=[0])
@given(
    num_reals=st.integers(0, 12),
    sources=st.lists(st.integers(0, 11), max_size=20),
    epochs=st.lists(st.integers(0, 50), min_size=1, max_size=3),
)
def test_sampler_yields_every_index_once_per_epoch_with_twins_adjacent(
    num_reals: int, sources: list[int], epochs: list[int]
) -> None:
    rows = sampler_rows(num_reals, sources)
    sampler = EpochSampler(rows, seed=1)
    for epoch in epochs:
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert {drawn_epoch for drawn_epoch, _ in drawn} <= {epoch}
        assert sorted(index for _, index in drawn) == list(range(len(rows)))
        assert len(sampler) == len(rows)
        paths = {row["path"] for row in rows}
        # Where the real video is absent, its fakes are no twins of anything.
        origins = [
            rows[index]["source"] if rows[index]["source"] in paths else rows[index]["path"]
            for _, index in drawn
        ]
        changes = sum(left != right for left, right in itertools.pairwise(origins))
        assert changes == max(len(set(origins)) - 1, 0)
        again = EpochSampler(rows, seed=1)
        again.set_epoch(epoch)
        assert list(again) == drawn


@settings(max_examples=20)
@given(num_reals=st.integers(8, 30))
def test_sampler_order_differs_between_epochs_and_between_seeds(num_reals: int) -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = EpochSampler(sampler_rows(num_reals, []), seed=seed)
        sampler.set_epoch(epoch)
        return tuple(index for _, index in sampler)

    # Of eight orders of at least 8! possible ones, two the same would be no accident.
    assert len({order(seed, epoch) for seed in range(2) for epoch in range(4)}) == 8


def same_name_rows(num_people: int) -> list[Row]:
    return [
        {
            "path": f"person_{i}/clip.mp4",
            "video_id": f"v{i}",
            "source": None,
            "track_id": 0,
            "sequence_id": f"{i}-00-00",
        }
        for i in range(num_people)
    ]


def fake_row(source: str) -> Row:
    place = {"path": "fakes/swap.mp4", "video_id": "fake", "source": source}
    return {**place, "track_id": 0, "sequence_id": "fake-00-00"}


def test_videos_of_the_same_name_in_different_folders_are_no_twins() -> None:
    rows = same_name_rows(12)
    assert len(set(twin_keys(rows))) == 12
    sampler = EpochSampler(rows, seed=0)
    orders = Counter()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        orders[tuple(index for _, index in sampler)] += 1
    assert len(orders) == 4


def test_videos_of_the_same_name_get_their_own_frames(tmp_path: Path, tiny: Any) -> None:
    one = tiny.Clip(path="a/clip.mp4", label=1, num_frames=LONG)
    other = tiny.Clip(path="b/clip.mp4", label=1, num_frames=LONG, pixels_from=one.path)
    layout = tiny.write_store(tmp_path, [one, other])
    rows = read_rows(layout.manifest_path, MANIFEST)
    evaluated, trained = CropDataset(layout, rows), training_set(layout, rows)
    assert is_same(evaluated[0], evaluated[1])
    for epoch in range(10):
        assert not is_same(trained[epoch, 0], trained[epoch, 1])


@pytest.mark.parametrize(
    ("num_people", "source", "twins"),
    [
        pytest.param(3, "person_1/clip.mp4", [1, 3], id="path"),
        pytest.param(3, "clip.mp4", [3], id="name_of_several"),
        pytest.param(3, "elsewhere/clip.mp4", [3], id="other_folder_and_name_of_several"),
        pytest.param(1, "clip.mp4", [0, 1], id="name_of_one"),
        pytest.param(1, "elsewhere/clip.mp4", [0, 1], id="other_folder_and_name_of_one"),
        pytest.param(3, "absent.mp4", [3], id="absent"),
    ],
)
def test_fake_is_the_twin_of_the_one_video_that_its_source_means(
    num_people: int, source: str, twins: list[int]
) -> None:
    keys = twin_keys([*same_name_rows(num_people), fake_row(source)])
    assert [place for place, key in enumerate(keys) if key == keys[-1]] == twins
    assert len(set(keys)) == len(keys) + 1 - len(twins)


def test_fake_named_like_its_source_is_its_twin() -> None:
    real = {**same_name_rows(1)[0], "path": "real/a.mp4", "video_id": "real"}
    fake = {**fake_row("a.mp4"), "path": "fake/a.mp4", "video_id": "fake"}
    assert len(set(twin_keys([real, fake]))) == 1


@pytest.mark.parametrize("source", ["person_1/clip.mp4", "elsewhere/only.mp4"])
def test_all_fakes_of_one_video_are_its_twins(source: str) -> None:
    rows = [*same_name_rows(3), {**same_name_rows(1)[0], "path": "only.mp4", "video_id": "only"}]
    fakes = [{**fake_row(source), "video_id": f"fake{i}"} for i in range(5)]
    keys = twin_keys([*rows, *fakes])
    original = {"person_1/clip.mp4": 1, "elsewhere/only.mp4": 3}[source]
    assert set(keys[4:]) == {keys[original]}


def test_faces_and_sequences_of_one_video_are_no_twins_of_each_other() -> None:
    [row] = same_name_rows(1)
    others = [{**row, "track_id": 1}, {**row, "sequence_id": "0-00-01"}]
    assert len(set(twin_keys([row, *others]))) == 3
