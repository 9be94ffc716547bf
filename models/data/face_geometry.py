"""Where a face lies in its crop, from six key points; and shapes on it, as masks.

Shapes are given in coordinates of the face, so that they follow it from frame to frame: (0, 0) is
the middle between the eyes, (0, 1) the mouth, and (1, 0) and (-1, 0) lie where the cheeks end. The
forehead begins near -0.5, the chin ends near 1.5.
"""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Median of BlazeFace's points over 22 real clips, cut with a margin of 1.3; made symmetric.
_TYPICAL_62: Floats = np.array(
    [(0.34, 0.36), (0.66, 0.36), (0.5, 0.55), (0.5, 0.7), (0.2, 0.43), (0.8, 0.43)], np.float32
)
# Eyes to mouth, in crop sides: 0.27 to 0.39 in those clips.
_MIN_LENGTH, _MAX_LENGTH = 0.1, 0.8
# Half the width over eyes to mouth. From the front it is 0.8; in profile the ears lie upon one
# another, and say nothing about the width.
_MIN_WIDTH, _MAX_WIDTH = 0.75, 1.1
_HALF_WIDTH_OF_EAR_DISTANCE = 0.46
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAxes:
    """Origin and axes of T faces, in crop sides."""

    eyes_T2: Floats
    """The middle between the eyes."""
    down_T2: Floats
    """From there to the mouth."""
    across_T2: Floats
    """Half the width of the face, at right angles to ``down_T2``."""

    @classmethod
    def locate(cls, keypoints_T62: Floats) -> Self:
        """Take the axes from BlazeFace's key points.

        Frames whose points make no face (not finite, outside the crop, too near or too far from
        one another) get the axes of a typical crop.

        Args:
            keypoints_T62: right eye, left eye, nose tip, mouth centre, right ear, left ear as
                fractions of the crop's side.
        """
        assert keypoints_T62.shape[1:] == (6, 2), keypoints_T62.shape
        points = np.where(_is_face(keypoints_T62)[:, None, None], keypoints_T62, _TYPICAL_62)
        eyes = points[:, :2].mean(1)
        down = points[:, 3] - eyes
        length = np.linalg.norm(down, axis=1, keepdims=True)
        # Ears may lie anywhere. Ten sides away the width has long been the largest that is taken,
        # and no square overflows.
        ears = points[:, 4:].clip(-10, 10)
        ear_distance = np.linalg.norm(ears[:, 0] - ears[:, 1], axis=1, keepdims=True)
        width = np.clip(_HALF_WIDTH_OF_EAR_DISTANCE * ear_distance / length, _MIN_WIDTH, _MAX_WIDTH)
        across = width * np.stack([down[:, 1], -down[:, 0]], axis=1)
        return cls(
            eyes_T2=eyes.astype(np.float32),
            down_T2=down.astype(np.float32),
            across_T2=across.astype(np.float32),
        )

    def move_to_crop(self, shape_P2: Floats) -> Floats:
        """Move points from coordinates of the face to crop sides: (T, P, 2)."""
        across, down = shape_P2[:, :1], shape_P2[:, 1:]
        moved = (
            self.eyes_T2[:, None] + across * self.across_T2[:, None] + down * self.down_T2[:, None]
        )
        return np.asarray(moved, np.float32)

    def draw_masks(self, shape_P2: Floats, *, side: int) -> Floats:
        """Draw a filled outline, given in coordinates of the face.

        Args:
            shape_P2: at least three corners.
            side: S of the crops, in pixels.

        Returns:
            (T, S, S) masks, 1 inside and 0 outside, in between on the edge.
        """
        masks_THW = np.zeros((len(self.eyes_T2), side, side), np.uint8)
        # OpenCV counts from the middle of the first pixel.
        corners_TP2 = (self.move_to_crop(shape_P2) * side - 0.5) * 2**_SUBPIXEL_BITS
        for mask_HW, corners_P2 in zip(
            masks_THW, corners_TP2.round().astype(np.int32), strict=True
        ):
            cv2.fillPoly(mask_HW, [corners_P2], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return np.asarray(masks_THW / 255, np.float32)


def _is_face(keypoints_T62: Floats) -> NDArray[np.bool_]:
    """Whether each frame's points could be a face inside the crop."""
    points = np.nan_to_num(keypoints_T62.astype(np.float64), nan=-1, posinf=-1, neginf=-1)
    eyes = points[:, :2].mean(1)
    length = np.linalg.norm(points[:, 3] - eyes, axis=1)
    core = np.stack([eyes, points[:, 3]], axis=1)
    is_inside = ((core >= 0) & (core <= 1)).all(axis=(1, 2))
    is_finite = np.isfinite(keypoints_T62).all(axis=(1, 2))
    return np.asarray(
        is_finite & is_inside & (length >= _MIN_LENGTH) & (length <= _MAX_LENGTH), np.bool_
    )
