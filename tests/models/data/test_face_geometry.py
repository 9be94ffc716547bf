"""The axes of a face and shapes drawn along them."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from models.data.face_geometry import FaceAxes

FRONTAL = np.float32(
    [(0.34, 0.36), (0.66, 0.36), (0.5, 0.55), (0.5, 0.7), (0.2, 0.43), (0.8, 0.43)]
)
DIAMOND = np.float32([(0, -0.5), (0.8, 0.4), (0, 1.3), (-0.8, 0.4)])


def turned(points_62: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return ((points_62 - 0.5) @ turn + 0.5).astype(np.float32)


@given(degrees=st.floats(0, 360), scale=st.floats(0.4, 1.2))
def test_shapes_lie_on_the_face_at_any_angle_and_size(degrees: float, scale: float) -> None:
    points = turned(0.5 + scale * (FRONTAL - 0.5), degrees)
    axes = FaceAxes.locate(points[None])
    placed = axes.move_to_crop(np.float32([(0, 0), (0, 1), (1, 0), (-1, 0)]))[0]
    eyes, mouth, left, right = placed
    np.testing.assert_allclose(eyes, points[:2].mean(0), atol=1e-5)
    np.testing.assert_allclose(mouth, points[3], atol=1e-5)
    assert (left - right) @ (mouth - eyes) == pytest.approx(0, abs=1e-5)
    # The person's left is where the left eye is, and the cheeks end beyond the eyes.
    assert (left - eyes) @ (points[1] - eyes) > np.sum((points[1] - eyes) ** 2)


def test_width_of_a_face_in_profile_comes_from_its_height() -> None:
    profile = FRONTAL.copy()
    profile[[0, 1, 4, 5], 0] = 0.5  # eyes and ears upon one another
    across = FaceAxes.locate(profile[None]).across_T2[0]
    assert 0.2 < np.linalg.norm(across) < 0.35


@pytest.mark.parametrize("side", [32, 112, 301])
def test_filled_shape_has_the_area_that_its_corners_enclose(side: int) -> None:
    axes = FaceAxes.locate(FRONTAL[None])
    mask = axes.draw_masks(DIAMOND, side=side)[0]
    x, y = axes.move_to_crop(DIAMOND)[0].T.astype(np.float64) * side
    enclosed = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    edge = np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).sum()
    assert abs(mask.sum() - enclosed) < edge
    assert (mask.min(), mask.max()) == (0, 1)


def test_shape_turns_with_the_face() -> None:
    upright, lying = (
        FaceAxes.locate(points[None]).draw_masks(DIAMOND, side=128)[0]
        for points in (FRONTAL, turned(FRONTAL, 90))
    )
    assert np.abs(np.rot90(upright, -1) - lying).mean() < 0.004
    assert np.abs(upright - lying).mean() > 0.03


EAR_FAR_AWAY = np.float32([*FRONTAL[:5], (1e30, 0.4)])


@given(wild=arrays.arrays(np.float32, (3, 6, 2), elements=st.floats(width=32)))
@example(wild=np.stack([FRONTAL, EAR_FAR_AWAY, FRONTAL]))
def test_points_that_make_no_face_give_a_face_inside_the_crop_all_the_same(
    wild: NDArray[np.float32],
) -> None:
    masks = FaceAxes.locate(wild).draw_masks(DIAMOND, side=32)
    assert np.isfinite(masks).all()
    assert (masks.max((1, 2)) > 0).all()


@pytest.mark.parametrize(
    "bad",
    [
        FRONTAL * np.nan,
        np.where(np.arange(6)[:, None] == 4, np.inf, FRONTAL),
        FRONTAL * 0,
        FRONTAL + 5,
        0.5 + 0.01 * (FRONTAL - 0.5),
    ],
    ids=["nan", "one infinite", "one place", "outside", "tiny"],
)
def test_bad_frame_is_replaced_and_its_neighbour_is_not(bad: NDArray[np.float32]) -> None:
    good = turned(FRONTAL, 30)
    axes = FaceAxes.locate(np.stack([bad, good]).astype(np.float32))
    np.testing.assert_allclose(axes.eyes_T2[0], FRONTAL[:2].mean(0), atol=1e-6)
    np.testing.assert_allclose(axes.eyes_T2[1], good[:2].mean(0), atol=1e-6)
