"""Cut a square around a face box and resize it."""

import cv2
import numpy as np

from reelcheck.records import RGB


def crop_face(
    rgb_HWC: RGB, xyxy: tuple[float, float, float, float], *, margin: float, crop_pixels: int
) -> RGB:
    """Square crop around a box.

    Args:
        rgb_HWC: the frame.
        xyxy: face box in pixels of the frame.
        margin: side of the square as a multiple of the box's longer side.
        crop_pixels: side S of the result.

    Returns:
        (S, S, 3) uint8. What lies beyond the frame is black: no pixel is made up.
    """
    x1, y1, x2, y2 = xyxy
    side = max(2, round(max(x2 - x1, y2 - y1) * margin))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    height, width = rgb_HWC.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x_from, x_to = max(0, left), min(width, left + side)
    y_from, y_to = max(0, top), min(height, top + side)
    if x_from < x_to and y_from < y_to:
        square[y_from - top : y_to - top, x_from - left : x_to - left] = rgb_HWC[
            y_from:y_to, x_from:x_to
        ]
    # Area averaging avoids aliasing when shrinking; it has no meaning when enlarging.
    shrinks = side >= crop_pixels
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(square, (crop_pixels, crop_pixels), interpolation=method)
    return np.asarray(resized, np.uint8)
