"""Small pictures of some frames, for people to look at; runs in a decode process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import PreprocessSettings
from reelcheck.records import RGB
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.image_file import find_still_codec, read_image
from tasks.faces.decoding.plan import plan_frames, plan_samples, space_evenly
from tasks.faces.decoding.probe import probe_video


@dataclass(frozen=True, kw_only=True, eq=False)
class Still:
    """One frame as a small picture."""

    frame_index: int
    pts_seconds: float
    scale: float
    """Pixels of the small picture per pixel of the upright frame."""
    rgb_HWC: RGB


def read_stills(
    path: Path,
    frame_indices: Sequence[int],
    settings: PreprocessSettings,
    *,
    max_stills: int,
    max_side_pixels: int,
) -> list[Still]:
    """Read up to ``max_stills`` frames, spread evenly over those given; of a picture, itself.

    Args:
        path: the video or still picture.
        frame_indices: frames to choose from; empty: those that ``settings`` samples.
        settings: settings of the video's preprocessing.
        max_stills: largest number of frames.
        max_side_pixels: largest longer side of a small picture.

    Raises:
        VideoError: the file is neither video nor picture, or cannot be decoded.
    """
    cv2.setNumThreads(1)
    codec = find_still_codec(path)
    if codec is not None:
        return [_shrink(0, 0.0, read_image(path, codec).rgb_HWC, max_side_pixels)]
    probe = probe_video(path)
    frames = np.array(frame_indices or plan_samples(probe, settings).frame_indices)
    chosen = frames[space_evenly(len(frames), max_stills)]
    reader = FrameReader(path, probe, plan_frames(probe, chosen))
    return [
        _shrink(frame.frame_index, frame.pts_seconds, frame.rgb_HWC, max_side_pixels)
        for frame in reader
    ]


def _shrink(frame_index: int, pts_seconds: float, rgb_HWC: RGB, max_side_pixels: int) -> Still:
    height, width = rgb_HWC.shape[:2]
    scale = min(1.0, max_side_pixels / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Still(
        frame_index=frame_index,
        pts_seconds=pts_seconds,
        scale=scale,
        rgb_HWC=np.asarray(cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA), np.uint8),
    )
