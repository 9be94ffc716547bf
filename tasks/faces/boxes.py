"""Geometry of face boxes."""

from dataclasses import replace

from reelcheck.records import FaceBox

Point = tuple[float, float]


def box_area(box: FaceBox) -> float:
    """Square pixels."""
    x1, y1, x2, y2 = box.xyxy
    return (x2 - x1) * (y2 - y1)


def shared_area(first: FaceBox, second: FaceBox) -> float:
    """Square pixels that lie in both."""
    ax1, ay1, ax2, ay2 = first.xyxy
    bx1, by1, bx2, by2 = second.xyxy
    return max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))


def box_iou(first: FaceBox, second: FaceBox) -> float:
    """Area that two boxes share over the area that they cover together; 0 without area."""
    shared = shared_area(first, second)
    covered = box_area(first) + box_area(second) - shared
    return shared / covered if covered > 0 else 0.0


def moved(box: FaceBox, dx: float, dy: float) -> FaceBox:
    """The box and its eyes, elsewhere."""
    x1, y1, x2, y2 = box.xyxy
    eyes = box.eyes_xy
    if eyes is not None:
        (left_x, left_y), (right_x, right_y) = eyes
        eyes = (left_x + dx, left_y + dy), (right_x + dx, right_y + dy)
    return replace(box, xyxy=(x1 + dx, y1 + dy, x2 + dx, y2 + dy), eyes_xy=eyes)


def mixed(before: FaceBox, after: FaceBox, share: float) -> FaceBox:
    """Between two boxes of one face: 0 gives the first, 1 the second, which also numbers it."""
    eyes = None
    if before.eyes_xy is not None and after.eyes_xy is not None:
        (left, right), (left_after, right_after) = before.eyes_xy, after.eyes_xy
        eyes = _between(left, left_after, share), _between(right, right_after, share)
    x1, y1 = _between(before.xyxy[:2], after.xyxy[:2], share)
    x2, y2 = _between(before.xyxy[2:], after.xyxy[2:], share)
    confidence = before.confidence + share * (after.confidence - before.confidence)
    return replace(after, xyxy=(x1, y1, x2, y2), eyes_xy=eyes, confidence=confidence)


def _between(before: Point, after: Point, share: float) -> Point:
    return before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
