"""Cut a square around a face box and resize it; measure its sharpness and brightness."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from reelcheck.records import RGB, Keypoints, Point

MIN_EYE_DISTANCE = 0.1
"""In box sides. Eyes at a smaller distance belong to a face in profile: their slope is noise."""


@dataclass(frozen=True, kw_only=True)
class CropSquare:
    """The square of a frame that a crop shows, in whole pixels before the turn."""

    left: int
    top: int
    side: int
    radians: float = 0.0
    """Angle of the turn about its middle: clockwise, as seen on the picture."""

    def cut(self, rgb_HWC: RGB, *, crop_pixels: int) -> RGB:
        """Cut the square out of a frame.

        Args:
            rgb_HWC: the frame.
            crop_pixels: side S of the result.

        Returns:
            (S, S, 3) uint8, black beyond the frame: no pixel is invented.
        """
        square = (
            _cut_turned_square(rgb_HWC, self.left, self.top, self.side, self.radians)
            if self.radians
            else _cut_square(rgb_HWC, self.left, self.top, self.side)
        )
        # Area averaging avoids aliasing when a picture shrinks, and does not apply when it grows.
        shrinks = self.side >= crop_pixels
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(square, (crop_pixels, crop_pixels), interpolation=method)
        return np.asarray(resized, np.uint8)

    def locate_keypoints(self, keypoints_xy: Keypoints) -> Keypoints:
        """Locate key points of the frame in the crop.

        Args:
            keypoints_xy: key points in pixels of the frame.

        Returns:
            Key points in sides of the crop: (0, 0) is its upper left corner, (1, 1) its lower right
            corner.
        """
        cos, sin = math.cos(self.radians), math.sin(self.radians)
        x_middle, y_middle = self.left + self.side / 2, self.top + self.side / 2
        offsets = ((x - x_middle, y - y_middle) for x, y in keypoints_xy)
        return Keypoints(
            *(
                (0.5 + (cos * dx + sin * dy) / self.side, 0.5 + (cos * dy - sin * dx) / self.side)
                for dx, dy in offsets
            )
        )


def place_square(
    xyxy: tuple[float, float, float, float],
    *,
    margin: float,
    eyes_xy: tuple[Point, Point] | None = None,
) -> CropSquare:
    """Place a square around a box.

    Args:
        xyxy: face box in pixels of the frame.
        margin: side of the square as a multiple of the box's longer side.
        eyes_xy: eyes in pixels of the frame, first the left one of the picture; the square is
            turned about its middle until the eyes are level. None: the square is not turned.
    """
    x1, y1, x2, y2 = xyxy
    longer = max(x2 - x1, y2 - y1)
    side = max(2, round(longer * margin))
    radians = 0.0
    if eyes_xy is not None and math.dist(*eyes_xy) >= MIN_EYE_DISTANCE * longer:
        radians = math.atan2(eyes_xy[1][1] - eyes_xy[0][1], eyes_xy[1][0] - eyes_xy[0][0])
    return CropSquare(
        left=round((x1 + x2 - side) / 2),
        top=round((y1 + y2 - side) / 2),
        side=side,
        radians=radians,
    )


def crop_face(
    rgb_HWC: RGB,
    xyxy: tuple[float, float, float, float],
    *,
    margin: float,
    crop_pixels: int,
    eyes_xy: tuple[Point, Point] | None = None,
) -> RGB:
    """Cut a square crop around a box; see ``place_square`` and ``CropSquare.cut``."""
    return place_square(xyxy, margin=margin, eyes_xy=eyes_xy).cut(rgb_HWC, crop_pixels=crop_pixels)


def measure_quality(crop_HWC: RGB) -> tuple[float, float]:
    """Measure sharpness (variance of the Laplacian) and brightness (mean, 0 to 255) of the luma."""
    luma = cv2.cvtColor(crop_HWC, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_32F).var()), float(luma.mean())


def _cut_square(rgb_HWC: RGB, left: int, top: int, side: int) -> RGB:
    height, width = rgb_HWC.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x_from, x_to = max(0, left), min(width, left + side)
    y_from, y_to = max(0, top), min(height, top + side)
    if x_from < x_to and y_from < y_to:
        square[y_from - top : y_to - top, x_from - left : x_to - left] = rgb_HWC[
            y_from:y_to, x_from:x_to
        ]
    return square


def _cut_turned_square(rgb_HWC: RGB, left: int, top: int, side: int, radians: float) -> RGB:
    """Cut the square whose upper edge has the angle ``radians``, clockwise as seen on the picture.

    The turn is done at full size, because warpAffine cannot average areas.
    """
    # Largest distance of the square's corners from its middle.
    reach = math.ceil(side * math.sqrt(0.5)) + 1
    middle = side // 2
    around = _cut_square(rgb_HWC, left + middle - reach, top + middle - reach, 2 * reach)
    cos, sin = math.cos(radians), math.sin(radians)
    # Pixel u has its middle at u + 0.5, in the square and in the picture.
    offset = (side - 1) / 2
    centre = reach - middle + offset
    to_picture = np.array(
        [
            [cos, -sin, centre - cos * offset + sin * offset],
            [sin, cos, centre - sin * offset - cos * offset],
        ]
    )
    turned = cv2.warpAffine(
        around, to_picture, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(turned, np.uint8)
