"""Faces on every frame, by a search of some frames only.

A search costs more than decoding, and most faces hardly move between two frames. Therefore only
frames up to ``MAX_NODE_SECONDS`` or ``MAX_NODE_FRAMES`` apart, the nodes, are searched, and faces
between two nodes are interpolated in time. If the nodes do not agree on the faces, or a frame
between them shows something else at the same place (a cut), the frame in the middle becomes a node
too, and so on.

Frames are streamed: at most ``MAX_NODE_FRAMES`` + 1 are held in memory, fewer if they are large.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reelcheck.records import FaceBox, Frame
from tasks.faces.detection.boxes import compute_iou, mix_boxes
from tasks.faces.detection.crop import crop_face
from tasks.faces.detection.track import (
    LOOKS_PIXELS,
    MAX_LOOKS_DISTANCE,
    Looks,
    compare_looks,
    describe_looks,
)

MAX_NODE_SECONDS = 0.8
"""Largest distance between two nodes, unless the frames themselves are farther apart."""
MAX_NODE_FRAMES = 5
MAX_HELD_BYTES = 24 * 2**20
"""Large frames become nodes sooner, so that at most these bytes and one frame are held."""
MAX_FRAME_GAP_SECONDS = 1.0
"""Longest gap between two frames across which faces are interpolated."""
MIN_FOLLOWED_IOU = 0.7
"""Smallest IoU of a face's boxes on two nodes; with less, a frame between them is searched."""
MAX_SMOOTHED_SECONDS = 0.3
MIN_SMOOTHED_IOU = 0.85
"""Smallest IoU of the boxes of a face at rest, whose small moves are the detector's jitter."""


class Detect(Protocol):
    """A function that finds the faces of one frame, most certain first."""

    def __call__(self, frame: Frame, *, sample_index: int) -> list[FaceBox]:
        """Find the faces on one frame."""


def follow_faces(
    frames: Iterable[Frame], detect: Detect
) -> Iterator[tuple[Frame, tuple[FaceBox, ...]]]:
    """Yield each frame with its faces; boxes are numbered by the frame's index in ``frames``.

    A face at rest gets the mean of its boxes on neighbouring nodes, so that crops do not jitter.
    """
    pending: list[_Seen] = []
    for sample_index, frame in enumerate(frames):
        seen = _Seen(sample_index, frame)
        if not pending:
            pending = [seen.search(detect)]
            continue
        if _measure_seconds(pending[-1], seen) > MAX_FRAME_GAP_SECONDS:
            yield from _yield_results(_fill_frames(pending, detect))
            pending = [seen.search(detect)]
            continue
        pending.append(seen)
        is_far = _measure_seconds(pending[0], seen) >= MAX_NODE_SECONDS
        is_heavy = len(pending) * frame.rgb_HWC.nbytes > MAX_HELD_BYTES
        if is_far or is_heavy or len(pending) > MAX_NODE_FRAMES:
            pending = _fill_frames(pending, detect)
            yield from _yield_results(pending[:-1])
            pending = pending[-1:]
    yield from _yield_results(_fill_frames(pending, detect))


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame and its faces; None: the faces are not known yet."""

    sample_index: int
    frame: Frame
    faces: tuple[FaceBox, ...] | None = None

    def search(self, detect: Detect, after: "_Seen | None" = None) -> "_Seen":
        """Add the faces that the detector finds, smoothed with those of the previous node."""
        faces = tuple(detect(self.frame, sample_index=self.sample_index))
        if after is not None and _measure_seconds(after, self) <= MAX_SMOOTHED_SECONDS:
            faces = tuple(_smooth(face, after.faces or ()) for face in faces)
        return replace(self, faces=faces)

    def describe_face(self, face: FaceBox) -> Looks:
        return describe_looks(
            crop_face(self.frame.rgb_HWC, face.xyxy, margin=1.0, crop_pixels=LOOKS_PIXELS)
        )


def _yield_results(frames: Iterable[_Seen]) -> Iterator[tuple[Frame, tuple[FaceBox, ...]]]:
    return ((seen.frame, seen.faces or ()) for seen in frames)


def _measure_seconds(before: _Seen, after: _Seen) -> float:
    return after.frame.pts_seconds - before.frame.pts_seconds


def _fill_frames(frames: list[_Seen], detect: Detect) -> list[_Seen]:
    """Add faces to all frames; the first frame has been searched."""
    if len(frames) < 2:
        return frames
    first, *between, last = frames
    if last.faces is None:
        last = last.search(detect, after=first)
    if not between:
        return [first, last]
    interpolated = _interpolate(first, between, last)
    if interpolated is not None:
        return [first, *interpolated, last]
    middle = len(frames) // 2
    left = _fill_frames(frames[: middle + 1], detect)
    return left[:-1] + _fill_frames([left[-1], *frames[middle + 1 : -1], last], detect)


def _interpolate(first: _Seen, between: Sequence[_Seen], last: _Seen) -> list[_Seen] | None:
    """Add interpolated faces to the frames between two nodes; None: a frame must be searched."""
    pairs = _match_faces(first.faces or (), last.faces or ())
    if pairs is None:
        return None
    filled = []
    for seen in between:
        share = _measure_seconds(first, seen) / _measure_seconds(first, last)
        faces = [mix_boxes(before, after, share) for before, after in pairs]
        filled.append(
            replace(seen, faces=tuple(replace(f, sample_index=seen.sample_index) for f in faces))
        )
    for number, (before, after) in enumerate(pairs):
        at_nodes = first.describe_face(before), last.describe_face(after)
        for seen in filled:
            assert seen.faces is not None  # noqa: S101 - filled above
            looks = seen.describe_face(seen.faces[number])
            if min(compare_looks(node, looks) for node in at_nodes) > MAX_LOOKS_DISTANCE:
                return None
    return filled


def _match_faces(
    before: Sequence[FaceBox], after: Sequence[FaceBox]
) -> list[tuple[FaceBox, FaceBox]] | None:
    """Pair each face with the same face on the other node; None: they do not match one to one."""
    pairs = [
        (face, max(after, key=lambda other: compute_iou(face, other))) for face in before if after
    ]
    is_whole = len(pairs) == len(before) == len({id(other) for _, other in pairs}) == len(after)
    is_near = all(compute_iou(face, other) >= MIN_FOLLOWED_IOU for face, other in pairs)
    return pairs if is_whole and is_near else None


def _smooth(face: FaceBox, before: Sequence[FaceBox]) -> FaceBox:
    same = max(before, key=lambda other: compute_iou(face, other), default=None)
    if same is None or compute_iou(face, same) < MIN_SMOOTHED_IOU:
        return face
    return replace(mix_boxes(same, face, 0.5), confidence=face.confidence)
