"""Small frozen records that stages pass on.

A stage never changes another stage's record: it returns a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reelcheck.locations import location_of
from reelcheck.status import Status

RGB = NDArray[np.uint8]
Point = tuple[float, float]
"""x and y."""
FINGERPRINT_BYTES = 32
"""Size of a picture's perceptual hash; see ``tasks/faces/detection/fingerprint.py``."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file found under a source, before anything is known of its content."""

    root: str
    """Folder or URL that ``path`` is relative to."""
    path: str
    """Path relative to ``root``, with forward slashes."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    """Time of the last change of any kind, which users cannot set as they can ``mtime_ns``; None: a
    URL."""
    video_id: str | None = None
    """SHA-256 of the content; None where the file cannot be read."""
    status: Status | None = None
    """Set if the status is known without a decoder (unreadable, missing)."""
    reason: str | None = None
    label: int | None = None
    """1 fake, 0 real, None unknown."""
    group: str | None = None
    identity: str | None = None
    """The person who is seen."""
    donor: str | None = None
    """For a fake: the person whose face, voice or motion was put in."""
    source: str | None = None
    """The real video that a fake was made from."""
    pair: str | None = None
    generator: str | None = None
    dataset: str | None = None
    """Collection that the file comes from."""
    date: str | None = None
    """Day of publication, as YYYY-MM-DD."""
    split: str | None = None
    """``train``, ``val`` or ``test`` where folders or the labels table give it."""

    @property
    def location(self) -> str:
        """Path on this machine, or URL."""
        return location_of({"root": self.root, "path": self.path})


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """A video stream's P packets in decoding order, and their dependencies.

    A stream without known dependencies has one restart, the first packet, and references only.
    """

    frame_index_P: NDArray[np.int64]
    """Index of the packet's picture among the shown frames; -1: decoded but not shown."""
    pts_P: NDArray[np.int64]
    """Presentation times in units of the stream's time base; different for each packet."""
    is_restart_P: NDArray[np.bool_]
    """Later packets need no earlier ones, except for pictures that are shown before this one."""
    is_reference_P: NDArray[np.bool_]
    """Other pictures may be predicted from this one; if not, its packet can be skipped."""

    @property
    def num_packets(self) -> int:
        """P."""
        return len(self.frame_index_P)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoProbe:
    """What one pass over the container's packets finds, without decoding."""

    container: str
    codec: str
    pixel_format: str | None
    width: int
    """Pixels of the picture as stored, before rotation."""
    height: int
    pixel_aspect: float
    """Width over height of one stored pixel."""
    average_fps: float | None
    pts_seconds: tuple[float, ...]
    """Presentation times of the frames that a player shows, ascending."""
    has_pts: bool
    """The container gives different times; if not, times follow from the average rate."""
    is_only_video_stream: bool
    """There is no second picture stream or cover that a decoder might take instead."""
    has_edit_list: bool
    """Some packets are decoded but not shown."""
    is_interlaced: bool
    """Pictures consist of two fields, whose colours decoders place differently."""
    packets: PacketIndex

    @property
    def num_frames(self) -> int:
        """Number of frames that a player shows, counted by packet."""
        return len(self.pts_seconds)

    @property
    def duration_seconds(self) -> float:
        """Time from the first shown frame to the last."""
        return self.pts_seconds[-1] - self.pts_seconds[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodePlan:
    """Frames of a video that are wanted, and the packets that give them."""

    frame_indices: tuple[int, ...]
    """Wanted frames, ascending."""
    runs: tuple[NDArray[np.int64], ...]
    """Packets to decode, ascending; each run begins where decoding can start."""
    num_packets_in_order: int
    """Number of packets that a reader decodes for the same frames if it skips none."""
    largest_snap_seconds: float
    """Largest distance in seconds between a frame and its requested time."""

    @property
    def num_packets(self) -> int:
        """Number of packets to decode."""
        return sum(len(run) for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One decoded picture, upright."""

    frame_index: int
    """Index among the shown frames, from 0."""
    pts_seconds: float
    rgb_HWC: RGB

    def __post_init__(self) -> None:
        """Refuse arrays that MediaPipe would misread without an error."""
        if self.rgb_HWC.ndim != 3 or not self.rgb_HWC.flags.c_contiguous:
            raise ValueError(f"frame must be contiguous (H, W, 3), got {self.rgb_HWC.shape}")


class Keypoints(NamedTuple):
    """Key points of BlazeFace (arXiv 1907.05047) in a face; right is the person's right.

    The order is that of ``FaceKeyPoint`` of MediaPipe's older Python interface, checked by eye.
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
    """Index among the sampled frames, from 0."""
    xyxy: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright frame; may extend beyond it."""
    confidence: float
    keypoints_xy: Keypoints | None = None
    """Key points in pixels of the upright frame; may lie beyond it."""

    @property
    def eyes_xy(self) -> tuple[Point, Point] | None:
        """The eye on the left of the picture, then the other eye."""
        if self.keypoints_xy is None:
            return None
        first, second = sorted((self.keypoints_xy.right_eye, self.keypoints_xy.left_eye))
        return first, second

    @property
    def side_pixels(self) -> float:
        """Longer side of the box, in pixels."""
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
    """x and y of each crop's key points: 12 numbers in the order of ``Keypoints``, as fractions of
    the crop's side, below 0 or above 1 outside the crop. Those of crops with fingerprints are found
    on the crops. Empty: unknown for some frame."""
    fingerprints: tuple[bytes, ...] = ()
    """Perceptual hashes of aligned faces, of up to nine crops spread over the sequence."""

    def __post_init__(self) -> None:
        """Require that all fields with a value per frame have the same length."""
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
    """Result of preprocessing one content; the same for every copy."""

    video_id: str
    status: Status
    reason: str | None = None
    """Why the status is not ok; with ok, how the video is damaged, or None."""
    container: str | None = None
    codec: str | None = None
    width: int | None = None
    """Pixels of the picture as shown, after rotation and with square pixels."""
    height: int | None = None
    average_fps: float | None = None
    duration_seconds: float | None = None
    num_frames: int | None = None
    decoder: str | None = None
    """Decoder that gave the frames; if several were tried, the last."""
    num_packets_decoded: int | None = None
    """Number of packets that the plan sent to the decoder."""
    largest_snap_seconds: float | None = None
    """Largest distance in seconds by which the plan moved a sample for speed."""
    num_frames_sampled: int | None = None
    """Number of frames requested from the decoder."""
    num_frames_decoded: int | None = None
    """Number of frames that were decoded."""
    num_frames_with_face: int | None = None
    num_faces: int | None = None
    """Number of face tracks that are long enough for a crop sequence."""
    head_rotation: int | None = None
    """Degrees, counter-clockwise, by which frames were turned to find and cut out the faces; boxes
    refer to the frame as shown."""
    fingerprints: tuple[bytes, ...] = ()
    """Perceptual hashes of frames, except of frames that show almost nothing."""
    sequences: tuple[CropSequence, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of demux, decode, detect and crop; not stored in a table of the store."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A group of videos that one Prefect task handles."""

    name: str
    position: str
    """Such as ``2/5``; for people, not for file names."""
    video_ids: tuple[str, ...]
    locations: tuple[str, ...]
    """One path or URL for each id."""


@dataclass(frozen=True, kw_only=True)
class ScoredSequence:
    """The model's logit for one crop sequence."""

    sequence_id: str
    video_id: str
    track_id: int
    num_frames: int
    logit: float
