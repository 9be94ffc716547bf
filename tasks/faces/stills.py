"""Small pictures of some frames, for people to look at; runs in a decode process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import PreprocessSettings
from reelcheck.records import RGB
from tasks.faces.decode import FrameReader
from tasks.faces.image_file import read_image, still_codec
from tasks.faces.plan import even_places, frames_plan, sample_plan
from tasks.faces.probe import probe_video


@dataclass(frozen=True, kw_only=True, eq=False)
class Still:
    """One frame, made smaller."""

    frame_index: int
    pts_seconds: float
    scale: float
    """Pixels of the small picture for one of the upright frame."""
    rgb_HWC: RGB


def read_stills(
    path: Path,
    frame_indices: Sequence[int],
    settings: PreprocessSettings,
    *,
    max_stills: int,
    max_side_pixels: int,
) -> list[Still]:
    """Up to ``max_stills`` frames, spread evenly over those given, in order; of a picture, itself.

    Args:
        path: the video or still picture.
        frame_indices: which frames; none: those that ``settings`` samples.
        settings: how the video was preprocessed.
        max_stills: how many to show.
        max_side_pixels: longer side of a larger frame's small picture.

    Raises:
        VideoError: neither, or nothing of it can be decoded.
    """
    cv2.setNumThreads(1)
    codec = still_codec(path)
    if codec is not None:
        return [_shrunk(0, 0.0, read_image(path, codec).rgb_HWC, max_side_pixels)]
    probe = probe_video(path)
    frames = np.array(frame_indices or sample_plan(probe, settings).frame_indices)
    chosen = frames[even_places(len(frames), max_stills)]
    reader = FrameReader(path, probe, frames_plan(probe, chosen))
    return [
        _shrunk(frame.frame_index, frame.pts_seconds, frame.rgb_HWC, max_side_pixels)
        for frame in reader
    ]


def _shrunk(frame_index: int, pts_seconds: float, rgb_HWC: RGB, max_side_pixels: int) -> Still:
    height, width = rgb_HWC.shape[:2]
    scale = min(1.0, max_side_pixels / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Still(
        frame_index=frame_index,
        pts_seconds=pts_seconds,
        scale=scale,
        rgb_HWC=np.asarray(cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA), np.uint8),
    )
