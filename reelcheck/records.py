"""The small frozen records that travel between stages.

A stage never fills in another stage's record: it returns a new one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reelcheck.status import Status

RGB = NDArray[np.uint8]


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
    source: str | None = None
    """The real video that a fake was made from."""
    pair: str | None = None
    generator: str | None = None


@dataclass(frozen=True, kw_only=True)
class VideoProbe:
    """What the container says after one pass over its packets, nothing decoded."""

    container: str
    codec: str
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

    @property
    def num_frames(self) -> int:
        """Frames that a player shows, counted by packet."""
        return len(self.pts_seconds)

    @property
    def duration_seconds(self) -> float:
        """Time from the first shown frame to the last."""
        return self.pts_seconds[-1] - self.pts_seconds[0]


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


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """One face on one sampled frame."""

    sample_index: int
    """Position among the sampled frames, from 0."""
    xyxy: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright frame; may reach beyond it."""
    confidence: float

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

    def __post_init__(self) -> None:
        """All per-frame fields must have the same length."""
        lengths = {
            len(self.crops_THWC),
            len(self.frame_indices),
            len(self.pts_seconds),
            len(self.boxes_xyxy),
            len(self.confidences),
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
    num_frames_sampled: int | None = None
    """Frames asked of the decoder."""
    num_frames_decoded: int | None = None
    """Frames it gave."""
    num_frames_with_face: int | None = None
    num_faces: int | None = None
    """Face tracks long enough to be judged."""
    sequences: tuple[CropSequence, ...] = ()


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
