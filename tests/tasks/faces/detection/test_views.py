"""Other ways to look at a frame: what they find lies where it is on the frame as shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import FaceBox, Frame, Keypoints
from tasks.faces.detection.views import AS_SHOWN, BORDERED, TILED, TURNED, View, list_other_views

MARKS = ((4, 3), (15, 2), (9, 7), (10, 11), (0, 5), (19, 4))
"""Pixels of the square that its key points lie in the middle of, in their order."""


def find_square(frame: Frame, *, sample_index: int) -> list[FaceBox]:
    """A detector of one bright square and of its marks."""
    ys, xs = np.nonzero(frame.rgb_HWC[..., 0] > 100)
    if not len(xs):
        return []
    x1, y1, x2, y2 = map(float, (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    box = (x1, y1, x2, y2)
    # Less sure of a square of which a part is cut off.
    confidence = 0.5 + (x2 - x1) * (y2 - y1) / 10_000
    return [
        FaceBox(
            sample_index=sample_index,
            xyxy=box,
            confidence=confidence,
            keypoints_xy=find_marks(frame),
        )
    ]


def find_marks(frame: Frame) -> Keypoints | None:
    """The middles of the marked pixels; none where one is cut off."""
    places = [np.argwhere(frame.rgb_HWC[..., 1] == 40 * mark) for mark in range(1, 7)]
    if not all(map(len, places)):
        return None
    return Keypoints(*((float(x) + 0.5, float(y) + 0.5) for ((y, x),) in places))


def frame_with_square(left: int, top: int, *, width: int = 200, height: int = 120) -> Frame:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[top : top + 15, left : left + 20, 0] = 255
    for mark, (x, y) in enumerate(MARKS, 1):
        rgb[top + y, left + x, 1] = 40 * mark
    return Frame(frame_index=3, pts_seconds=0.1, rgb_HWC=rgb)


@settings(deadline=None, max_examples=40)
@given(
    left=st.integers(0, 180),
    top=st.integers(0, 105),
    view=st.sampled_from([AS_SHOWN, *TURNED, TILED, BORDERED]),
)
def test_view_box_and_key_points_are_where_they_are_on_the_frame_as_shown(
    left: int, top: int, view: View
) -> None:
    frame = frame_with_square(left, top)
    turned = view.turn(frame)
    (face,) = (
        view.turn_back(box, turned) for box in view.make_finder(find_square)(turned, sample_index=7)
    )
    assert face.xyxy == (left, top, left + 20, top + 15)
    assert face.keypoints_xy == tuple((left + x + 0.5, top + y + 0.5) for x, y in MARKS)
    assert face.sample_index == 7
    assert view.measure_shown_size(turned) == (200, 120)


@pytest.mark.parametrize("view", TURNED)
def test_view_turns_counter_clockwise(view: View) -> None:
    frame = frame_with_square(180, 0)  # upper right
    turned = view.turn(frame)
    upper_right = {90: (0, 0), 180: (0, 1), 270: (1, 1)}[view.rotation]  # x, y; 1 is the far end
    height, width = turned.rgb_HWC.shape[:2]
    (box,) = find_square(turned, sample_index=0)
    assert (box.centre[0] > width / 2, box.centre[1] > height / 2) == upper_right
    assert turned.rgb_HWC.flags.c_contiguous
    assert (turned.frame_index, turned.pts_seconds) == (3, 0.1)


def test_tiles_face_on_the_edge_of_a_tile_is_found_once_and_whole() -> None:
    sides = []
    for left in range(180):
        (face,) = TILED.make_finder(find_square)(frame_with_square(left, 50), sample_index=0)
        sides.append(face.side_pixels)
    assert sides == [20] * 180


def test_tiles_two_faces_are_two() -> None:
    rgb = frame_with_square(10, 10).rgb_HWC | frame_with_square(150, 90).rgb_HWC
    frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=rgb)
    faces = TILED.make_finder(find_square)(frame, sample_index=0)
    assert sorted(face.xyxy[:2] for face in faces) == [(10, 10), (150, 90)]


def test_other_views_small_picture_is_not_tiled() -> None:
    small = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=np.zeros((360, 639, 3), np.uint8))
    large = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=np.zeros((640, 360, 3), np.uint8))
    assert TILED not in list_other_views(small)
    assert TILED in list_other_views(large)
    assert {view.rotation for view in list_other_views(small)} == {0, 90, 180, 270}
