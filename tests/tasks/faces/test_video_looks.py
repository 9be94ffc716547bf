"""The looks beyond the first: at moments, at runs of frames, and at frames in another view."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings
from reelcheck.records import VideoResult
from reelcheck.status import Status
from tasks.faces.detection.crop import crop_face
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import extract_video
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

CLOSE_MARGIN = 0.9
Extract = Callable[..., VideoResult]


@pytest.fixture(scope="module")
def extract(face_model: Path) -> Iterator[Extract]:
    with FaceDetector(face_model, min_confidence=0.5) as detector:

        def run(path: Path, **changes: object) -> VideoResult:
            return extract_video(
                path, "a" * 64, PreprocessSettings.model_validate(changes), detector
            )

        yield run


@pytest.fixture(scope="module")
def face_frames() -> list[NDArray[np.uint8]]:
    return list(render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192))


def test_extract_face_shown_for_a_moment_is_looked_at_again(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    # Of 30 samples over 224 frames only three or four meet the face.
    path = tmp_path / "late.mp4"
    grey = [np.full_like(face_frames[0], level % 200) for level in range(100)]
    write_h264(path, grey + face_frames + grey, fps=25, crf=20)
    result = extract(path)
    assert (result.status, result.num_faces) == (Status.OK, 1)
    (sequence,) = result.sequences
    assert sequence.num_frames >= 10
    assert set(sequence.frame_indices) <= set(range(100, 124))


def test_extract_two_moments_are_both_looked_at_again(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    path = tmp_path / "moments.mp4"
    others = list(
        render_frames(identity_seed=5, clip_seed=3, kind="real", num_frames=24, height=192)
    )
    grey = [np.full_like(face_frames[0], level % 200) for level in range(100)]
    write_h264(path, grey + face_frames + grey + others + grey, fps=25, crf=20)
    result = extract(path)
    assert (result.status, result.num_faces) == (Status.OK, 2)
    first, second = result.sequences
    assert set(first.frame_indices) <= set(range(100, 124))
    assert set(second.frame_indices) <= set(range(224, 248))


def test_extract_clips_give_sequences_of_neighbouring_frames(
    extract: Extract, tmp_path: Path
) -> None:
    path = tmp_path / "long.mp4"
    frames = render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=120, height=192)
    write_h264(path, frames, fps=25, crf=20)
    result = extract(path, sampling="clips", num_clips=3, clip_frames=12)
    assert (result.status, result.num_faces) == (Status.OK, 1)
    assert result.num_frames_sampled == 36
    assert len(result.sequences) == 3
    for number, sequence in enumerate(result.sequences):
        first = sequence.frame_indices[0]
        assert sequence.frame_indices == tuple(range(first, first + 12))
        assert 40 * number <= first <= 40 * number + 28
    # The rest of a run, too short for a sequence of its own, joins no other run.
    short = extract(path, sampling="clips", num_clips=3, clip_frames=12, max_sequence_frames=11)
    assert [sequence.num_frames for sequence in short.sequences] == [11, 11, 11]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_extract_head_that_is_not_upright_is_found_and_cropped_upright(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path, rotation: int
) -> None:
    path, reference_path = tmp_path / "turned.mp4", tmp_path / "upright.mp4"
    write_h264(reference_path, face_frames, fps=25, crf=10)
    turned = [np.ascontiguousarray(np.rot90(f, k=-rotation // 90)) for f in face_frames]
    write_h264(path, turned, fps=25, crf=10)
    result, upright = extract(path), extract(reference_path)
    assert (upright.head_rotation, result.head_rotation) == (0, rotation)
    assert (result.status, result.num_faces) == (Status.OK, 1)
    size = (256, 192) if rotation == 180 else (192, 256)
    assert (result.width, result.height) == size
    (sequence,), (reference,) = result.sequences, upright.sequences
    assert sequence.num_frames == reference.num_frames == 24
    difference = sequence.crops_THWC.astype(int) - reference.crops_THWC
    assert np.abs(difference).mean() <= 6
    np.testing.assert_allclose(sequence.keypoints_xy, reference.keypoints_xy, atol=0.05)
    # Boxes lie on the frame as shown, where the crop was cut, upright or not.
    for crop, index, box in zip(
        sequence.crops_THWC, sequence.frame_indices, sequence.boxes_xyxy, strict=True
    ):
        cut = crop_face(turned[index], box, margin=1.3, crop_pixels=112)
        assert np.abs(np.rot90(cut, k=rotation // 90).astype(int) - crop).mean() <= 6


def test_extract_face_too_small_for_the_detector_is_found_in_a_tile(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    path = tmp_path / "small.mp4"
    background = np.full((720, 1280, 3), 90, np.uint8)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for face in face_frames:
            whole = background.copy()
            whole[500:572, 900:996] = cv2.resize(face, (96, 72), interpolation=cv2.INTER_AREA)
            yield whole

    write_h264(path, frames(), fps=25, crf=10)
    result = extract(path, min_face_pixels=16)
    assert (result.status, result.num_faces, result.head_rotation) == (Status.OK, 1, 0)
    for x1, y1, x2, y2 in result.sequences[0].boxes_xyxy:
        assert 900 <= (x1 + x2) / 2 <= 996
        assert 500 <= (y1 + y2) / 2 <= 572
    assert extract(path, min_face_pixels=64).status is Status.FACE_TOO_SMALL


def test_extract_face_that_fills_the_picture_is_found(
    extract: Extract, face_video: Path, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    path = tmp_path / "close.mp4"
    box = np.median(extract(face_video).sequences[0].boxes_xyxy, axis=0)
    close = (
        crop_face(frame, tuple(box), margin=CLOSE_MARGIN, crop_pixels=192) for frame in face_frames
    )
    write_h264(path, close, fps=25, crf=10)
    result = extract(path)
    assert (result.status, result.num_faces, result.head_rotation) == (Status.OK, 1, 0)
    x1, y1, x2, y2 = np.median(result.sequences[0].boxes_xyxy, axis=0) / 192
    assert (x1 + x2) / 2 == pytest.approx(0.5, abs=0.15)
    assert max(x2 - x1, y2 - y1) > 0.75
