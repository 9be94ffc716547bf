"""What training and evaluation read from a store."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from models.data.batching import Item, collate
from models.data.dataset import CropDataset, Draw, Look, keypoints_of, make_twin_keys
from models.data.sampling import EpochSampler
from reelcheck.errors import StoreError
from reelcheck.train_config import AugmentSettings, TrainSettings
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import Row, read_rows

LONG = 16
EVERY_CHANGE = AugmentSettings(**dict.fromkeys(AugmentSettings.model_fields, 0.5))
NO_CHANGE = AugmentSettings(**dict.fromkeys(AugmentSettings.model_fields, 0.0))
DRAWS = st.builds(
    Draw,
    row=st.integers(0, 19),
    number=st.integers(0, 50),
    repeat=st.integers(0, 3),
    look=st.sampled_from([Look.PLAIN, Look.TWIN, Look.BLEND]),
)


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
    return torch.from_numpy(clip.pixels(track)).permute(0, 3, 1, 2)


def training_set(layout: StoreLayout, rows: list[Row], **changes: Any) -> CropDataset:
    values = {"min_frames": 3, "augment": EVERY_CHANGE, **changes}
    return CropDataset(layout, rows, training=TrainSettings(**values))


def is_same(left: Item, right: Item) -> bool:
    return torch.equal(left.frames_TCHW, right.frames_TCHW) and torch.equal(
        left.seconds_T, right.seconds_T
    )


def place_of(rows: list[Row], path: str, *, track: int = 0) -> int:
    [place] = [n for n, r in enumerate(rows) if (r["path"], r["track_id"]) == (path, track)]
    return place


def test_evaluation_item_holds_all_frames_of_its_row_in_order(
    layout: StoreLayout, rows: list[Row], videos: list[Any]
) -> None:
    dataset = CropDataset(layout, rows)
    by_id = {clip.video_id: clip for clip in videos}
    assert len(dataset) == len(rows) == 21
    for index, row in enumerate(rows):
        item, clip = dataset[index], by_id[row["video_id"]]
        assert torch.equal(item.frames_TCHW, frames_of(clip, row["track_id"]))
        assert item.frames_TCHW.dtype == torch.uint8
        assert item.seconds_T.dtype == torch.float32
        assert item.index == index
        assert math.isnan(item.label) if clip.label is None else item.label == clip.label
    assert dataset.rows == rows


def test_times_start_at_zero_and_stay_exact_when_the_sequence_is_late(
    layout: StoreLayout, rows: list[Row]
) -> None:
    seconds = CropDataset(layout, rows)[place_of(rows, "unlabelled.mp4")].seconds_T
    np.testing.assert_allclose(seconds.numpy(), np.arange(7) / 25, atol=1e-6)


@pytest.mark.parametrize("max_frames", [None, 9, LONG + 5])
def test_training_item_holds_some_frames_in_order(
    layout: StoreLayout, rows: list[Row], videos: list[Any], max_frames: int | None
) -> None:
    dataset = training_set(layout, rows, augment=NO_CHANGE, max_frames=max_frames)
    frames = frames_of(videos[0], 0)
    index = place_of(rows, videos[0].path)
    lengths = set()
    for number in range(100):
        item = dataset[Draw(index, number)]
        places = [int((frames == frame).flatten(1).all(1).nonzero()) for frame in item.frames_TCHW]
        assert places == sorted(set(places))
        expected = (np.array(places) - places[0]) / 25
        np.testing.assert_allclose(item.seconds_T.numpy(), expected, atol=1e-6)
        lengths.add(len(places))
    assert lengths == set(range(3, min(LONG, max_frames or LONG) + 1))


def test_training_item_is_whole_when_shorter_than_the_smallest_draw(
    layout: StoreLayout, rows: list[Row]
) -> None:
    dataset = training_set(layout, rows, min_frames=LONG + 5)
    lengths = [len(dataset[Draw(n, 3)].seconds_T) for n in range(len(rows))]
    assert lengths == [row["num_frames"] for row in rows]


@given(draw=DRAWS, noise=st.integers(0, 2**31))
def test_training_item_is_a_function_of_seed_and_draw_only(
    layout: StoreLayout, rows: list[Row], draw: Draw, noise: int
) -> None:
    item = training_set(layout, rows, seed=5)[draw]
    torch.manual_seed(noise)
    before = torch.get_rng_state()
    assert is_same(training_set(layout, rows, seed=5)[draw], item)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"


@pytest.mark.parametrize("look", Look)
@pytest.mark.parametrize("augment", [EVERY_CHANGE, NO_CHANGE])
def test_items_differ_between_passes_repeats_and_seeds(
    layout: StoreLayout, rows: list[Row], augment: AugmentSettings, look: Look
) -> None:
    dataset = training_set(layout, rows, augment=augment)
    other = training_set(layout, rows, augment=augment, seed=1)
    for there, number, repeat in ((dataset, 1, 0), (dataset, 0, 1), (other, 0, 0)):
        pairs = [
            (dataset[Draw(n, 0, 0, look)], there[Draw(n, number, repeat, look)]) for n in range(5)
        ]
        assert not any(is_same(one, two) for one, two in pairs)
        assert all(one.label == two.label for one, two in pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_gives_the_items_of_the_draws_whatever_its_processes(
    layout: StoreLayout, rows: list[Row], num_workers: int
) -> None:
    labelled = [row for row in rows if row["label"] is not None]
    training = TrainSettings(
        min_frames=3, augment=EVERY_CHANGE, seed=4, self_blend=0.5, batch_size=4
    )
    dataset = CropDataset(layout, labelled, training=training)
    sampler = EpochSampler(labelled, training)
    sampler.set_epoch(3)
    torch.manual_seed(num_workers)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        sampler=sampler,
        batch_size=4,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context="forkserver" if num_workers else None,
    )
    draws = list(sampler)
    assert {draw.look for draw in draws} == set(Look)
    for number, batch in enumerate(loader):
        expected = collate([dataset[draw] for draw in draws[4 * number : 4 * number + 4]])
        for name, tensor in vars(expected).items():
            assert torch.equal(getattr(batch, name), tensor), name
    assert 4 * number + 4 >= len(draws)


@pytest.mark.parametrize("use_twins", [True, False])
def test_twins_get_the_same_frames_and_changes_if_they_are_to(
    tmp_path: Path, tiny: Any, use_twins: bool
) -> None:
    real = tiny.Clip(path="real/a.mp4", label=1, num_frames=LONG)
    pixels = {"label": 1, "num_frames": LONG, "pixels_from": real.path}
    twin = tiny.Clip(path="fake/b.mp4", source=real.path, **pixels)
    stranger = tiny.Clip(path="fake/c.mp4", **pixels)
    layout = tiny.write_store(tmp_path, [real, twin, stranger])
    rows = read_rows(layout.manifest_path, MANIFEST)
    dataset = training_set(layout, rows, twins=use_twins)
    for number, repeat in ((0, 0), (1, 0), (0, 1), (7, 2)):
        drawn, of_twin, of_stranger = (
            dataset[Draw(place_of(rows, clip.path), number, repeat)]
            for clip in (real, twin, stranger)
        )
        assert is_same(drawn, of_twin) == use_twins
        assert not is_same(drawn, of_stranger)


def equal_share(left: Item, right: Item) -> float:
    """Share of the pixels that are the same."""
    return float((left.frames_TCHW == right.frames_TCHW).all(1).float().mean())


@given(row=st.integers(0, 19), number=st.integers(0, 50), repeat=st.integers(0, 3))
def test_blend_and_twin_share_frames_changes_and_look(
    layout: StoreLayout, rows: list[Row], row: int, number: int, repeat: int
) -> None:
    # Changes that look at no other pixel, and noise: drawn anew it leaves hardly one the same.
    changes = {"flip": 0.5, "rotation": 0.5, "brightness": 0.5, "noise": 1.0}
    augment = NO_CHANGE.model_copy(update=changes)
    dataset = training_set(layout, rows, augment=augment)
    blend, twin = (dataset[Draw(row, number, repeat, look)] for look in (Look.BLEND, Look.TWIN))
    assert (blend.label, twin.label) == (1, rows[row]["label"])
    assert torch.equal(blend.seconds_T, twin.seconds_T)
    assert 0.05 < equal_share(blend, twin) < 1
    again = dataset[Draw(row, number, repeat + 1, Look.TWIN)]
    if len(again.seconds_T) == len(twin.seconds_T):
        assert equal_share(again, twin) < 0.05


def test_twin_of_a_blend_has_its_look_and_not_always_that_of_the_plain_sequence(
    layout: StoreLayout, rows: list[Row]
) -> None:
    dataset = training_set(layout, rows, augment=NO_CHANGE)
    pairs = [
        (dataset[Draw(0, number, 0, Look.TWIN)], dataset[Draw(0, number, 0, Look.PLAIN)])
        for number in range(30)
    ]
    assert all(torch.equal(twin.seconds_T, plain.seconds_T) for twin, plain in pairs)
    assert {is_same(twin, plain) for twin, plain in pairs} == {True, False}


def test_evaluation_draws_are_whole_and_the_same_every_time(
    layout: StoreLayout, rows: list[Row]
) -> None:
    draws = [Draw(3), Draw(1, look=Look.TWIN), Draw(1, look=Look.BLEND), Draw(0)]
    dataset = CropDataset(layout, rows, draws=draws, seed=2)
    again = CropDataset(layout, rows, draws=draws, seed=2)
    other = CropDataset(layout, rows, draws=draws, seed=3)
    assert len(dataset) == 4
    for place, draw in enumerate(draws):
        item = dataset[place]
        assert is_same(item, again[place])
        if draw.look is not Look.TWIN:  # it is plain now and then
            assert is_same(item, other[place]) == (draw.look is Look.PLAIN)
        assert len(item.seconds_T) == LONG
        assert item.index == draw.row
        assert item.label == dataset.rows[place]["label"]
    assert not is_same(dataset[1], dataset[2])


def test_rows_of_draws_make_a_blend_a_fake_video_of_its_own(
    layout: StoreLayout, rows: list[Row]
) -> None:
    real = place_of(rows, "train/real_0.mp4")
    draws = [Draw(real, look=look) for look in (Look.PLAIN, Look.TWIN, Look.BLEND)]
    plain, twin, blend = CropDataset(layout, rows, draws=draws).rows
    assert plain == twin == rows[real]
    assert blend["label"] == 1
    assert rows[real]["label"] == 0
    changed = {"label", "video_id", "sequence_id"}
    assert {key for key in blend if blend[key] != plain[key]} == changed


def test_key_points_come_in_frames_or_not_at_all(rows: list[Row]) -> None:
    points = keypoints_of(rows[0])
    assert points is not None
    assert (points.shape, points.dtype) == ((LONG, 6, 2), np.float32)
    np.testing.assert_array_equal(points.reshape(-1), np.float32(rows[0]["keypoints_xy"]).ravel())
    assert keypoints_of({**rows[0], "keypoints_xy": []}) is None
    assert keypoints_of({**rows[0], "keypoints_xy": None}) is None


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_crop_file_is_named_in_one_line(tmp_path: Path, tiny: Any, damage: str) -> None:
    layout = tiny.write_store(tmp_path, tiny.clips(1))
    rows = read_rows(layout.manifest_path, MANIFEST)
    crops = layout.crops_path(rows[0]["shard"], rows[0]["crop_file"])
    content = crops.read_bytes()
    crops.unlink()
    if damage != "missing":
        left = {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x07" * 5000}
        crops.write_bytes(left[damage])
    with pytest.raises(StoreError, match=crops.name) as caught:
        CropDataset(layout, rows)[0]
    assert "run preprocess again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sequence_that_is_not_there_is_an_error_of_the_store(tmp_path: Path, tiny: Any) -> None:
    layout = tiny.write_store(tmp_path, tiny.clips(1))
    row = read_rows(layout.manifest_path, MANIFEST)[0]
    with pytest.raises(StoreError, match="run preprocess again"):
        CropDataset(layout, [{**row, "crop_row": 99}])[0]


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
    assert len(set(make_twin_keys(same_name_rows(12)))) == 12


def test_videos_of_the_same_name_get_their_own_frames(tmp_path: Path, tiny: Any) -> None:
    one = tiny.Clip(path="a/clip.mp4", label=1, num_frames=LONG)
    other = tiny.Clip(path="b/clip.mp4", label=1, num_frames=LONG, pixels_from=one.path)
    layout = tiny.write_store(tmp_path, [one, other])
    rows = read_rows(layout.manifest_path, MANIFEST)
    evaluated, trained = CropDataset(layout, rows), training_set(layout, rows)
    assert is_same(evaluated[0], evaluated[1])
    for number in range(10):
        assert not is_same(trained[Draw(0, number)], trained[Draw(1, number)])


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
    keys = make_twin_keys([*same_name_rows(num_people), fake_row(source)])
    assert [place for place, key in enumerate(keys) if key == keys[-1]] == twins
    assert len(set(keys)) == len(keys) + 1 - len(twins)


def test_fake_named_like_its_source_is_its_twin() -> None:
    real = {**same_name_rows(1)[0], "path": "real/a.mp4", "video_id": "real"}
    fake = {**fake_row("a.mp4"), "path": "fake/a.mp4", "video_id": "fake"}
    assert len(set(make_twin_keys([real, fake]))) == 1


@pytest.mark.parametrize("source", ["person_1/clip.mp4", "elsewhere/only.mp4"])
def test_all_fakes_of_one_video_are_its_twins(source: str) -> None:
    rows = [*same_name_rows(3), {**same_name_rows(1)[0], "path": "only.mp4", "video_id": "only"}]
    fakes = [{**fake_row(source), "video_id": f"fake{i}"} for i in range(5)]
    keys = make_twin_keys([*rows, *fakes])
    original = {"person_1/clip.mp4": 1, "elsewhere/only.mp4": 3}[source]
    assert set(keys[4:]) == {keys[original]}


def test_faces_and_sequences_of_one_video_are_no_twins_of_each_other() -> None:
    [row] = same_name_rows(1)
    others = [{**row, "track_id": 1}, {**row, "sequence_id": "0-00-01"}]
    assert len(set(make_twin_keys([row, *others]))) == 3
