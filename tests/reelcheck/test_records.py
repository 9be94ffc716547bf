"""The records' own guards and derived values."""

import dataclasses

import numpy as np
import pytest

from reelcheck.records import (
    CropSequence,
    FaceBox,
    Frame,
    InputFile,
    Keypoints,
    PacketIndex,
    VideoProbe,
)


def sequence(**changes: object) -> CropSequence:
    values: dict[str, object] = {
        "sequence_id": "s",
        "video_id": "v",
        "track_id": 0,
        "crops_THWC": np.zeros((2, 4, 4, 3), np.uint8),
        "frame_indices": (0, 3),
        "pts_seconds": (0.0, 0.1),
        "boxes_xyxy": ((0.0, 0.0, 1.0, 1.0),) * 2,
        "confidences": (0.9, 0.8),
        "sharpness": (50.0, 60.0),
        "brightness": (100.0, 110.0),
        "keypoints_xy": ((0.5,) * 12,) * 2,
    }
    return CropSequence(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"crops_THWC": np.zeros((3, 4, 4, 3), np.uint8)},
        {"frame_indices": (0,)},
        {"pts_seconds": ()},
        {"boxes_xyxy": ((0.0, 0.0, 1.0, 1.0),)},
        {"confidences": (0.9, 0.8, 0.7)},
        {"sharpness": (50.0,)},
        {"brightness": ()},
        {"keypoints_xy": ((0.5,) * 12,)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_crop_sequence_unequal_lengths_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="unequal lengths"):
        sequence(**changes)


def test_crop_sequence_may_have_no_key_points() -> None:
    assert sequence(keypoints_xy=()).keypoints_xy == ()


def test_crop_sequence_number_of_frames_is_its_length() -> None:
    assert sequence().num_frames == 2


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 6, 3), np.uint8)[:, ::2], np.zeros((4, 6), np.uint8)],
    ids=["not contiguous", "no colour axis"],
)
def test_frame_that_mediapipe_would_misread_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=picture)


def test_face_box_side_and_centre_of_a_wide_box() -> None:
    box = FaceBox(sample_index=0, xyxy=(10.0, 20.0, 50.0, 40.0), confidence=1.0)
    assert box.side_pixels == 40
    assert box.centre == (30, 30)


@pytest.mark.parametrize("eyes", [((10, 50), (30, 40)), ((30, 40), (10, 50))])
def test_face_box_eyes_are_in_the_order_of_the_picture(
    eyes: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    points = Keypoints(*eyes, (20, 60), (20, 70), (0, 50), (40, 50))
    box = FaceBox(sample_index=0, xyxy=(0, 30, 40, 80), confidence=1.0, keypoints_xy=points)
    assert box.eyes_xy == ((10, 50), (30, 40))
    assert FaceBox(sample_index=0, xyxy=(0, 30, 40, 80), confidence=1.0).eyes_xy is None


def test_video_probe_counts_and_duration_come_from_shown_frames() -> None:
    packets = PacketIndex(
        frame_index_P=np.arange(3),
        pts_P=np.arange(3),
        is_restart_P=np.array([True, False, False]),
        is_reference_P=np.ones(3, bool),
    )
    probe = VideoProbe(
        container="c",
        codec="c",
        pixel_format=None,
        width=1,
        height=1,
        pixel_aspect=1.0,
        average_fps=None,
        pts_seconds=(1.5, 2.0, 4.0),
        has_pts=True,
        is_only_video_stream=True,
        has_edit_list=False,
        is_interlaced=False,
        packets=packets,
    )
    assert (probe.num_frames, probe.duration_seconds) == (3, 2.5)


def test_record_cannot_be_changed() -> None:
    file = InputFile(root="/", path="a.mp4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        file.path = "b.mp4"  # type: ignore[misc]
