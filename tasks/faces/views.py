"""Ways to look at a frame, for faces that the detector does not see on it as it is.

BlazeFace was trained on upright, whole faces and works on 192 x 192 pixels: it misses a head upside
down, a face of a twentieth of the picture, and one that fills it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from reelcheck.records import FaceBox, Frame, Keypoints
from tasks.faces.boxes import box_area, box_iou, moved, shared_area
from tasks.faces.follow import Detect

MIN_TILED_PIXELS = 640
"""Pictures whose longer side is shorter hold no face that is only visible in a tile."""
TILE_SHARE = 0.4
"""Side of a tile, in longer sides of the picture."""
MIN_TILE_OVERLAP = 0.2
"""In sides of a tile: a face cut in two by one tile is whole in the next."""
BORDER_SHARE = 0.5
"""Width of a border, in longer sides of the picture."""
MAX_DUPLICATE_IOU = 0.3
MAX_DUPLICATE_CONTAINED = 0.5
"""A box of which a larger share lies within a more certain one is the same face."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to look at frames."""

    rotation: int = 0
    """Degrees, a multiple of 90, by which the frame is turned counter-clockwise."""
    search: Literal["whole", "tiles", "border"] = "whole"
    """The frame as one; overlapping parts of it, one by one; the frame within a black border."""

    def turned(self, frame: Frame) -> Frame:
        """The frame as this view shows it."""
        if self.rotation == 0:
            return frame
        turned = np.ascontiguousarray(np.rot90(frame.rgb_HWC, k=self.rotation // 90))
        return replace(frame, rgb_HWC=turned)

    def finder(self, detect: Detect) -> Detect:
        """What finds faces on turned frames, given what finds them on a picture."""
        match self.search:
            case "whole":
                return detect
            case "tiles":
                return partial(detect_in_tiles, detect=detect)
            case "border":
                return partial(detect_within_border, detect=detect)

    def shown_size(self, turned: Frame) -> tuple[int, int]:
        """Width and height of the frame before it was turned."""
        height, width = turned.rgb_HWC.shape[:2]
        return (width, height) if self.rotation % 180 == 0 else (height, width)

    def shown(self, box: FaceBox, turned: Frame) -> FaceBox:
        """A box and its key points on a turned frame, as they lie on the frame before."""
        if self.rotation == 0:
            return box
        height, width = turned.rgb_HWC.shape[:2]
        x1, y1, x2, y2 = box.xyxy
        points = box.keypoints_xy
        for _ in range(self.rotation // 90):  # each turns back by 90 degrees, clockwise
            x1, y1, x2, y2 = height - y2, x1, height - y1, x2
            if points is not None:
                points = Keypoints(*((height - y, x) for x, y in points))
            height, width = width, height
        return replace(box, xyxy=(x1, y1, x2, y2), keypoints_xy=points)


AS_SHOWN = View()
TURNED = tuple(View(rotation=degrees) for degrees in (90, 180, 270))
TILED = View(search="tiles")
BORDERED = View(search="border")


def other_views(frame: Frame) -> tuple[View, ...]:
    """Views worth a try where a frame as it is shows no face."""
    is_large = max(frame.rgb_HWC.shape[:2]) >= MIN_TILED_PIXELS
    return (*TURNED, BORDERED, TILED) if is_large else (*TURNED, BORDERED)


def detect_in_tiles(frame: Frame, *, sample_index: int, detect: Detect) -> list[FaceBox]:
    """Faces on overlapping square tiles of a frame, in its pixels, most certain first."""
    height, width = frame.rgb_HWC.shape[:2]
    side = round(TILE_SHARE * max(width, height))
    found: list[FaceBox] = []
    for top in _starts(height, side):
        for left in _starts(width, side):
            tile = np.ascontiguousarray(frame.rgb_HWC[top : top + side, left : left + side])
            boxes = detect(replace(frame, rgb_HWC=tile), sample_index=sample_index)
            found += [moved(box, left, top) for box in boxes]
    distinct: list[FaceBox] = []
    for box in sorted(found, key=lambda box: -box.confidence):
        if not any(_is_duplicate(box, other) for other in distinct):
            distinct.append(box)
    return distinct


def detect_within_border(frame: Frame, *, sample_index: int, detect: Detect) -> list[FaceBox]:
    """Faces on a frame shrunk into the middle of a black picture, in its own pixels."""
    width = round(BORDER_SHARE * max(frame.rgb_HWC.shape[:2]))
    wider = np.pad(frame.rgb_HWC, ((width, width), (width, width), (0, 0)))
    bordered = replace(frame, rgb_HWC=wider)
    return [moved(box, -width, -width) for box in detect(bordered, sample_index=sample_index)]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that cover a length evenly."""
    if length <= side:
        return [0]
    num_steps = int(np.ceil((length - side) / (side * (1 - MIN_TILE_OVERLAP))))
    return [int(start) for start in np.linspace(0, length - side, num_steps + 1).round()]


def _is_duplicate(box: FaceBox, other: FaceBox) -> bool:
    smaller = min(box_area(box), box_area(other))
    is_contained = shared_area(box, other) > MAX_DUPLICATE_CONTAINED * smaller
    return is_contained or box_iou(box, other) > MAX_DUPLICATE_IOU
