"""Geometry of face boxes."""

from dataclasses import replace

from reelcheck.records import FaceBox, Keypoints, Point


def compute_area(box: FaceBox) -> float:
    """Compute the area of a box in square pixels."""
    x1, y1, x2, y2 = box.xyxy
    return (x2 - x1) * (y2 - y1)


def compute_shared_area(first: FaceBox, second: FaceBox) -> float:
    """Compute the area that lies in both boxes, in square pixels."""
    ax1, ay1, ax2, ay2 = first.xyxy
    bx1, by1, bx2, by2 = second.xyxy
    return max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))


def compute_iou(first: FaceBox, second: FaceBox) -> float:
    """Compute the intersection over union of two boxes; 0 if they have no area."""
    shared = compute_shared_area(first, second)
    covered = compute_area(first) + compute_area(second) - shared
    return shared / covered if covered > 0 else 0.0


def move_box(box: FaceBox, dx: float, dy: float) -> FaceBox:
    """Move a box and its key points."""
    x1, y1, x2, y2 = box.xyxy
    points = box.keypoints_xy
    if points is not None:
        points = Keypoints(*((x + dx, y + dy) for x, y in points))
    return replace(box, xyxy=(x1 + dx, y1 + dy, x2 + dx, y2 + dy), keypoints_xy=points)


def scale_box(box: FaceBox, factor: float) -> FaceBox:
    """Scale a box and its key points, as the picture is enlarged by a factor."""
    x1, y1, x2, y2 = (factor * number for number in box.xyxy)
    points = box.keypoints_xy
    if points is not None:
        points = Keypoints(*((factor * x, factor * y) for x, y in points))
    return replace(box, xyxy=(x1, y1, x2, y2), keypoints_xy=points)


def mix_boxes(before: FaceBox, after: FaceBox, share: float) -> FaceBox:
    """Interpolate two boxes of one face: 0 gives the first, 1 the second; the second numbers it."""
    points = None
    if before.keypoints_xy is not None and after.keypoints_xy is not None:
        pairs = zip(before.keypoints_xy, after.keypoints_xy, strict=True)
        points = Keypoints(*(_interpolate_point(*pair, share) for pair in pairs))
    x1, y1 = _interpolate_point(before.xyxy[:2], after.xyxy[:2], share)
    x2, y2 = _interpolate_point(before.xyxy[2:], after.xyxy[2:], share)
    confidence = before.confidence + share * (after.confidence - before.confidence)
    return replace(after, xyxy=(x1, y1, x2, y2), keypoints_xy=points, confidence=confidence)


def _interpolate_point(before: Point, after: Point, share: float) -> Point:
    return before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])
