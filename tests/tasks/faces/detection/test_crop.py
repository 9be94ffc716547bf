"""The square cut around a face: right place, right size, nothing made up."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import RGB, Keypoints
from tasks.faces.detection.crop import crop_face, measure_quality, place_square

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


def turned_eyes(degrees: float, *, distance: float = 20.0) -> tuple[tuple[float, float], ...]:
    """Eyes around (45, 30), the right one lower by this angle."""
    dx = distance / 2 * math.cos(math.radians(degrees))
    dy = distance / 2 * math.sin(math.radians(degrees))
    return (45 - dx, 30 - dy), (45 + dx, 30 + dy)


@settings(deadline=None)
@given(degrees=st.floats(-80, 80), margin=st.floats(1, 2))
def test_crop_with_eyes_shows_them_level(degrees: float, margin: float) -> None:
    left, right = turned_eyes(degrees)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.circle(frame, (round(left[0]), round(left[1])), 3, (255, 0, 0), cv2.FILLED)
    cv2.circle(frame, (round(right[0]), round(right[1])), 3, (0, 255, 0), cv2.FILLED)
    box = (25.0, 10.0, 65.0, 50.0)
    crop = crop_face(frame, box, margin=margin, crop_pixels=100, eyes_xy=(left, right))
    places = [np.argwhere(crop[..., channel] > 100).mean(axis=0) for channel in (0, 1)]
    scale = 40 * margin / 100
    # A circle's middle is rounded to whole pixels of the frame.
    assert places[0][0] * scale == pytest.approx(places[1][0] * scale, abs=1.5)
    assert (places[1][1] - places[0][1]) * scale == pytest.approx(20, abs=1.5)
    middle = (places[0] + places[1]) / 2
    assert np.abs(middle + 0.5 - 50).max() * scale <= 1.5


@settings(deadline=None)
@given(left=st.integers(-10, 60), top=st.integers(-10, 40), side=st.integers(8, 60))
def test_crop_with_eyes_nearly_level_is_nearly_the_crop_without(
    left: int, top: int, side: int
) -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    frame = np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8)
    box = (left, top, left + side, top + side)
    eyes = ((left, top + side / 2), (left + side, top + side / 2 + 1e-6))
    straight = crop_face(frame, box, margin=1.3, crop_pixels=64)
    turned = crop_face(frame, box, margin=1.3, crop_pixels=64, eyes_xy=eyes)
    assert np.abs(turned.astype(int) - straight).max() <= 1


def test_crop_with_eyes_beyond_the_frame_is_black_and_all_else_is_not() -> None:
    frame = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    inside = crop_face(frame, (35, 20, 55, 40), margin=1.3, crop_pixels=64, eyes_xy=turned_eyes(45))
    assert (inside == 255).all()
    corner = crop_face(
        frame, (-20, -20, 20, 20), margin=1.0, crop_pixels=64, eyes_xy=((-5, -5), (5, 5))
    )
    # The frame fills what lies ahead of the right eye, a quarter turn wide.
    assert corner[:, :31].max() == 0
    assert (corner[32, 34:] == 255).all()
    assert 0.2 < corner.mean() / 255 < 0.3


def blobs(points: Sequence[tuple[float, float]], *, height: int, width: int) -> RGB:
    """A dark picture with a soft spot around each of up to three points, one per channel."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    spots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.5**2)) for px, py in points]
    return (255 * np.stack(spots, axis=2)).round().astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    points=st.lists(
        st.tuples(st.floats(-0.28, 0.28), st.floats(-0.28, 0.28)), min_size=6, max_size=6
    ),
    left=st.integers(20, 100),
    top=st.integers(20, 70),
    side=st.floats(50, 120),
    is_aligned=st.booleans(),
    crop_pixels=st.sampled_from([64, 112, 224]),
)
def test_crop_shows_key_points_where_its_square_says(
    points: list[tuple[float, float]],
    left: int,
    top: int,
    side: float,
    is_aligned: bool,
    crop_pixels: int,
) -> None:
    box = (left, top, left + side, top + side)
    points = [(left + (0.5 + x) * side, top + (0.5 + y) * side) for x, y in points]
    eyes = (min(points[:2]), max(points[:2])) if is_aligned else None
    square = place_square(box, margin=1.5, eyes_xy=eyes)
    expected = square.locate_keypoints(Keypoints(*points))
    for part in (slice(0, 3), slice(3, 6)):
        frame = blobs(points[part], height=200, width=260)
        crop = square.cut(frame, crop_pixels=crop_pixels).astype(float)
        np.testing.assert_array_equal(
            crop, crop_face(frame, box, margin=1.5, crop_pixels=crop_pixels, eyes_xy=eyes)
        )
        middles = (np.arange(crop_pixels) + 0.5) / crop_pixels
        for spot, (x, y) in zip(np.moveaxis(crop, 2, 0), expected[part], strict=True):
            found = (spot.sum(axis=0) @ middles, spot.sum(axis=1) @ middles) / spot.sum()
            assert np.abs(found - (x, y)).max() * square.side <= 0.1  # pixels of the frame


def test_crop_turned_shows_key_points_beyond_it_beyond_it() -> None:
    square = place_square((0, 0, 40, 40), margin=1.0, eyes_xy=((20, 10), (20, 30)))
    points = Keypoints((20, 10), (20, 30), (10, 20), (0, 20), (20, -20), (20, 60))
    expected = [(0.25, 0.5), (0.75, 0.5), (0.5, 0.75), (0.5, 1), (-0.5, 0.5), (1.5, 0.5)]
    np.testing.assert_allclose(square.locate_keypoints(points), expected, atol=1e-12)


def test_crop_of_a_profile_is_not_turned() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    straight = crop_face(frame, (25, 10, 65, 50), margin=1.0, crop_pixels=64)
    eyes = turned_eyes(60, distance=3)
    profile = crop_face(frame, (25, 10, 65, 50), margin=1.0, crop_pixels=64, eyes_xy=eyes)
    np.testing.assert_array_equal(profile, straight)


def test_crop_quality_tells_sharp_from_blurred_and_bright_from_dark() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    sharpness, brightness = measure_quality(noise)
    blurred, same = measure_quality(np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8))
    assert blurred < sharpness / 10
    assert same == pytest.approx(brightness, abs=2)
    assert measure_quality(np.full((112, 112, 3), 77, np.uint8)) == (0, 77)
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 255
    assert measure_quality(red)[1] == pytest.approx(0.299 * 255, abs=1)


def test_crop_quality_of_a_checkerboard_is_the_variance_of_its_laplacian() -> None:
    board = (255 * (np.indices((112, 112)).sum(axis=0) % 2)).astype(np.uint8)
    sharpness, brightness = measure_quality(np.stack([board] * 3, axis=2))
    # Each pixel differs from its four neighbours by 255: the Laplacian is plus or minus 1020.
    assert sharpness == pytest.approx(1020**2)
    assert brightness == pytest.approx(127.5)
