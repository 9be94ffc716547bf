"""The faces that are shown are the most telling ones, and the heat lies where the model looks."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.interop.runtime import Engine, Floats, SequencePrediction
from reelcheck.records import RGB, CropSequence
from tasks.scoring.evidence import choose_evidence, make_evidence_picture, make_heat_maps
from tasks.scoring.predict import PredictedSequence, TrackPrediction

SIDE = 66
SHOWN = 112
"""Pixels of each face on the picture."""


@dataclass
class LooksAt:
    """A frame is as suspicious as one corner of it is rough; nothing else counts."""

    bottom: bool
    right: bool
    sign: float = 1.0
    name: Engine = "torch"
    batch_size: int = 8

    def encode(self, frames_NHWC: RGB) -> Floats:
        third = frames_NHWC.shape[1] // 3
        rows = slice(2 * third * self.bottom, third * (1 + 2 * self.bottom))
        columns = slice(2 * third * self.right, third * (1 + 2 * self.right))
        corner_NHWC = frames_NHWC[:, rows, columns].astype(np.float32)
        roughness_N = np.abs(np.diff(corner_NHWC, axis=2)).mean(axis=(1, 2, 3))
        return (self.sign * roughness_N)[:, None].astype(np.float32)

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        assert not seconds_T.any()
        weights_T = np.full(len(features_TD), 1 / len(features_TD), np.float32)
        return SequencePrediction(float(features_TD.mean()), features_TD[:, 0], weights_T)


def rough_crops(num_frames: int) -> RGB:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_frames, SIDE, SIDE, 3), dtype=np.uint8)


def flat_crops(*levels: int) -> RGB:
    """Plain faces, told apart by their brightness."""
    levels_N = np.array(levels, np.uint8)[:, None, None, None]
    return np.broadcast_to(levels_N, (len(levels), SIDE, SIDE, 3)).copy()


def judged(logits_T: list[float], *, first_frame: int) -> PredictedSequence:
    frames = range(first_frame, first_frame + len(logits_T))
    sequence = CropSequence(
        sequence_id="s",
        video_id="v",
        track_id=0,
        crops_THWC=flat_crops(*frames),
        frame_indices=tuple(frames),
        pts_seconds=tuple(frame / 25 for frame in frames),
        boxes_xyxy=((0.0, 0.0, 9.0, 9.0),) * len(frames),
        confidences=(0.9,) * len(frames),
        sharpness=(9.0,) * len(frames),
        brightness=(9.0,) * len(frames),
        keypoints_xy=(),
    )
    weights_T = np.full(len(frames), 1 / len(frames), np.float32)
    answer = SequencePrediction(float(np.mean(logits_T)), np.array(logits_T, np.float32), weights_T)
    return PredictedSequence(sequence, answer, ())


LOGITS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


@settings(deadline=None)
@given(earlier=LOGITS, later=LOGITS, num_frames=st.integers(0, 30))
def test_most_telling_frames_have_the_highest_logits_of_the_track_in_time_order(
    earlier: list[float], later: list[float], num_frames: int
) -> None:
    # The later part of the track comes first: order in time is not that in the list.
    parts = (judged(later, first_frame=100), judged(earlier, first_frame=0))
    logits = dict(enumerate(earlier)) | dict(enumerate(later, start=100))
    found = choose_evidence(TrackPrediction(0, parts, 0.0), num_frames=num_frames)
    assert len(found) == min(num_frames, len(logits))
    assert list(found) == sorted(found)
    highest = sorted(logits.values(), reverse=True)[:num_frames]
    assert sorted((logits[index] for index in found), reverse=True) == highest
    for index, (seconds, crop_HWC) in found.items():
        assert seconds == index / 25
        assert (crop_HWC == index).all()


def test_of_equally_telling_frames_the_earliest_are_shown() -> None:
    track = TrackPrediction(0, (judged([1.0, 1.0, 2.0, 1.0], first_frame=0),), 0.0)
    assert list(choose_evidence(track, num_frames=3)) == [0, 1, 2]


CORNERS = pytest.mark.parametrize(("bottom", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])


def corner(maps: NDArray[np.float64], bottom: int, right: int) -> NDArray[np.float64]:
    return maps[:, 2 * bottom, 2 * right]


@CORNERS
def test_heat_lies_in_the_corner_the_model_looks_at_and_nowhere_else(
    bottom: int, right: int
) -> None:
    maps = make_heat_maps(rough_crops(3), LooksAt(bool(bottom), bool(right)))
    assert maps.shape == (3, 3, 3)
    inside = corner(maps, bottom, right)
    # Blurring takes most of the roughness.
    whole = LooksAt(bool(bottom), bool(right)).encode(rough_crops(3))
    assert (inside > 0.6 * whole[:, 0]).all()
    inside[:] = 0
    assert not maps.any()


def test_what_speaks_for_a_real_face_is_cold() -> None:
    maps = make_heat_maps(rough_crops(1), LooksAt(bottom=False, right=False, sign=-1.0))
    assert (corner(maps, 0, 0) < 0).all()


def test_each_face_has_its_own_map_whatever_the_others() -> None:
    runtime, crops = LooksAt(bottom=True, right=False), rough_crops(3)
    together = make_heat_maps(crops, runtime)
    alone = [make_heat_maps(crops[n : n + 1], runtime)[0] for n in range(3)]
    np.testing.assert_array_equal(together, np.stack(alone))


def opened(jpeg: bytes) -> NDArray[np.int64]:
    """The picture as another decoder reads it."""
    with Image.open(BytesIO(jpeg)) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        return np.asarray(picture).astype(np.int64)


@pytest.mark.parametrize("num_faces", [1, 3])
@pytest.mark.parametrize("side", [32, SHOWN, 380])
def test_picture_has_a_row_of_faces_and_one_of_heat(num_faces: int, side: int) -> None:
    crops = [np.full((side, side, 3), 90, np.uint8)] * num_faces
    assert opened(make_evidence_picture([crops], None)).shape == (SHOWN, SHOWN * num_faces, 3)
    maps = np.zeros((num_faces, 4, 4))
    assert opened(make_evidence_picture([crops], maps)).shape == (2 * SHOWN, SHOWN * num_faces, 3)


def test_faces_stand_side_by_side_in_their_own_colours() -> None:
    colours = [(200, 30, 30), (30, 30, 200), (30, 200, 30)]
    crops = [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours]
    picture = opened(make_evidence_picture([crops], None))
    for number, colour in enumerate(colours):
        middle = picture[SHOWN // 2, SHOWN * number + SHOWN // 2]
        assert np.abs(middle - colour).max() < 12


@given(num_faces=st.lists(st.integers(1, 4), min_size=1, max_size=4), has_maps=st.booleans())
@settings(deadline=None, max_examples=25)
def test_each_person_has_a_row_and_the_first_one_the_heat(
    num_faces: list[int], has_maps: bool
) -> None:
    tracks = [list(flat_crops(*range(40 * n, 40 * n + 4 * k, 4))) for n, k in enumerate(num_faces)]
    maps = np.zeros((num_faces[0], 3, 3)) if has_maps else None
    picture = opened(make_evidence_picture(tracks, maps))
    levels = [[int(crop.mean()) for crop in crops] for crops in tracks]
    levels[1:1] = [levels[0]] if has_maps else []
    assert picture.shape == (SHOWN * len(levels), SHOWN * max(num_faces), 3)
    for row, faces in enumerate(levels):
        for column in range(max(num_faces)):
            middle = picture[SHOWN * row + SHOWN // 2, SHOWN * column + SHOWN // 2]
            expected = faces[column] if column < len(faces) else 255
            assert np.abs(middle - expected).max() <= 2


def heat(maps: NDArray[np.float64]) -> NDArray[np.int64]:
    """How far each pixel of the lower row is from the one above, which has no colours."""
    picture = opened(make_evidence_picture([list(flat_crops(*[128] * len(maps)))], maps))
    return np.abs(picture[SHOWN:] - picture[:SHOWN]).max(axis=2)


def test_colours_lie_where_the_map_is_warm() -> None:
    maps = np.zeros((2, 4, 4))
    maps[1, :2, 2:] = 3.0
    maps[1, 2:, :2] = -3.0
    changed = heat(maps)
    assert changed[: SHOWN // 4, -SHOWN // 4 :].min() > 40
    # JPEG alone gives a little.
    assert changed[:, :SHOWN].max() < 10
    assert changed[3 * SHOWN // 4 :, SHOWN : SHOWN + SHOWN // 4].max() < 10


def test_colours_are_those_of_the_largest_fall_of_all_faces() -> None:
    maps = np.stack([np.full((4, 4), fall) for fall in (0.5, 1.0, 4.0)])
    strength = [heat(maps)[:, SHOWN * n : SHOWN * (n + 1)].mean() for n in range(3)]
    assert strength[0] < strength[1] < strength[2]
    np.testing.assert_array_equal(heat(10 * maps), heat(maps))


@pytest.mark.parametrize("fall", [0.0, -1.0, 1e-3])
def test_nothing_is_coloured_where_nothing_falls(fall: float) -> None:
    assert heat(np.full((1, 4, 4), fall)).max() < 10
