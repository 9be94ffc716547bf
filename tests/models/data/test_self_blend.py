"""Fakes made of real sequences alone."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from models.data.face_geometry import FaceAxes
from models.data.self_blend import SelfBlend, make_self_blend
from reelcheck.records import RGB

FACE = np.float32([(0.34, 0.36), (0.66, 0.36), (0.5, 0.55), (0.5, 0.7), (0.2, 0.43), (0.8, 0.43)])
SEEDS = st.integers(0, 2**32)


def moving_picture(num_frames: int, side: int = 64, *, speed: float = 1.0) -> RGB:
    """Soft blobs of colour that drift sideways by `speed` pixels per frame, read-only."""
    rng = np.random.default_rng(7)
    noise = rng.normal(128, 600, (side, side + 64, 3)).astype(np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), 0.05 * side)
    shifts = [np.float32([[1, 0, -speed * t], [0, 1, 0]]) for t in range(num_frames)]
    frames = np.stack([cv2.warpAffine(field, shift, (side, side)) for shift in shifts])
    crops = np.clip(frames, 0, 255).astype(np.uint8)
    crops.flags.writeable = False
    return crops


def blend(crops: RGB, seed: int, keypoints: NDArray[np.float32] = FACE) -> SelfBlend:
    keypoints_T62 = np.broadcast_to(keypoints, (len(crops), 6, 2))
    return make_self_blend(crops, keypoints_T62, np.random.default_rng(seed))


def mean_frame_difference(crops: RGB) -> float:
    return float(np.abs(np.diff(crops.astype(np.float32), axis=0)).mean())


@settings(max_examples=60)
@given(seed=SEEDS, num_frames=st.integers(1, 4), side=st.integers(32, 130))
def test_fake_equals_its_twin_outside_the_mask_and_differs_inside(
    seed: int, num_frames: int, side: int
) -> None:
    crops = moving_picture(num_frames, side)
    before = crops.copy()
    made = blend(crops, seed)
    for pictures in (made.fake_THWC, made.twin_THWC):
        assert (pictures.dtype, pictures.shape) == (np.uint8, crops.shape)
    assert (made.mask_THW.dtype, made.mask_THW.shape) == (np.float32, crops.shape[:3])
    assert made.mask_THW.min() == 0
    assert (made.mask_THW.max((1, 2)) > 0.4).all()
    assert made.mask_THW.max() <= 1
    difference = np.abs(made.fake_THWC.astype(int) - made.twin_THWC).max(-1)
    assert (difference[made.mask_THW == 0] == 0).all()
    assert (difference * (made.mask_THW > 0)).max((1, 2)).min() > 0
    assert np.array_equal(crops, before)


@pytest.mark.parametrize("side", [32, 1024])
def test_smallest_and_largest_crops(side: int) -> None:
    made = blend(moving_picture(1, side), 0)
    assert made.fake_THWC.shape == (1, side, side, 3)


@given(
    seed=SEEDS,
    keypoints=arrays.arrays(
        np.float32, (2, 6, 2), elements=st.floats(-0.5, 1.5, width=32) | st.floats(width=32)
    ),
)
def test_no_key_points_crash_it_or_leave_a_frame_unchanged(
    seed: int, keypoints: NDArray[np.float32]
) -> None:
    made = make_self_blend(moving_picture(2, 32), keypoints, np.random.default_rng(seed))
    assert (made.mask_THW.max((1, 2)) > 0).all()


def test_everything_follows_from_the_generator() -> None:
    crops = moving_picture(3)
    first, again = blend(crops, 5), blend(crops, 5)
    for name in ("fake_THWC", "twin_THWC", "mask_THW"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert len({blend(crops, seed).fake_THWC.tobytes() for seed in range(20)}) == 20


@given(seed=SEEDS)
def test_twin_is_each_frame_with_one_look(seed: int) -> None:
    crops = moving_picture(4, 48, speed=6)
    forward, backward = blend(crops, seed), blend(crops[::-1], seed)
    assert np.array_equal(forward.twin_THWC, backward.twin_THWC[::-1])
    # The look is of colour and detail, never of place.
    assert np.abs(forward.twin_THWC.astype(int) - crops).mean() < 50
    elsewhere = FACE[:, ::-1]
    assert np.array_equal(forward.twin_THWC, blend(crops, seed, elsewhere).twin_THWC)


def test_either_side_is_changed_about_as_often() -> None:
    crops = moving_picture(1, 32)
    untouched = sum(np.array_equal(blend(crops, seed).twin_THWC, crops) for seed in range(200))
    assert 70 < untouched < 130  # binomial, 4 standard deviations


def test_twin_of_an_untouched_sequence_can_be_written_to() -> None:
    twins = [blend(moving_picture(1, 32), seed).twin_THWC for seed in range(10)]
    assert all(twin.flags.writeable for twin in twins)


def test_fakes_are_neither_flickering_nor_frozen() -> None:
    crops = moving_picture(16, 96, speed=1.5)
    ratios = []
    for seed in range(40):
        made = blend(crops, seed)
        ratios.append(mean_frame_difference(made.fake_THWC) / mean_frame_difference(made.twin_THWC))
    assert 0.9 < np.median(ratios) < 1.2
    assert min(ratios) > 0.7
    assert max(ratios) < 2


def test_place_colour_and_outline_hold_over_a_still_sequence() -> None:
    still = np.repeat(moving_picture(1, 96), 12, axis=0)
    for seed in range(20):
        made = blend(still, seed)
        assert np.array_equal(made.mask_THW, np.repeat(made.mask_THW[:1], 12, axis=0))
        change = made.fake_THWC.astype(np.float32) - made.twin_THWC
        # Over time it only wanders: far less than it differs from the real one.
        assert change.std(0).mean() < 0.5 * np.abs(change).mean()


def test_blends_show_from_subtle_to_clear() -> None:
    crops = moving_picture(1, 96)
    levels = []
    for seed in range(60):
        made = blend(crops, seed)
        inside = made.mask_THW > 0.4
        levels.append(np.abs(made.fake_THWC.astype(int) - made.twin_THWC)[inside].mean())
    assert min(levels) > 0.5
    assert np.quantile(levels, 0.2) < 8 < np.quantile(levels, 0.95)


def test_mask_covers_the_face_or_a_part_of_it_and_nothing_far_from_it() -> None:
    crops = moving_picture(1, 128)
    axes = FaceAxes.locate(FACE[None])
    eyes, mouth, *far = (
        axes.move_to_crop(np.float32([place]))[0, 0]
        for place in ((0, 0), (0, 1), (2.2, 1), (-2.2, 1))
    )
    covered = set()
    for seed in range(60):
        mask = blend(crops, seed).mask_THW[0]
        at = [
            float(mask[tuple(np.clip((128 * p[::-1]).astype(int), 0, 127))])
            for p in (eyes, mouth, *far)
        ]
        covered.add((at[0] > 0.3, at[1] > 0.3))
        assert max(at[2:]) < 0.05
    assert covered == {(True, True), (True, False), (False, True)}


def test_mask_follows_the_face() -> None:
    crops = moving_picture(2, 128)
    small = np.round((0.5 + 0.5 * (FACE - 0.5)) * 128) / 128
    keypoints = np.stack([small, small + np.array([8, -12]) / 128]).astype(np.float32)
    for seed in range(10):
        first, second = make_self_blend(crops, keypoints, np.random.default_rng(seed)).mask_THW
        np.testing.assert_allclose(np.roll(first, (-12, 8), (0, 1)), second, atol=0.02)


def test_strength_is_drawn() -> None:
    crops = moving_picture(1, 96)
    strongest = [blend(crops, seed).mask_THW.max() for seed in range(60)]
    assert min(strongest) < 0.55
    assert max(strongest) > 0.99
    assert 0.6 < np.mean(strongest) < 0.95
