"""Geometry of face boxes."""

from dataclasses import replace

from reelcheck.records import FaceBox, Keypoints, Point


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
    """The box and its key points, elsewhere."""
    x1, y1, x2, y2 = box.xyxy
    points = box.keypoints_xy
    if points is not None:
        points = Keypoints(*((x + dx, y + dy) for x, y in points))
    return replace(box, xyxy=(x1 + dx, y1 + dy, x2 + dx, y2 + dy), keypoints_xy=points)


def scaled(box: FaceBox, factor: float) -> FaceBox:
    """The box and its key points, on the picture made larger by a factor."""
    x1, y1, x2, y2 = (factor * number for number in box.xyxy)
    points = box.keypoints_xy
    if points is not None:
        points = Keypoints(*((factor * x, factor * y) for x, y in points))
    return replace(box, xyxy=(x1, y1, x2, y2), keypoints_xy=points)


def mixed(before: FaceBox, after: FaceBox, share: float) -> FaceBox:
    """Between two boxes of one face: 0 gives the first, 1 the second, which also numbers it."""
    points = None
    if before.keypoints_xy is not None and after.keypoints_xy is not None:
        pairs = zip(before.keypoints_xy, after.keypoints_xy, strict=True)
        points = Keypoints(*(_between(*pair, share) for pair in pairs))
    x1, y1 = _between(before.xyxy[:2], after.xyxy[:2], share)
    x2, y2 = _between(before.xyxy[2:], after.xyxy[2:], share)
    confidence = before.confidence + share * (after.confidence - before.confidence)
    return replace(after, xyxy=(x1, y1, x2, y2), keypoints_xy=points, confidence=confidence)


def _between(before: Point, after: Point, share: float) -> Point:
    return before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
