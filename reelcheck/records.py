"""The small frozen records that travel between stages.

A stage never fills in another stage's record: it returns a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reelcheck.status import Status

RGB = NDArray[np.uint8]
Point = tuple[float, float]
"""x and y."""
FINGERPRINT_BYTES = 32
"""Of a picture's perceptual hash; see ``tasks/faces/fingerprint.py``."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file found under a source, before anything is known of its content."""

    root: str
    """The folder that ``path`` is relative to."""
    path: str
    """Path relative to ``root``, with forward slashes."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    video_id: str | None = None
    """SHA-256 of the content; None where the file cannot be read."""
    status: Status | None = None
    """Set when the outcome is known without opening a decoder (unreadable, missing)."""
    reason: str | None = None
    label: int | None = None
    """1 fake, 0 real, None unknown."""
    group: str | None = None
    identity: str | None = None
    """Who is seen."""
    donor: str | None = None
    """Of a fake: whose face, voice or motion was put in; a name like those of identities."""
    source: str | None = None
    """The real video that a fake was made from."""
    pair: str | None = None
    generator: str | None = None
    dataset: str | None = None
    """The collection that the file comes from."""
    date: str | None = None
    """When it was published, as YYYY-MM-DD."""
    split: str | None = None
    """``train``, ``val`` or ``test`` where folders or the labels table give it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """A video stream's P packets in decoding order: what depends on what.

    A stream of which nothing is known has one restart, the first packet, and references only.
    """

    frame_index_P: NDArray[np.int64]
    """Position of the packet's picture among the shown frames; -1: decoded but not shown."""
    pts_P: NDArray[np.int64]
    """Presentation times in units of the stream's time base; tells packets apart."""
    is_restart_P: NDArray[np.bool_]
    """Nothing from here on needs what came before, except pictures shown before this one."""
    is_reference_P: NDArray[np.bool_]
    """Other pictures may be predicted from this one; if not, it can be left undecoded."""

    @property
    def num_packets(self) -> int:
        """P."""
        return len(self.frame_index_P)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoProbe:
    """What the container says after one pass over its packets, nothing decoded."""

    container: str
    codec: str
    pixel_format: str | None
    width: int
    """Pixels of the picture as stored: before rotation."""
    height: int
    pixel_aspect: float
    """Width over height of one stored pixel."""
    average_fps: float | None
    pts_seconds: tuple[float, ...]
    """Times of the frames that a player shows, ascending."""
    has_pts: bool
    """The container tells them apart; if not, they are counted out at the average rate."""
    is_only_video_stream: bool
    """No second picture stream or cover that a decoder might take instead."""
    has_edit_list: bool
    """Some packets are decoded but not shown."""
    is_interlaced: bool
    """Pictures are woven from two fields, whose colours decoders place differently."""
    packets: PacketIndex

    @property
    def num_frames(self) -> int:
        """Frames that a player shows, counted by packet."""
        return len(self.pts_seconds)

    @property
    def duration_seconds(self) -> float:
        """Time from the first shown frame to the last."""
        return self.pts_seconds[-1] - self.pts_seconds[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodePlan:
    """Which frames of a video are wanted, and which packets give them."""

    frame_indices: tuple[int, ...]
    """Wanted frames, ascending."""
    runs: tuple[NDArray[np.int64], ...]
    """Packets to decode, ascending; each run begins where decoding can start anew."""
    num_packets_in_order: int
    """Packets that a reader which leaves nothing out decodes for the same frames."""
    largest_snap_seconds: float
    """How far the farthest frame lies from the place that was asked for."""

    @property
    def num_packets(self) -> int:
        """Packets to decode."""
        return sum(len(run) for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One decoded picture, upright."""

    frame_index: int
    """Position among the shown frames, from 0."""
    pts_seconds: float
    rgb_HWC: RGB

    def __post_init__(self) -> None:
        """Refuse arrays that MediaPipe would misread without a word."""
        if self.rgb_HWC.ndim != 3 or not self.rgb_HWC.flags.c_contiguous:
            raise ValueError(f"frame must be contiguous (H, W, 3), got {self.rgb_HWC.shape}")


class Keypoints(NamedTuple):
    """What BlazeFace (arXiv 1907.05047) points out in a face; right is the person's right.

    In the order of ``FaceKeyPoint`` of MediaPipe's older Python interface, checked by eye.
    """

    right_eye: Point
    left_eye: Point
    nose_tip: Point
    mouth_centre: Point
    right_ear: Point
    left_ear: Point


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """One face on one sampled frame."""

    sample_index: int
    """Position among the sampled frames, from 0."""
    xyxy: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright frame; may reach beyond it."""
    confidence: float
    keypoints_xy: Keypoints | None = None
    """In pixels of the upright frame; may lie beyond it."""

    @property
    def eyes_xy(self) -> tuple[Point, Point] | None:
        """The eye on the left of the picture, then the other."""
        if self.keypoints_xy is None:
            return None
        first, second = sorted((self.keypoints_xy.right_eye, self.keypoints_xy.left_eye))
        return first, second

    @property
    def side_pixels(self) -> float:
        """The longer side."""
        x1, y1, x2, y2 = self.xyxy
        return max(x2 - x1, y2 - y1)

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box, x and y."""
        x1, y1, x2, y2 = self.xyxy
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True, kw_only=True)
class CropSequence:
    """T crops of one person in one video: the model's input unit."""

    sequence_id: str
    video_id: str
    track_id: int
    crops_THWC: RGB
    frame_indices: tuple[int, ...]
    pts_seconds: tuple[float, ...]
    boxes_xyxy: tuple[tuple[float, float, float, float], ...]
    confidences: tuple[float, ...]
    sharpness: tuple[float, ...]
    """Variance of the Laplacian of each crop's luma: small means blurred."""
    brightness: tuple[float, ...]
    """Mean luma of each crop, 0 to 255."""
    keypoints_xy: tuple[tuple[float, ...], ...]
    """x and y of each crop's key points, 12 numbers in the order of ``Keypoints``, as fractions of
    the crop's side; beyond 0 to 1 outside of it. Empty: not known of every frame."""
    fingerprints: tuple[bytes, ...] = ()
    """Perceptual hashes of the crops."""

    def __post_init__(self) -> None:
        """All per-frame fields must have the same length."""
        lengths = {
            len(self.crops_THWC),
            len(self.frame_indices),
            len(self.pts_seconds),
            len(self.boxes_xyxy),
            len(self.confidences),
            len(self.sharpness),
            len(self.brightness),
            len(self.keypoints_xy or self.frame_indices),
        }
        if len(lengths) != 1:
            raise ValueError(f"crop sequence {self.sequence_id} has unequal lengths: {lengths}")

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frame_indices)


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """What one video's content gave; the same for every copy of it."""

    video_id: str
    status: Status
    reason: str | None = None
    """Why not ok; for ok a remark such as a damaged end, or None."""
    container: str | None = None
    codec: str | None = None
    width: int | None = None
    """Pixels of the picture as shown, after rotation and with square pixels."""
    height: int | None = None
    average_fps: float | None = None
    duration_seconds: float | None = None
    num_frames: int | None = None
    decoder: str | None = None
    """What gave the frames; of several in turn, the last."""
    num_packets_decoded: int | None = None
    """Packets that the plan sent to the decoder."""
    largest_snap_seconds: float | None = None
    """How far the plan moved a sample for the sake of speed."""
    num_frames_sampled: int | None = None
    """Frames asked of the decoder."""
    num_frames_decoded: int | None = None
    """Frames it gave."""
    num_frames_with_face: int | None = None
    num_faces: int | None = None
    """Face tracks long enough to be judged."""
    head_rotation: int | None = None
    """Degrees, counter-clockwise, by which frames were turned to find and cut out the faces; boxes
    lie on the frame as shown."""
    fingerprints: tuple[bytes, ...] = ()
    """Perceptual hashes of frames, without those that show next to nothing."""
    sequences: tuple[CropSequence, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of demux, decode, detect and crop; belongs to the run, never to a table."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A group of videos that one Prefect task handles."""

    name: str
    position: str
    """Such as ``2/5``: for people, not for files."""
    video_ids: tuple[str, ...]
    paths: tuple[str, ...]
    """One readable file for each id."""


@dataclass(frozen=True, kw_only=True)
class ScoredSequence:
    """The model's raw answer for one crop sequence."""

    sequence_id: str
    video_id: str
    track_id: int
    num_frames: int
    logit: float
