"""Perturbations of a video on its way to the face search: see ``reelcheck/perturbations.py``.

Runs in a decode process; only where a perturbation is asked for.

- What changes pixels changes each frame as it is decoded, at its full size and upright.
- A recompressed or repacked video is a file of its own, read like any other.
- A video that lost frames is the same file with fewer frames to choose from: what remains is not
  compressed a second time. The frames are chosen anew, so a long video still gives as many samples;
  a short one may have fewer frames left than a sequence needs, and then is not judged.
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
from tasks.faces.decode import FrameReader
from tasks.faces.probe import probe_video
from tasks.faces.rewrite import recompress, remux
from tasks.faces.search import ReadFrames
from tasks.faces.stopwatch import Stopwatch

_BLUR_LINES = 480
"""Shorter side of the frame that a blur's sigma is given for."""
_NOISE_LINES = 64
"""Lines for which noise is drawn at a time: a picture may be far larger than a frame."""


@contextmanager
def perturbed_video(
    path: Path,
    video_id: str,
    perturbation: Perturbation,
    *,
    decoder: Decoder,
    is_retry: bool,
    scratch_dir: Path | None,
    watch: Stopwatch,
) -> Iterator[tuple[VideoProbe, ReadFrames]]:
    """What a perturbed video holds, and how to read it, until the block ends.

    Args:
        path: the video.
        video_id: hash of its content; no two videos get the same noise.
        perturbation: what it goes through.
        decoder: see ``RunSettings``.
        is_retry: see ``FrameReader``.
        scratch_dir: where a file may be written; None: the system's folder for such.
        watch: counts the file's making as decoding.

    Raises:
        VideoError: the video cannot be read, or no such file can be made of it.
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
            thinned(probe, perturbation.keeps_every),
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


def perturbed_frame(frame: Frame, perturbation: Perturbation, *, video_id: str) -> Frame:
    """The frame with other pixels, or itself where the perturbation is not one of frames.

    The same frame of the same video always gets the same pixels.
    """
    rgb_HWC, strength = frame.rgb_HWC, perturbation.strength or 0
    match perturbation.family:
        case "jpeg":
            changed = _jpeg(rgb_HWC, quality=int(strength))
        case "scale":
            changed = _scaled(rgb_HWC, factor=int(strength))
        case "blur":
            changed = _blurred(rgb_HWC, sigma=strength)
        case "noise":
            seed = [int.from_bytes(video_id.encode()), frame.frame_index]
            changed = _noisy(rgb_HWC, sigma=strength, rng=np.random.default_rng(seed))
        case "gamma":
            values = np.linspace(0, 1, 256) ** strength * 255
            changed = values.round().astype(np.uint8)[rgb_HWC]
        case _:
            return frame
    return replace(frame, rgb_HWC=np.ascontiguousarray(changed, np.uint8))


class PerturbedReader(FrameReader):
    """Frames of a plan that was made for what ``thinned`` left, with their pixels changed.

    Args:
        path: the video, or the file that was made of it.
        probe: what that file holds, all frames of it.
        plan: frames of the thinned video.
        perturbation: what the frames go through.
        video_id: see ``perturbed_video``.
        decoder: see ``FrameReader``.
        is_retry: likewise.
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
        """As ``FrameReader``, numbered as in the thinned video."""
        for frame in super().__iter__():
            kept = replace(frame, frame_index=frame.frame_index // self._perturbation.keeps_every)
            yield perturbed_frame(kept, self._perturbation, video_id=self._video_id)


def thinned(probe: VideoProbe, keeps_every: int) -> VideoProbe:
    """A video of which only the first of so many frames is left, at the same times as before."""
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


def _jpeg(rgb_HWC: RGB, *, quality: int) -> RGB:
    """Compressed as JPEG (4:2:0) and read again."""
    bgr_HWC = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)


def _scaled(rgb_HWC: RGB, *, factor: int) -> RGB:
    """Both sides shrunk by a factor, areas averaged, and grown back bicubically."""
    height, width = rgb_HWC.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


def _blurred(rgb_HWC: RGB, *, sigma: float) -> RGB:
    pixels = sigma * min(rgb_HWC.shape[:2]) / _BLUR_LINES
    return np.asarray(cv2.GaussianBlur(rgb_HWC, (0, 0), pixels), np.uint8)


def _noisy(rgb_HWC: RGB, *, sigma: float, rng: np.random.Generator) -> RGB:
    """With independent normal noise on each value."""
    changed = np.empty_like(rgb_HWC)
    for top in range(0, len(rgb_HWC), _NOISE_LINES):
        lines = rgb_HWC[top : top + _NOISE_LINES]
        noise = rng.standard_normal(lines.shape, np.float32) * np.float32(sigma)
        changed[top : top + _NOISE_LINES] = np.clip(np.rint(lines + noise), 0, 255)
    return changed
