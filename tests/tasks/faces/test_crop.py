"""The square cut around a face: right place, right size, nothing made up."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.faces.crop import crop_face

HEIGHT, WIDTH = 60, 90
CORNERS = st.integers(-120, 200)
SIDES = st.integers(1, 100)


@settings(deadline=None)
@given(
    left=CORNERS,
    top=CORNERS,
    width=SIDES,
    height=SIDES,
    margin=st.floats(1, 3),
    size=st.integers(32, 128),
)
def test_crop_any_box_gives_a_square_of_the_size_asked_for(
    left: int, top: int, width: int, height: int, margin: float, size: int
) -> None:
    frame = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    box = (float(left), float(top), float(left + width), float(top + height))
    crop = crop_face(frame, box, margin=margin, crop_pixels=size)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    # White where the frame is, black where it is not: the share of white is that of the frame.
    side = max(width, height) * margin
    x, y = left + width / 2, top + height / 2
    inside_x = max(0.0, min(WIDTH, x + side / 2) - max(0.0, x - side / 2))
    inside_y = max(0.0, min(HEIGHT, y + side / 2) - max(0.0, y - side / 2))
    share = inside_x * inside_y / side**2
    # A side is rounded to whole pixels, and each edge with it.
    assert crop.mean() / 255 == pytest.approx(share, abs=4 / max(side, 2))


@settings(deadline=None)
@given(left=CORNERS, top=CORNERS, side=st.integers(8, 60), margin=st.floats(1, 3))
def test_crop_centre_of_the_box_is_the_centre_of_the_crop(
    left: int, top: int, side: int, margin: float
) -> None:
    # Colours say where a pixel is: red its x, green its y, blue that it is there at all.
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    frame = np.stack([2 * x, 2 * y, np.full_like(x, 255)], axis=2).astype(np.uint8)
    size = 64
    crop = crop_face(
        frame, (left, top, left + side, top + side), margin=margin, crop_pixels=size
    ).astype(float)
    whole = crop[..., 2] == 255
    scale = side * margin / size
    rows, columns = np.nonzero(whole)
    expected_x = left + side / 2 + (columns + 0.5 - size / 2) * scale
    expected_y = top + side / 2 + (rows + 0.5 - size / 2) * scale
    allowed = 1.5 + scale
    assert np.abs(crop[..., 0][whole] / 2 + 0.5 - expected_x).max(initial=0) <= allowed
    assert np.abs(crop[..., 1][whole] / 2 + 0.5 - expected_y).max(initial=0) <= allowed


def test_crop_square_of_one_colour_fills_the_middle_and_no_more() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[20:40, 30:50] = (200, 100, 50)
    crop = crop_face(frame, (30, 20, 50, 40), margin=2.0, crop_pixels=80)
    np.testing.assert_array_equal(crop[22:58, 22:58], np.full((36, 36, 3), (200, 100, 50)))
    border = np.ones((80, 80), bool)
    border[18:62, 18:62] = False
    assert not crop[border].any()


def test_crop_of_its_own_size_is_the_pixels_themselves() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    crop = crop_face(frame, (10, 5, 50, 45), margin=1.0, crop_pixels=40)
    np.testing.assert_array_equal(crop, frame[5:45, 10:50])


def test_crop_of_half_the_size_averages_areas() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    crop = crop_face(frame, (0, 0, 60, 60), margin=1.0, crop_pixels=30)
    means = frame[:60, :60].reshape(30, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 0.51


def test_crop_longer_side_decides() -> None:
    frame = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    frame[:, 40:50] = 0
    crop = crop_face(frame, (40, 10, 50, 50), margin=1.0, crop_pixels=40)
    np.testing.assert_array_equal(crop, frame[10:50, 25:65])


def test_crop_outside_of_the_frame_is_black() -> None:
    frame = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    corner = crop_face(frame, (-20, -20, 20, 20), margin=1.0, crop_pixels=40)
    assert not corner[:20].any()
    assert not corner[:, :20].any()
    assert (corner[20:, 20:] == 255).all()
    assert not crop_face(frame, (500, 500, 540, 540), margin=1.0, crop_pixels=40).any()


def test_crop_enlarging_makes_no_colour_beyond_those_there() -> None:
    frame = np.random.default_rng(0).integers(50, 200, (HEIGHT, WIDTH, 3), np.uint8)
    crop = crop_face(frame, (40, 20, 50, 30), margin=1.0, crop_pixels=112)
    part = frame[20:30, 40:50]
    assert part.min() <= crop.min() <= crop.max() <= part.max()
    back = cv2.resize(crop, (10, 10), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - part).mean() < 20


def test_crop_does_not_change_the_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    before = frame.copy()
    crop = crop_face(frame, (10, 5, 50, 45), margin=1.0, crop_pixels=40)
    crop[:] = 0
    np.testing.assert_array_equal(frame, before)
