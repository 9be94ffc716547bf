"""Perturb a video before the face search: see ``reelcheck/perturbations.py``.

Runs in a decode process, if a perturbation is requested.

- A change of pixels is applied to each decoded frame, upright and at its full size.
- A recompressed or repacked video is a new file, read like any other.
- A video that lost frames is the same file with fewer frames to choose from, so that the others are
  not compressed twice. Frames are chosen again: a long video still gives as many samples; a short
  one may have fewer frames left than a sequence needs, and gives none.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import Decoder
from reelcheck.perturbations import Perturbation
from reelcheck.records import RGB, DecodePlan, Frame, VideoProbe
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.probe import probe_video
from tasks.faces.decoding.rewrite import recompress, remux
from tasks.faces.search import ReadFrames
from tasks.faces.stopwatch import Stopwatch

_BLUR_LINES = 480
"""Shorter side of the frame, in pixels, to which a blur's sigma refers."""
_NOISE_LINES = 64
"""Number of lines for which noise is drawn at once, because pictures may be very large."""


@contextmanager
def open_perturbed_video(
    path: Path,
    video_id: str,
    perturbation: Perturbation,
    *,
    decoder: Decoder,
    is_retry: bool,
    scratch_dir: Path | None,
    watch: Stopwatch,
) -> Iterator[tuple[VideoProbe, ReadFrames]]:
    """Give the probe of a perturbed video and its reader, until the block ends.

    Args:
        path: the video.
        video_id: hash of its content; different videos get different noise.
        perturbation: change of the video.
        decoder: see ``RunSettings``.
        is_retry: see ``FrameReader``.
        scratch_dir: folder for a new file; None: the system's folder for temporary files.
        watch: counts the time for the new file as decoding.

    Raises:
        VideoError: the video cannot be read, or the new file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=f"{video_id}.", dir=scratch_dir) as name:
        folder = Path(name)
        with watch.stage("decode"):
            if perturbation.family == "remux":
                path = remux(path, folder)
            elif perturbation.family == "h264":
                crf = int(perturbation.strength or 0)
                path = recompress(path, folder, crf=crf, decoder=decoder, is_retry=is_retry)
        with watch.stage("demux"):
            probe = probe_video(path)
        yield (
            thin_probe(probe, perturbation.keeps_every),
            partial(
                PerturbedReader,
                path,
                probe,
                perturbation=perturbation,
                video_id=video_id,
                decoder=decoder,
                is_retry=is_retry,
            ),
        )


def perturb_frame(frame: Frame, perturbation: Perturbation, *, video_id: str) -> Frame:
    """Change the pixels of a frame; perturbations of files and of time return the frame itself.

    The same frame of the same video always gets the same pixels.
    """
    rgb_HWC, strength = frame.rgb_HWC, perturbation.strength or 0
    match perturbation.family:
        case "jpeg":
            changed = _compress_jpeg(rgb_HWC, quality=int(strength))
        case "scale":
            changed = _scale(rgb_HWC, factor=int(strength))
        case "blur":
            changed = _blur(rgb_HWC, sigma=strength)
        case "noise":
            seed = [int.from_bytes(video_id.encode()), frame.frame_index]
            changed = _add_noise(rgb_HWC, sigma=strength, rng=np.random.default_rng(seed))
        case "gamma":
            values = np.linspace(0, 1, 256) ** strength * 255
            changed = values.round().astype(np.uint8)[rgb_HWC]
        case _:
            return frame
    return replace(frame, rgb_HWC=np.ascontiguousarray(changed, np.uint8))


class PerturbedReader(FrameReader):
    """Read the frames of a plan for a thinned video, and change their pixels.

    Args:
        path: the video, or the new file.
        probe: probe of that file with all its frames.
        plan: frames of the thinned video.
        perturbation: change of the frames.
        video_id: see ``open_perturbed_video``.
        decoder: see ``FrameReader``.
        is_retry: see ``FrameReader``.
    """

    def __init__(
        self,
        path: Path,
        probe: VideoProbe,
        plan: DecodePlan,
        *,
        perturbation: Perturbation,
        video_id: str,
        decoder: Decoder = "auto",
        is_retry: bool = False,
    ) -> None:
        every = perturbation.keeps_every
        indices = tuple(index * every for index in plan.frame_indices)
        plan = replace(plan, frame_indices=indices)
        super().__init__(path, probe, plan, decoder=decoder, is_retry=is_retry)
        self._perturbation, self._video_id = perturbation, video_id

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames like ``FrameReader``, numbered as in the thinned video."""
        for frame in super().__iter__():
            kept = replace(frame, frame_index=frame.frame_index // self._perturbation.keeps_every)
            yield perturb_frame(kept, self._perturbation, video_id=self._video_id)


def thin_probe(probe: VideoProbe, keeps_every: int) -> VideoProbe:
    """Keep the first of every ``keeps_every`` frames of a video, at the same times as before."""
    if keeps_every == 1:
        return probe
    index_P = probe.packets.frame_index_P
    is_kept = (index_P >= 0) & (index_P % keeps_every == 0)
    return replace(
        probe,
        average_fps=probe.average_fps and probe.average_fps / keeps_every,
        pts_seconds=probe.pts_seconds[::keeps_every],
        packets=replace(probe.packets, frame_index_P=np.where(is_kept, index_P // keeps_every, -1)),
    )


def _compress_jpeg(rgb_HWC: RGB, *, quality: int) -> RGB:
    """Compress as JPEG (4:2:0) and read again."""
    bgr_HWC = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)


def _scale(rgb_HWC: RGB, *, factor: int) -> RGB:
    """Shrink both sides by a factor (area average) and enlarge them again (bicubic)."""
    height, width = rgb_HWC.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


def _blur(rgb_HWC: RGB, *, sigma: float) -> RGB:
    pixels = sigma * min(rgb_HWC.shape[:2]) / _BLUR_LINES
    return np.asarray(cv2.GaussianBlur(rgb_HWC, (0, 0), pixels), np.uint8)


def _add_noise(rgb_HWC: RGB, *, sigma: float, rng: np.random.Generator) -> RGB:
    """Add independent normal noise to each value."""
    changed = np.empty_like(rgb_HWC)
    for top in range(0, len(rgb_HWC), _NOISE_LINES):
        lines = rgb_HWC[top : top + _NOISE_LINES]
        noise = rng.standard_normal(lines.shape, np.float32) * np.float32(sigma)
        changed[top : top + _NOISE_LINES] = np.clip(np.rint(lines + noise), 0, 255)
    return changed
