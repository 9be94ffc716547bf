"""Views of a frame, for faces that the detector does not see on the frame as it is.

BlazeFace was trained on upright, whole faces and works on 192 x 192 pixels: it misses a head upside
down, a face of a twentieth of the picture, and a face that fills the picture.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from reelcheck.records import FaceBox, Frame, Keypoints
from tasks.faces.detection.boxes import compute_area, compute_iou, compute_shared_area, move_box
from tasks.faces.detection.follow import Detect

MIN_TILED_PIXELS = 640
"""Longer side from which a picture may have faces that are visible only in a tile."""
TILE_SHARE = 0.4
"""Side of a tile, in longer sides of the picture."""
MIN_TILE_OVERLAP = 0.2
"""Overlap in sides of a tile: a face that one tile cuts is whole in the next."""
BORDER_SHARE = 0.5
"""Width of a border, in longer sides of the picture."""
MAX_DUPLICATE_IOU = 0.3
MAX_DUPLICATE_CONTAINED = 0.5
"""A box with a larger share inside a more certain box shows the same face."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One view of frames."""

    rotation: int = 0
    """Degrees, a multiple of 90, by which the frame is turned counter-clockwise."""
    search: Literal["whole", "tiles", "border"] = "whole"
    """whole: the frame itself; tiles: overlapping squares of it; border: it in a black border."""

    def turn(self, frame: Frame) -> Frame:
        """Turn a frame as this view shows it."""
        if self.rotation == 0:
            return frame
        turned_HWC = np.ascontiguousarray(np.rot90(frame.rgb_HWC, k=self.rotation // 90))
        return replace(frame, rgb_HWC=turned_HWC)

    def make_finder(self, detect: Detect) -> Detect:
        """Make the function that finds faces on turned frames from one for single pictures."""
        match self.search:
            case "whole":
                return detect
            case "tiles":
                return partial(detect_in_tiles, detect=detect)
            case "border":
                return partial(detect_within_border, detect=detect)

    def measure_shown_size(self, turned: Frame) -> tuple[int, int]:
        """Compute width and height of the frame before the turn."""
        height, width = turned.rgb_HWC.shape[:2]
        return (width, height) if self.rotation % 180 == 0 else (height, width)

    def turn_back(self, box: FaceBox, turned: Frame) -> FaceBox:
        """Turn a box and its key points back to the frame before the turn."""
        if self.rotation == 0:
            return box
        height, width = turned.rgb_HWC.shape[:2]
        x1, y1, x2, y2 = box.xyxy
        points = box.keypoints_xy
        for _ in range(self.rotation // 90):  # back by 90 degrees each, clockwise
            x1, y1, x2, y2 = height - y2, x1, height - y1, x2
            if points is not None:
                points = Keypoints(*((height - y, x) for x, y in points))
            height, width = width, height
        return replace(box, xyxy=(x1, y1, x2, y2), keypoints_xy=points)


AS_SHOWN = View()
TURNED = tuple(View(rotation=degrees) for degrees in (90, 180, 270))
TILED = View(search="tiles")
BORDERED = View(search="border")


def list_other_views(frame: Frame) -> tuple[View, ...]:
    """List the views to try if a frame as it is shows no face."""
    is_large = max(frame.rgb_HWC.shape[:2]) >= MIN_TILED_PIXELS
    return (*TURNED, BORDERED, TILED) if is_large else (*TURNED, BORDERED)


def detect_in_tiles(frame: Frame, *, sample_index: int, detect: Detect) -> list[FaceBox]:
    """Find faces on overlapping square tiles of a frame, in its pixels, most certain first."""
    height, width = frame.rgb_HWC.shape[:2]
    side = round(TILE_SHARE * max(width, height))
    found: list[FaceBox] = []
    for top in _place_tiles(height, side):
        for left in _place_tiles(width, side):
            tile = np.ascontiguousarray(frame.rgb_HWC[top : top + side, left : left + side])
            boxes = detect(replace(frame, rgb_HWC=tile), sample_index=sample_index)
            found += [move_box(box, left, top) for box in boxes]
    distinct: list[FaceBox] = []
    for box in sorted(found, key=lambda box: -box.confidence):
        if not any(_is_duplicate(box, other) for other in distinct):
            distinct.append(box)
    return distinct


def detect_within_border(frame: Frame, *, sample_index: int, detect: Detect) -> list[FaceBox]:
    """Find faces on a frame within a wide black border, in pixels of the frame."""
    width = round(BORDER_SHARE * max(frame.rgb_HWC.shape[:2]))
    wider = np.pad(frame.rgb_HWC, ((width, width), (width, width), (0, 0)))
    bordered = replace(frame, rgb_HWC=wider)
    return [move_box(box, -width, -width) for box in detect(bordered, sample_index=sample_index)]


def _place_tiles(length: int, side: int) -> list[int]:
    """Place tiles so that they cover a length evenly: positions of their first pixels."""
    if length <= side:
        return [0]
    num_steps = int(np.ceil((length - side) / (side * (1 - MIN_TILE_OVERLAP))))
    return [int(start) for start in np.linspace(0, length - side, num_steps + 1).round()]


def _is_duplicate(box: FaceBox, other: FaceBox) -> bool:
    smaller = min(compute_area(box), compute_area(other))
    is_contained = compute_shared_area(box, other) > MAX_DUPLICATE_CONTAINED * smaller
    return is_contained or compute_iou(box, other) > MAX_DUPLICATE_IOU
