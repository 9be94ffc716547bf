"""Cut a square around a face box and resize it; say what lies where in it, how sharp and bright."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from reelcheck.records import RGB, Keypoints, Point

MIN_EYE_DISTANCE = 0.1
"""In box sides. Nearer eyes belong to a face in profile: their slope is noise."""


@dataclass(frozen=True, kw_only=True)
class CropSquare:
    """The square of a frame that a crop shows, in whole pixels before it is turned."""

    left: int
    top: int
    side: int
    radians: float = 0.0
    """Angle by which it is turned about its middle: clockwise, as seen on the picture."""

    def cut(self, rgb_HWC: RGB, *, crop_pixels: int) -> RGB:
        """What the square shows of a frame.

        Args:
            rgb_HWC: the frame.
            crop_pixels: side S of the result.

        Returns:
            (S, S, 3) uint8. What lies beyond the frame is black: no pixel is made up.
        """
        square = (
            _turned_square(rgb_HWC, self.left, self.top, self.side, self.radians)
            if self.radians
            else _square(rgb_HWC, self.left, self.top, self.side)
        )
        # Area averaging avoids aliasing when shrinking; it has no meaning when enlarging.
        shrinks = self.side >= crop_pixels
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(square, (crop_pixels, crop_pixels), interpolation=method)
        return np.asarray(resized, np.uint8)

    def fractions(self, keypoints_xy: Keypoints) -> Keypoints:
        """Where points of the frame lie in the crop.

        Args:
            keypoints_xy: in pixels of the frame.

        Returns:
            In sides of the crop: (0, 0) is its upper left corner, (1, 1) its lower right one.
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


def face_square(
    xyxy: tuple[float, float, float, float],
    *,
    margin: float,
    eyes_xy: tuple[Point, Point] | None = None,
) -> CropSquare:
    """The square around a box.

    Args:
        xyxy: face box in pixels of the frame.
        margin: side of the square as a multiple of the box's longer side.
        eyes_xy: the eyes in pixels of the frame, the left of the picture first; the square is
            turned about its middle until they are level. None: it is not turned.
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
    """Square crop around a box; see ``face_square`` and ``CropSquare.cut``."""
    return face_square(xyxy, margin=margin, eyes_xy=eyes_xy).cut(rgb_HWC, crop_pixels=crop_pixels)


def crop_quality(crop_HWC: RGB) -> tuple[float, float]:
    """Sharpness (variance of the Laplacian) and brightness (mean, 0 to 255) of a crop's luma."""
    luma = cv2.cvtColor(crop_HWC, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_32F).var()), float(luma.mean())


def _square(rgb_HWC: RGB, left: int, top: int, side: int) -> RGB:
    height, width = rgb_HWC.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x_from, x_to = max(0, left), min(width, left + side)
    y_from, y_to = max(0, top), min(height, top + side)
    if x_from < x_to and y_from < y_to:
        square[y_from - top : y_to - top, x_from - left : x_to - left] = rgb_HWC[
            y_from:y_to, x_from:x_to
        ]
    return square


def _turned_square(rgb_HWC: RGB, left: int, top: int, side: int, radians: float) -> RGB:
    """The square whose upper edge runs along ``radians``, clockwise as seen on the picture.

    Turned at full size, because warpAffine cannot average areas.
    """
    # The square's corners are nowhere farther from its middle than this.
    reach = math.ceil(side * math.sqrt(0.5)) + 1
    middle = side // 2
    around = _square(rgb_HWC, left + middle - reach, top + middle - reach, 2 * reach)
    cos, sin = math.cos(radians), math.sin(radians)
    # Pixel u of the square has its middle at u + 0.5, and so have those of the picture.
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
