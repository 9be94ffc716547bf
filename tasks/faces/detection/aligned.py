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
WINDOWS = (FACE, EYES)
_SECOND_LOOK = Window(eye_distance=0.3, eye_height=0.4)


class _Turn(NamedTuple):
    """From pixels of a reduced crop to those of a window, as x + iy: z -> factor * z + shift."""

    factor: complex
    shift: complex

    def undo(self, points: Keypoints) -> Keypoints:
        """Bring back points of the turned square, in its sides, to sides of the crop."""
        before = (
            (complex(x, y) * _CELL_PIXELS - self.shift) / self.factor / _CROP_PIXELS
            for x, y in points
        )
        return Keypoints(*((point.real, point.imag) for point in before))

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


def locate_again(crops: Sequence[RGB], detect: Detect) -> list[Keypoints | None]:
    """Locate the key points of up to ``MAX_CROPS`` crops of one face, more exactly than on frames.

    Args:
        crops: squares with one face each.
        detect: finds the faces of a frame, most certain first.

    Returns:
        Key points in sides of the crop; None: the detector sees no face.
    """
    if len(crops) > MAX_CROPS:
        raise ValueError(f"{len(crops)} crops; at most {MAX_CROPS} fit into one look")
    first = _locate_faces(crops, detect)
    turns = [None if points is None else _fit(points, _SECOND_LOOK) for points in first]
    levelled = [
        crop if turn is None else turn.apply(_resize(crop, _CROP_PIXELS))
        for crop, turn in zip(crops, turns, strict=True)
    ]
    second = _locate_faces(levelled, detect)
    return [
        known if turn is None or again is None else turn.undo(again)
        for known, turn, again in zip(first, turns, second, strict=True)
    ]


def align_face(crop_HWC: RGB, keypoints_xy: Keypoints) -> tuple[RGB, ...]:
    """Cut ``WINDOWS`` out of a crop: squares of 64 pixels; none if the key points are one point.

    Args:
        crop_HWC: a square with one face.
        keypoints_xy: its key points in sides of the crop.
    """
    sized = _resize(crop_HWC, _CROP_PIXELS)
    turns = (_fit(keypoints_xy, window) for window in WINDOWS)
    return tuple(turn.apply(sized) for turn in turns if turn is not None)


def compute_face_fingerprints(
    crops: Sequence[RGB], keypoints: Sequence[Keypoints | None]
) -> tuple[bytes, ...]:
    """Compute the hashes of crops with the key points that ``locate_again`` gives.

    Returns:
        For each crop two hashes, of its windows; without key points one, of the crop; and none of
        what shows almost nothing.
    """
    hashes = (
        compute_fingerprint(picture)
        for crop, points in zip(crops, keypoints, strict=True)
        for picture in ((crop,) if points is None else align_face(crop, points))
    )
    return tuple(seen for seen in hashes if seen is not None)


def _locate_faces(crops: Sequence[RGB], detect: Detect) -> list[Keypoints | None]:
    """Locate the key points of each crop's face, in sides of the crop; all crops in one look."""
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
            located[number] = Keypoints(
                *(
                    (px / _CELL_PIXELS - column, py / _CELL_PIXELS - row)
                    for px, py in face.keypoints_xy
                )
            )
    return located


def _fit(points: Keypoints, window: Window) -> _Turn | None:
    """Fit the turn that brings key points to their places in a window, by least squares.

    Args:
        points: in sides of the crop.
        window: where they shall be.
    """
    seen_4 = np.array([complex(x, y) for x, y in points[: len(_TEMPLATE_4)]]) * _CROP_PIXELS
    middle = seen_4.mean()
    spread = float((abs(seen_4 - middle) ** 2).sum())
    template_4 = _TEMPLATE_4 * window.eye_distance * _CELL_PIXELS
    wanted = template_4.mean()
    product = complex(((template_4 - wanted) * np.conj(seen_4 - middle)).sum())
    if spread == 0 or product == 0:
        return None
    factor = product / spread
    return _Turn(factor, complex(wanted - factor * middle) + _place_eyes(window))


def _place_eyes(window: Window) -> complex:
    """Place the middle between the eyes, in pixels of the window."""
    return complex(0.5, window.eye_height) * _CELL_PIXELS


def _resize(square_HWC: RGB, side: int) -> RGB:
    method = cv2.INTER_AREA if len(square_HWC) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square_HWC, (side, side), interpolation=method), np.uint8)
