"""Perceptual hashes of faces that are brought to one position: eyes level, one size.

A copy of a video may show its faces turned, larger, smaller or elsewhere, so that the crops differ;
aligned faces do not. Two windows of each aligned face are hashed: the whole face, which tells
people apart best, and the part around the eyes, which is seen even where a title or the edge of
the picture cuts the rest off.

The key points of a small face are too rough for that: a face of 50 pixels in a picture of 960 has
10 pixels in the detector's view. So the detector looks again, at up to nine crops side by side,
which costs no more than one frame. It looks twice, the second time at the aligned crops: then its
errors hardly depend on the position in which a copy shows the face.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from reelcheck.records import RGB, Frame, Keypoints
from tasks.faces.detection.fingerprint import compute_fingerprint
from tasks.faces.detection.follow import Detect

MAX_CROPS = 9
"""Largest number of crops that one look takes."""
_CELLS = 3
"""Crops along each side of the picture that the detector looks at."""
_CELL_PIXELS = 64
"""Side of a crop in there: three fill the 192 pixels of BlazeFace, and a face has about 50."""
_CROP_PIXELS = 112
"""Crops are first brought to this side, by area: warpAffine cannot average areas."""

_TEMPLATE_4 = np.array([-0.5, 0.5, 0.622j, 1.091j])
"""Right eye, left eye, nose tip and mouth centre as x + iy, in eye distances from the middle
between the eyes: medians over 118 public clips."""


class Window(NamedTuple):
    """The part of a face that a square shows, in sides of the square."""

    eye_distance: float
    eye_height: float
    """From the upper edge to the middle between the eyes, which is half way from left to right."""


FACE = Window(eye_distance=0.36, eye_height=0.36)
EYES = Window(eye_distance=0.55, eye_height=0.45)
_SECOND_LOOK = Window(eye_distance=0.3, eye_height=0.4)


class _Turn(NamedTuple):
    """Turns, scales and moves points x + iy of pixels: z -> factor * z + shift."""

    factor: complex
    shift: complex

    def then(self, other: "_Turn") -> "_Turn":
        return _Turn(other.factor * self.factor, other.factor * self.shift + other.shift)

    def apply(self, picture_HWC: RGB) -> RGB:
        """Turn a picture into a square of ``_CELL_PIXELS``; its edge goes on beyond it."""
        a, b = self
        matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
        turned = cv2.warpAffine(
            picture_HWC,
            matrix,
            (_CELL_PIXELS, _CELL_PIXELS),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(turned, np.uint8)


def compute_face_fingerprints(crops: Sequence[RGB], detect: Detect) -> tuple[bytes, ...]:
    """Compute the hashes of up to ``MAX_CROPS`` crops of one face.

    Args:
        crops: squares with one face each.
        detect: finds the faces of a frame, most certain first.

    Returns:
        For each crop two hashes, of its windows; where the detector sees no face, one of the crop;
        and none of what shows almost nothing.
    """
    if len(crops) > MAX_CROPS:
        raise ValueError(f"{len(crops)} crops; at most {MAX_CROPS} can be compared in one look")
    sized = [_resize(crop, _CROP_PIXELS) for crop in crops]
    first = [_fit(points, _SECOND_LOOK) for points in _locate_faces(sized, detect)]
    levelled = [
        crop if turn is None else turn.apply(crop) for crop, turn in zip(sized, first, strict=True)
    ]
    again = _locate_faces(levelled, detect)
    pictures: list[RGB] = []
    for crop, turn, points in zip(sized, first, again, strict=True):
        if turn is None:
            pictures.append(crop)
            continue
        for window in (FACE, EYES):
            further = _fit(points, window) or _move(_SECOND_LOOK, window)
            pictures.append(turn.then(further).apply(crop))
    hashes = map(compute_fingerprint, pictures)
    return tuple(seen for seen in hashes if seen is not None)


def _locate_faces(crops: Sequence[RGB], detect: Detect) -> list[Keypoints | None]:
    """Locate the key points of each crop's face, in pixels of the crop; all crops in one look."""
    cells_RCHWC = np.zeros((_CELLS, _CELLS, _CELL_PIXELS, _CELL_PIXELS, 3), np.uint8)
    for number, crop in enumerate(crops):
        cells_RCHWC[divmod(number, _CELLS)] = _resize(crop, _CELL_PIXELS)
    side = _CELLS * _CELL_PIXELS
    picture = np.ascontiguousarray(cells_RCHWC.swapaxes(1, 2).reshape(side, side, 3))
    located: list[Keypoints | None] = [None] * len(crops)
    for face in detect(Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=picture), sample_index=0):
        x, y = face.centre
        column, row = int(x // _CELL_PIXELS), int(y // _CELL_PIXELS)
        number = row * _CELLS + column
        is_within = 0 <= column < _CELLS and 0 <= number < len(crops)
        if is_within and located[number] is None and face.keypoints_xy is not None:
            scale = len(crops[number]) / _CELL_PIXELS
            left, top = column * _CELL_PIXELS, row * _CELL_PIXELS
            located[number] = Keypoints(
                *(((px - left) * scale, (py - top) * scale) for px, py in face.keypoints_xy)
            )
    return located


def _fit(points: Keypoints | None, window: Window) -> _Turn | None:
    """Fit the turn that brings key points to their places in a window, by least squares."""
    if points is None:
        return None
    seen_4 = np.array([complex(x, y) for x, y in points[: len(_TEMPLATE_4)]])
    middle = seen_4.mean()
    spread = float((abs(seen_4 - middle) ** 2).sum())
    if spread == 0:
        return None
    template_4 = _TEMPLATE_4 * window.eye_distance * _CELL_PIXELS
    wanted = template_4.mean()
    factor = complex(((template_4 - wanted) * np.conj(seen_4 - middle)).sum() / spread)
    return _Turn(factor, complex(wanted - factor * middle) + _place_eyes(window))


def _move(window: Window, other: Window) -> _Turn:
    """Give the turn from one window to another."""
    factor = complex(other.eye_distance / window.eye_distance)
    return _Turn(factor, _place_eyes(other) - factor * _place_eyes(window))


def _place_eyes(window: Window) -> complex:
    """Place the middle between the eyes, in pixels of the window."""
    return complex(0.5, window.eye_height) * _CELL_PIXELS


def _resize(square_HWC: RGB, side: int) -> RGB:
    method = cv2.INTER_AREA if len(square_HWC) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square_HWC, (side, side), interpolation=method), np.uint8)
