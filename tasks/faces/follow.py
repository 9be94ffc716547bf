"""Faces on every frame, searched only on some.

Searching a frame costs more than decoding it, and most faces hardly move between two frames. So
frames up to ``MAX_NODE_SECONDS`` or ``MAX_NODE_FRAMES`` apart, the nodes, are searched, and faces
between two nodes are interpolated in time. Where the nodes do not agree on the faces, or a frame
between shows something else in their place (a cut), the frame in the middle becomes a node too, and
so on.

Frames are streamed: at most ``MAX_NODE_FRAMES`` + 1 are held, and of large ones fewer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reelcheck.records import FaceBox, Frame
from tasks.faces.boxes import box_iou, mixed
from tasks.faces.crop import crop_face
from tasks.faces.track import LOOKS_PIXELS, MAX_LOOKS_DISTANCE, Looks, looks_distance, looks_of

MAX_NODE_SECONDS = 0.8
"""No node is farther than this from the one before, unless the frames are."""
MAX_NODE_FRAMES = 5
MAX_HELD_BYTES = 24 * 2**20
"""Large frames become nodes sooner, so that no more than this and one frame are held."""
MAX_FRAME_GAP_SECONDS = 1.0
"""Nothing is interpolated across a gap between two frames that is longer than this."""
MIN_FOLLOWED_IOU = 0.7
"""A face moved less than this says between two nodes, or it is searched for again."""
MAX_SMOOTHED_SECONDS = 0.3
MIN_SMOOTHED_IOU = 0.85
"""A face that moved less between two nodes is at rest, and the rest is the detector's jitter."""


class Detect(Protocol):
    """What finds the faces of one frame, most certain first."""

    def __call__(self, frame: Frame, *, sample_index: int) -> list[FaceBox]:
        """Faces on one frame."""


def follow(frames: Iterable[Frame], detect: Detect) -> Iterator[tuple[Frame, tuple[FaceBox, ...]]]:
    """Each frame with its faces, in order; boxes are numbered by the frame's place in ``frames``.

    On neighbouring nodes a face at rest gets the mean of its boxes: crops do not jitter.
    """
    pending: list[_Seen] = []
    for sample_index, frame in enumerate(frames):
        seen = _Seen(sample_index, frame)
        if not pending:
            pending = [seen.searched(detect)]
            continue
        if _seconds(pending[-1], seen) > MAX_FRAME_GAP_SECONDS:
            yield from _results(_filled(pending, detect))
            pending = [seen.searched(detect)]
            continue
        pending.append(seen)
        is_far = _seconds(pending[0], seen) >= MAX_NODE_SECONDS
        is_heavy = len(pending) * frame.rgb_HWC.nbytes > MAX_HELD_BYTES
        if is_far or is_heavy or len(pending) > MAX_NODE_FRAMES:
            pending = _filled(pending, detect)
            yield from _results(pending[:-1])
            pending = pending[-1:]
    yield from _results(_filled(pending, detect))


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame and its faces; None where they are not known yet."""

    sample_index: int
    frame: Frame
    faces: tuple[FaceBox, ...] | None = None

    def searched(self, detect: Detect, after: "_Seen | None" = None) -> "_Seen":
        """With the faces that the detector finds, smoothed with those of the node before."""
        faces = tuple(detect(self.frame, sample_index=self.sample_index))
        if after is not None and _seconds(after, self) <= MAX_SMOOTHED_SECONDS:
            faces = tuple(_smoothed(face, after.faces or ()) for face in faces)
        return replace(self, faces=faces)

    def looks(self, face: FaceBox) -> Looks:
        return looks_of(
            crop_face(self.frame.rgb_HWC, face.xyxy, margin=1.0, crop_pixels=LOOKS_PIXELS)
        )


def _results(frames: Iterable[_Seen]) -> Iterator[tuple[Frame, tuple[FaceBox, ...]]]:
    return ((seen.frame, seen.faces or ()) for seen in frames)


def _seconds(before: _Seen, after: _Seen) -> float:
    return after.frame.pts_seconds - before.frame.pts_seconds


def _filled(frames: list[_Seen], detect: Detect) -> list[_Seen]:
    """All with faces, given that the first has been searched."""
    if len(frames) < 2:
        return frames
    first, *between, last = frames
    if last.faces is None:
        last = last.searched(detect, after=first)
    if not between:
        return [first, last]
    interpolated = _interpolated(first, between, last)
    if interpolated is not None:
        return [first, *interpolated, last]
    middle = len(frames) // 2
    left = _filled(frames[: middle + 1], detect)
    return left[:-1] + _filled([left[-1], *frames[middle + 1 : -1], last], detect)


def _interpolated(first: _Seen, between: Sequence[_Seen], last: _Seen) -> list[_Seen] | None:
    """The frames between two nodes with their faces; None where they must be searched."""
    pairs = _pairs(first.faces or (), last.faces or ())
    if pairs is None:
        return None
    filled = []
    for seen in between:
        share = _seconds(first, seen) / _seconds(first, last)
        faces = [mixed(before, after, share) for before, after in pairs]
        filled.append(
            replace(seen, faces=tuple(replace(f, sample_index=seen.sample_index) for f in faces))
        )
    for number, (before, after) in enumerate(pairs):
        at_nodes = first.looks(before), last.looks(after)
        for seen in filled:
            assert seen.faces is not None  # noqa: S101 - filled above
            looks = seen.looks(seen.faces[number])
            if min(looks_distance(node, looks) for node in at_nodes) > MAX_LOOKS_DISTANCE:
                return None
    return filled


def _pairs(
    before: Sequence[FaceBox], after: Sequence[FaceBox]
) -> list[tuple[FaceBox, FaceBox]] | None:
    """Each face with itself on the other node; None unless all match one to one."""
    pairs = [(face, max(after, key=lambda other: box_iou(face, other))) for face in before if after]
    is_whole = len(pairs) == len(before) == len({id(other) for _, other in pairs}) == len(after)
    is_near = all(box_iou(face, other) >= MIN_FOLLOWED_IOU for face, other in pairs)
    return pairs if is_whole and is_near else None


def _smoothed(face: FaceBox, before: Sequence[FaceBox]) -> FaceBox:
    same = max(before, key=lambda other: box_iou(face, other), default=None)
    if same is None or box_iou(face, same) < MIN_SMOOTHED_IOU:
        return face
    return replace(mixed(same, face, 0.5), confidence=face.confidence)
