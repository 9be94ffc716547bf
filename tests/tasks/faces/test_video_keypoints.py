"""Key points from the detector to the crops that they are stored with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reelcheck.config import PreprocessSettings
from reelcheck.records import FaceBox, Frame, VideoResult
from reelcheck.status import Status
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import extract_video

VIDEO_ID = "0123456789abcdef" * 4
Extract = Callable[..., VideoResult]


@pytest.fixture(scope="module")
def extract(detector: FaceDetector) -> Extract:
    def run(path: Path, **changes: object) -> VideoResult:
        return extract_video(path, VIDEO_ID, PreprocessSettings.model_validate(changes), detector)

    return run


def test_extract_key_points_are_those_that_the_detector_sees_in_the_crops(
    face_video: Path, extract: Extract, detector: FaceDetector
) -> None:
    (sequence,) = extract(face_video, margin=2.0, crop_pixels=224).sequences
    assert np.array(sequence.keypoints_xy).shape == (24, 12)
    for crop, points in zip(sequence.crops_THWC, sequence.keypoints_xy, strict=True):
        frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=crop)
        (found,) = detector.detect(frame, sample_index=0)
        seen = np.array(found.keypoints_xy).flatten() / 224
        np.testing.assert_allclose(points, seen, atol=0.04)


class Forgetful(FaceDetector):
    """Does not say where the key points are on one of the frames that it searches."""

    def detect(self, frame: Frame, *, sample_index: int) -> list[FaceBox]:
        """Faces on one frame."""
        faces = super().detect(frame, sample_index=sample_index)
        return [replace(face, keypoints_xy=None) for face in faces] if sample_index == 20 else faces


def test_extract_sequence_with_a_frame_without_key_points_has_none(
    face_video: Path, face_model: Path
) -> None:
    settings = PreprocessSettings(max_sequence_frames=12)
    with Forgetful(face_model, min_confidence=0.5) as detector:
        result = extract_video(face_video, VIDEO_ID, settings, detector)
    assert result.status is Status.OK
    assert [len(sequence.keypoints_xy) for sequence in result.sequences] == [12, 0]


def test_extract_aligned_crops_have_their_eyes_level(face_video: Path, extract: Extract) -> None:
    (sequence,) = extract(face_video, align_eyes=True).sequences
    (as_shown,) = extract(face_video).sequences
    eyes = np.array(sequence.keypoints_xy)[:, :4]
    np.testing.assert_allclose(eyes[:, 1], eyes[:, 3], atol=1e-9)
    before = np.array(as_shown.keypoints_xy)[:, :4]
    assert np.abs(before[:, 1] - before[:, 3]).min() > 1e-4
    np.testing.assert_allclose(
        np.hypot(*(eyes[:, 2:] - eyes[:, :2]).T), np.hypot(*(before[:, 2:] - before[:, :2]).T)
    )
