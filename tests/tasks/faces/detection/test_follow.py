"""Faces between searched frames: in the right place, and never those of another shot."""

import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import FaceBox, Frame, Keypoints
from tasks.faces.detection.follow import MAX_NODE_FRAMES, MAX_NODE_SECONDS, follow_faces

SIDE = 40
RED, BLUE = (220, 30, 30), (30, 30, 220)
OFFSETS = ((10, 15), (30, 16), (21, 24), (20, 32), (1, 17), (39, 18))
"""Key points of a square, from its upper left corner."""
Place = tuple[int, int]


def picture(places: Sequence[Place], colour: tuple[int, int, int] = RED) -> np.ndarray:
    """A dark frame with a bright square at each place (left, top), far from each other."""
    rgb = np.zeros((160, 320, 3), np.uint8)
    for x, y in places:
        rgb[y : y + SIDE, x : x + SIDE] = colour
    return rgb


def frames_at(times: Sequence[float], pictures: Sequence[np.ndarray]) -> list[Frame]:
    return [
        Frame(frame_index=10 * number, pts_seconds=time, rgb_HWC=rgb)
        for number, (time, rgb) in enumerate(zip(times, pictures, strict=True))
    ]


@dataclass
class SquareFinder:
    """A detector of bright squares: one in each half of the picture. It counts its searches."""

    jitter: float = 0.0
    searched: list[int] = field(default_factory=list)
    found: list[FaceBox] = field(default_factory=list)

    def __call__(self, frame: Frame, *, sample_index: int) -> list[FaceBox]:
        self.searched.append(sample_index)
        boxes = []
        shake = np.random.default_rng(sample_index).normal(0, 1, 2) * self.jitter
        for left in (0, 160):
            ys, xs = np.nonzero(frame.rgb_HWC[:, left : left + 160].max(axis=2) > 100)
            if not len(xs):
                continue
            x1, y1 = left + xs.min() + shake[0], ys.min() + shake[1]
            x2, y2 = left + xs.max() + 1 + shake[0], ys.max() + 1 + shake[1]
            boxes.append(
                FaceBox(
                    sample_index=sample_index,
                    xyxy=(float(x1), float(y1), float(x2), float(y2)),
                    confidence=0.9,
                    keypoints_xy=Keypoints(*((x1 + dx, y1 + dy) for dx, dy in OFFSETS)),
                )
            )
        self.found += boxes
        return boxes


def boxes_of(faces: Sequence[FaceBox]) -> list[tuple[float, ...]]:
    return [face.xyxy for face in faces]


def test_follow_still_face_is_searched_on_few_frames_and_seen_on_all() -> None:
    find = SquareFinder()
    frames = frames_at(np.arange(31) / 3, [picture([(50, 60)])] * 31)
    results = list(follow_faces(frames, find))
    assert [frame.frame_index for frame, _ in results] == [frame.frame_index for frame in frames]
    for number, (_, faces) in enumerate(results):
        (face,) = faces
        assert face.xyxy == pytest.approx((50, 60, 90, 100))
        assert face.sample_index == number
    # Every third: 0.8 seconds are over.
    assert find.searched == list(range(0, 31, 3))


def test_follow_neighbouring_frames_are_searched_every_fifth() -> None:
    find = SquareFinder()
    list(follow_faces(frames_at(np.arange(13) / 25, [picture([(50, 60)])] * 13), find))
    assert find.searched == [0, 5, 10, 12]


def test_follow_moving_face_is_interpolated_in_time_not_by_number() -> None:
    times = [0.0, 0.1, 0.5, 0.6, 0.8]
    pictures = [picture([(50 + round(5 * time), 60)]) for time in times]
    find = SquareFinder()
    results = list(follow_faces(frames_at(times, pictures), find))
    assert find.searched == [0, 4]
    for time, (_, (face,)) in zip(times, results, strict=True):
        assert face.xyxy[0] == pytest.approx(50 + 5 * time)
        expected = [(50 + 5 * time + dx, 60 + dy) for dx, dy in OFFSETS]
        np.testing.assert_allclose(np.array(face.keypoints_xy), expected)


def test_follow_face_whose_key_points_one_node_lacks_has_none_in_between() -> None:
    def find(frame: Frame, *, sample_index: int) -> list[FaceBox]:
        (face,) = SquareFinder()(frame, sample_index=sample_index)
        return [face if sample_index == 0 else replace(face, keypoints_xy=None)]

    results = list(follow_faces(frames_at(np.arange(6) / 25, [picture([(50, 60)])] * 6), find))
    assert [faces[0].keypoints_xy is None for _, faces in results] == [False] + 5 * [True]


def test_follow_two_faces_are_each_followed() -> None:
    pictures = [picture([(40 + n, 60), (200 - n, 50)]) for n in range(6)]
    find = SquareFinder()
    results = list(follow_faces(frames_at(np.arange(6) / 25, pictures), find))
    assert find.searched == [0, 5]
    for n, (_, faces) in enumerate(results):
        lefts = [box[0] for box in boxes_of(faces)]
        assert lefts == pytest.approx([40 + n, 200 - n], abs=0.01)


def test_follow_frames_more_than_a_second_apart_are_all_searched() -> None:
    find = SquareFinder()
    times = [0.0, 0.2, 0.4, 1.5, 3.0, 3.1, 3.2]
    list(follow_faces(frames_at(times, [picture([(50, 60)])] * 7), find))
    assert find.searched == [0, 2, 3, 4, 6]


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_follow_frame_that_shows_something_else_in_between_is_searched(gone: int) -> None:
    pictures = [picture([(50, 60)])] * 6
    pictures[gone] = np.full_like(pictures[0], 60)
    results = list(follow_faces(frames_at(np.arange(6) / 25, pictures), SquareFinder()))
    seen = [len(faces) for _, faces in results]
    assert seen == [int(number != gone) for number in range(6)]


def test_follow_face_that_looks_like_one_of_its_nodes_needs_no_search() -> None:
    # A cut from one face to another in the same place.
    pictures = [picture([(50, 60)], RED)] * 3 + [picture([(50, 60)], BLUE)] * 3
    find = SquareFinder()
    assert all(
        len(faces) == 1 for _, faces in follow_faces(frames_at(np.arange(6) / 25, pictures), find)
    )
    assert find.searched == [0, 5]


@settings(deadline=None, max_examples=60)
@given(
    places=st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 110), st.integers(0, 110))), max_size=25
    ),
    gaps=st.lists(st.floats(0.02, 1.5), min_size=25, max_size=25),
)
def test_follow_anything_gives_every_frame_once_with_true_boxes_where_searched(
    places: list[Place | None], gaps: list[float]
) -> None:
    times = np.cumsum(gaps)[: len(places)]
    pictures = [picture([place] if place else []) for place in places]
    frames, find = frames_at(times, pictures), SquareFinder()
    results = list(follow_faces(frames, find))
    assert [frame for frame, _ in results] == frames
    assert len(set(find.searched)) == len(find.searched)
    searched = sorted(find.searched)
    if frames:
        assert (searched[0], searched[-1]) == (0, len(frames) - 1)
    for before, after in itertools.pairwise(searched):
        assert after - before <= MAX_NODE_FRAMES
        # The frame before the last one between them was not yet far enough.
        assert after - before == 1 or times[after - 1] - times[before] < MAX_NODE_SECONDS
    for number, (_, faces) in enumerate(results):
        assert all(face.sample_index == number for face in faces)
        if number in find.searched:
            assert len(faces) == (places[number] is not None)


def test_follow_face_that_jumps_about_is_found_as_if_every_frame_were_searched() -> None:
    # Far apart in time, so that nothing is smoothed.
    lefts = [0, 0, 100, 100, 20, 20, 20, 90, 10, 10, 60, 60]
    frames = frames_at(np.arange(12) * 0.35, [picture([(x, 60)]) for x in lefts])
    for number, (_, faces) in enumerate(follow_faces(frames, SquareFinder())):
        assert boxes_of(faces) == [pytest.approx((lefts[number], 60, lefts[number] + 40, 100))]


def test_follow_holds_at_most_six_frames() -> None:
    alive: set[int] = set()
    most = 0

    def streamed() -> Iterator[Frame]:
        nonlocal most
        for number in range(40):
            x = 50 + 60 * (number // 7 % 2)  # jumps now and then: some spans are bisected
            frame = Frame(frame_index=number, pts_seconds=number / 25, rgb_HWC=picture([(x, 60)]))
            alive.add(number)
            weakref.finalize(frame, alive.discard, number)
            most = max(most, len(alive))
            yield frame
            del frame

    for pair in follow_faces(streamed(), SquareFinder()):
        del pair
    assert most == MAX_NODE_FRAMES + 1


def test_follow_still_face_in_a_contiguous_run_jitters_less_than_its_detections() -> None:
    find = SquareFinder(jitter=0.5)
    frames = frames_at(np.arange(101) / 25, [picture([(50, 60)])] * 101)
    results = dict(enumerate(faces[0] for _, faces in follow_faces(frames, find)))
    raw = np.array([face.xyxy for face in find.found])
    smooth = np.array([results[sample].xyxy for sample in find.searched])
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.6 * np.abs(np.diff(raw, axis=0)).mean()
    points = np.array([results[sample].keypoints_xy for sample in find.searched])
    # Key points move with their box.
    np.testing.assert_allclose(points, smooth[:, None, :2] + np.array(OFFSETS))


def test_follow_face_that_moves_is_not_dragged_behind() -> None:
    pictures = [picture([(20 + 4 * n, 60)]) for n in range(11)]
    find = SquareFinder()
    results = list(follow_faces(frames_at(np.arange(11) / 25, pictures), find))
    for sample in find.searched:
        ((_, (face,)),) = results[sample : sample + 1]
        assert face.xyxy[0] == 20 + 4 * sample


def test_follow_confidence_of_a_smoothed_face_is_its_own() -> None:
    def find(frame: Frame, *, sample_index: int) -> list[FaceBox]:
        (face,) = SquareFinder()(frame, sample_index=sample_index)
        return [replace(face, confidence=0.9 if sample_index == 0 else 0.5)]

    results = list(follow_faces(frames_at([0.0, 0.04], [picture([(50, 60)])] * 2), find))
    assert [faces[0].confidence for _, faces in results] == [0.9, 0.5]


def test_follow_nothing_gives_nothing() -> None:
    assert list(follow_faces([], SquareFinder())) == []
