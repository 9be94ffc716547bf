"""What the real detector says of a rendered face."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reelcheck.records import RGB, Frame
from tasks.faces.detect import FaceDetector
from tasks.synthetic.clip import render_frames


@pytest.fixture(scope="module")
def detector(face_model: Path) -> Iterator[FaceDetector]:
    with FaceDetector(face_model, min_confidence=0.5) as opened:
        yield opened


@pytest.fixture(scope="module")
def face() -> RGB:
    frames = render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=1, height=192)
    return next(iter(frames))


def as_frame(rgb: RGB) -> Frame:
    return Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=np.ascontiguousarray(rgb))


def test_detect_eyes_lie_level_in_the_box_the_left_of_the_picture_first(
    detector: FaceDetector, face: RGB
) -> None:
    for rgb in (face, face[:, ::-1]):
        (found,) = detector.detect(as_frame(rgb), sample_index=5)
        assert found.sample_index == 5
        assert found.eyes_xy is not None
        (left_x, left_y), (right_x, right_y) = found.eyes_xy
        x1, y1, x2, y2 = found.xyxy
        assert x1 < left_x < found.centre[0] < right_x < x2
        assert y1 < min(left_y, right_y)
        assert max(left_y, right_y) < y1 + 0.7 * (y2 - y1)
        assert abs(right_y - left_y) < 0.2 * (right_x - left_x)


def test_detect_eyes_are_in_pixels_of_the_frame(detector: FaceDetector, face: RGB) -> None:
    wider = np.zeros((face.shape[0] + 40, face.shape[1] + 60, 3), np.uint8)
    wider[40:, 60:] = face
    (before,) = detector.detect(as_frame(face), sample_index=0)
    (after,) = detector.detect(as_frame(wider), sample_index=0)
    assert np.array(after.eyes_xy) - np.array(before.eyes_xy) == pytest.approx(
        np.array([[60, 40], [60, 40]]), abs=0.1 * before.side_pixels
    )


def test_detect_nothing_on_a_plain_picture(detector: FaceDetector) -> None:
    assert detector.detect(as_frame(np.full((120, 160, 3), 128, np.uint8)), sample_index=0) == []
