"""One video -> the same pictures in one profile; runs in a process that may be killed.

Codec, bit rate, size and frame rate often differ between real and fake videos of a data set, and a
detector learns this instead of faces (arXiv 2403.17608). Here every video becomes H.264 in MP4 with

- a key frame every two seconds, whatever the pictures show: no scene cuts, no B frames;
- a constant frame rate, by dropping and repeating frames;
- a constant number of bits per pixel and frame, whatever the pictures show: x264 at a constant bit
  rate, with padding where a picture needs less (``nal-hrd=cbr``);
- upright square pixels, 4:2:0, no sound, no metadata.

**Size.** A picture whose longer side exceeds ``max_side`` shrinks; none grows, because invented
pixels leave a trace of their own. With ``square`` all videos have the same width and height: the
picture lies in the middle of a black square. A cut to shape would cut off faces, stretching would
deform them, and with one height for all the width would still show landscape or portrait. Face
detectors add such a border themselves. The bit rate counts the pixels of the picture without the
border, so that a face has the same number of bits in any shape. For pictures of equal size, choose
a ``max_side`` that the smallest video reaches; smaller videos get a remark.

One trace remains: the damage that earlier encoders did to the pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from reelcheck.config import NormaliseSettings
from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame, VideoProbe
from reelcheck.status import Status
from storage.atomic import atomic_path
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.image_file import find_still_codec
from tasks.faces.decoding.plan import plan_frames
from tasks.faces.decoding.probe import probe_video

_KEY_FRAME_SECONDS = 2
_BUFFER_SECONDS = 0.5
"""Buffer of the bit rate. With it, files of clips of three seconds differ by 0.1 % in size for real
videos, and by 3 % for noise; twice the buffer doubles these figures."""
_MAX_SECONDS_PER_FRAME = 10.0
"""Largest mean time per frame: with more, a small file could demand hours of pictures."""
_FALLBACK_FPS = 25.0
_SAME_TIME_SECONDS = 1e-6
_BT601 = 6
"""FFmpeg's number of BT.601 as colour space, primaries and transfer: swscale's output for RGB."""
_LIMITED_RANGE = 1


@dataclass(frozen=True, kw_only=True)
class Reencoded:
    """Result for one video."""

    num_frames: int
    """Number of written frames."""
    remark: str | None
    """Remark for people, such as lost frames."""


class Fit(NamedTuple):
    """Width and height in pixels, all even, of a picture and of the canvas it lies on."""

    picture: tuple[int, int]
    canvas: tuple[int, int]


def reencode(path: Path, target: Path, settings: NormaliseSettings) -> Reencoded:
    """Write a video in the profile; the file appears only when it is complete.

    Args:
        path: any file.
        target: the MP4 file to write; its folder is made.
        settings: the profile.

    Raises:
        VideoError: the file is no video, or cannot be decoded.
        MemoryError: the video needs more memory than this process may use.
        OSError: the target cannot be written.
    """
    cv2.setNumThreads(1)
    try:
        return _reencode(path, target, settings)
    except MemoryError as error:
        message = str(error)
    # A new exception: the traceback of the first would keep the memory from being freed, which the
    # process needs for the next video.
    raise MemoryError(message)


def _reencode(path: Path, target: Path, settings: NormaliseSettings) -> Reencoded:
    if codec := find_still_codec(path):
        raise VideoError(Status.UNSUPPORTED, f"a still picture ({codec}), not a video")
    probe = probe_video(path)
    num_pictures = _count_pictures(probe, settings.frames_per_second)
    plan = plan_frames(probe, np.arange(probe.num_frames))
    reader = FrameReader(path, probe, plan, decoder="pyav")
    counter = _Counter(reader)
    pictures = resample_frames(
        counter,
        fps=settings.frames_per_second,
        start_seconds=probe.pts_seconds[0],
        num_pictures=num_pictures,
    )
    try:
        first = next(pictures)
        fit = fit_size(first.shape[1], first.shape[0], settings)
        fitted = (_fit_picture(picture, fit) for picture in chain([first], pictures))
        with atomic_path(target) as temporary:
            _encode(temporary, fitted, fit, settings)
    except cv2.error as error:
        raise VideoError(Status.DECODE_ERROR, f"a frame of unusable shape: {error.err}") from error
    loss = _describe_loss(counter.num_frames, probe.num_frames, reader.problem)
    remarks = [remark for remark in (loss, _describe_size(fit, settings)) if remark]
    return Reencoded(num_frames=num_pictures, remark="; ".join(remarks) or None)


def fit_size(width: int, height: int, settings: NormaliseSettings) -> Fit:
    """Fit a picture of ``width`` x ``height`` pixels; sizes are rounded down to even numbers."""
    scale = min(1.0, settings.max_side / max(width, height))
    picture = (_round_even(width * scale), _round_even(height * scale))
    return Fit(picture, (settings.max_side, settings.max_side) if settings.square else picture)


def resample_frames(
    frames: Iterable[Frame], *, fps: int, start_seconds: float, num_pictures: int
) -> Iterator[RGB]:
    """Yield the picture that is shown in the middle of each of ``num_pictures`` equal intervals.

    The middle, because small errors of times must not drop one frame and repeat the next.

    Args:
        frames: one or more frames, ascending.
        fps: intervals per second.
        start_seconds: begin of the first interval; a first frame after it is shown early.
        num_pictures: number of pictures.
    """
    num_yielded = 0
    shown: RGB | None = None
    for frame in frames:
        while (
            shown is not None
            and num_yielded < num_pictures
            and start_seconds + (num_yielded + 0.5) / fps < frame.pts_seconds - _SAME_TIME_SECONDS
        ):
            yield shown
            num_yielded += 1
        shown = frame.rgb_HWC
    while shown is not None and num_yielded < num_pictures:
        yield shown
        num_yielded += 1


class _Counter:
    """Counts the frames that pass."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.num_frames = 0
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.num_frames += 1
            yield frame


def _count_pictures(probe: VideoProbe, fps: int) -> int:
    """Count the intervals from the first frame to the end of the last.

    Raises:
        VideoError: there are far more intervals than frames.
    """
    between = np.diff(probe.pts_seconds)
    last = float(np.median(between)) if len(between) else 1 / (probe.average_fps or _FALLBACK_FPS)
    seconds = probe.duration_seconds + last
    if seconds > _MAX_SECONDS_PER_FRAME * probe.num_frames:
        reason = f"its times leap: {probe.num_frames} frames in {seconds:.0f} seconds"
        raise VideoError(Status.DECODE_ERROR, reason)
    return max(1, round(seconds * fps))


def _round_even(pixels: float) -> int:
    return max(2, 2 * int(pixels / 2 + 1e-6))


def _fit_picture(rgb_HWC: RGB, fit: Fit) -> RGB:
    """Resize a picture and put it in the middle of its canvas."""
    (width, height), (canvas_width, canvas_height) = fit
    if rgb_HWC.shape[:2] != (height, width):
        resized = cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_AREA)
        rgb_HWC = np.asarray(resized, np.uint8)
    if fit.canvas == fit.picture:
        return rgb_HWC
    canvas_HWC = np.zeros((canvas_height, canvas_width, 3), np.uint8)
    # At even positions, so that each colour sample lies inside or outside the picture.
    top, left = (canvas_height - height) // 4 * 2, (canvas_width - width) // 4 * 2
    canvas_HWC[top : top + height, left : left + width] = rgb_HWC
    return canvas_HWC


def _encode(path: Path, pictures: Iterable[RGB], fit: Fit, settings: NormaliseSettings) -> None:
    """Write pictures of the canvas' size.

    Raises:
        VideoError: x264 refuses the pictures.
        OSError: the file cannot be written.
    """
    fps = settings.frames_per_second
    num_bits = settings.bits_per_pixel * fit.picture[0] * fit.picture[1] * fps
    rate = max(1, round(num_bits / 1000)) * 1000  # x264 takes whole kilobits
    options = {
        "preset": "veryfast",
        # One thread: x264's decisions, and so the bytes, depend on the number of threads.
        "threads": "1",
        "b": str(rate),
        "maxrate": str(rate),
        "bufsize": str(round(rate * _BUFFER_SECONDS)),
        "g": str(fps * _KEY_FRAME_SECONDS),
        "keyint_min": str(fps * _KEY_FRAME_SECONDS),
        "bf": "0",
        "x264-params": "nal-hrd=cbr:scenecut=0",
    }
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
            stream.pix_fmt = "yuv420p"
            stream.width, stream.height = fit.canvas
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT601
            context.color_range = _LIMITED_RANGE
            for number, rgb_HWC in enumerate(pictures):
                picture = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        # FFmpeg's own exceptions cannot be sent to another process.
        if isinstance(error, MemoryError):
            raise MemoryError(str(error)) from error
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        reason = f"cannot be encoded: {error.strerror}"
        raise VideoError(Status.INTERNAL_ERROR, reason) from error


def _describe_loss(num_decoded: int, num_frames: int, problem: str | None) -> str | None:
    if num_decoded == num_frames:
        return None
    cause = f" ({problem})" if problem else ""
    return f"only {num_decoded} of {num_frames} frames could be decoded{cause}"


def _describe_size(fit: Fit, settings: NormaliseSettings) -> str | None:
    longer = max(fit.picture)
    if longer == settings.max_side:
        return None
    return f"its longer side has only {longer} pixels, not {settings.max_side}"
