"""One video -> the same pictures in one profile; runs in a process that may be killed.

Codec, bit rate, size and frame rate often tell real from fake in a data set, and a detector learns
that instead of faces (arXiv 2403.17608). Here every video becomes H.264 in MP4 with

- one group of pictures every two seconds, whatever they show: no scene cuts, no B frames;
- a constant frame rate, by dropping and repeating frames;
- so many bits per pixel and frame, whatever they show: x264 at a constant bit rate, filled up where
  the picture needs less (``nal-hrd=cbr``);
- upright square pixels, 4:2:0, no sound, no metadata.

**Size.** A longer side than ``max_side`` is scaled down, none is scaled up: pixels that were made
up are a trace of their own. With ``square`` width and height are the same for all: the picture lies
in the middle of a black square. Not cut to shape, because that cuts off faces; not stretched,
because that deforms them; not brought to one height, because then the width still tells landscape
from portrait. Face detectors add such a border themselves. The bit rate counts the pixels of the
picture, not of the border, so that a face has as many bits in any shape. For pictures of equal
size, choose a ``max_side`` that the smallest video reaches; those that do not are told of.

What is left: damage that earlier encoders did is in the pixels and stays.
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
from tasks.faces.decode import FrameReader
from tasks.faces.image_file import still_codec
from tasks.faces.plan import frames_plan
from tasks.faces.probe import probe_video

_KEY_FRAME_SECONDS = 2
_BUFFER_SECONDS = 0.5
"""How far the bit rate may swing. Of a clip of three seconds the smallest and the largest file then
differ by 0.1 % in real videos, and by 3 % from noise; twice the buffer doubles that."""
_MAX_SECONDS_PER_FRAME = 10.0
"""Beyond this the times leap: a few bytes could ask for hours of pictures."""
_FALLBACK_FPS = 25.0
_SAME_TIME_SECONDS = 1e-6
_BT601 = 6
"""FFmpeg's number for it in colour space, primaries and transfer: what swscale makes of RGB."""
_LIMITED_RANGE = 1


@dataclass(frozen=True, kw_only=True)
class Reencoded:
    """What became of a video."""

    num_frames: int
    """Written."""
    remark: str | None
    """What a person should know of it."""


class Fit(NamedTuple):
    """Width and height in pixels, all even, of a picture and of what it lies on."""

    picture: tuple[int, int]
    canvas: tuple[int, int]


def reencode(path: Path, target: Path, settings: NormaliseSettings) -> Reencoded:
    """Write a video in the profile; it appears under its name only when it is whole.

    Args:
        path: any file.
        target: the MP4 file to write; its folder is made.
        settings: the profile.

    Raises:
        VideoError: not a video, or one that cannot be decoded.
        MemoryError: it needs more than this process may use.
        OSError: the target cannot be written.
    """
    cv2.setNumThreads(1)
    try:
        return _reencode(path, target, settings)
    except MemoryError as error:
        told = str(error)
    # Raised anew and not on: a traceback would keep all that filled the memory from being freed,
    # and the process is to go on with the next video.
    raise MemoryError(told)


def _reencode(path: Path, target: Path, settings: NormaliseSettings) -> Reencoded:
    if codec := still_codec(path):
        raise VideoError(Status.UNSUPPORTED, f"a still picture ({codec}), not a video")
    probe = probe_video(path)
    num_pictures = _num_pictures(probe, settings.frames_per_second)
    plan = frames_plan(probe, np.arange(probe.num_frames))
    reader = FrameReader(path, probe, plan, decoder="pyav")
    counter = _Counter(reader)
    pictures = at_constant_rate(
        counter,
        fps=settings.frames_per_second,
        start_seconds=probe.pts_seconds[0],
        num_pictures=num_pictures,
    )
    try:
        first = next(pictures)
        fit = fit_size(first.shape[1], first.shape[0], settings)
        fitted = (_fitted(picture, fit) for picture in chain([first], pictures))
        with atomic_path(target) as temporary:
            _encode(temporary, fitted, fit, settings)
    except cv2.error as error:
        raise VideoError(Status.DECODE_ERROR, f"a frame of unusable shape: {error.err}") from error
    loss = _loss(counter.num_frames, probe.num_frames, reader.problem)
    told = [remark for remark in (loss, _smallness(fit, settings)) if remark]
    return Reencoded(num_frames=num_pictures, remark="; ".join(told) or None)


def fit_size(width: int, height: int, settings: NormaliseSettings) -> Fit:
    """Sizes for a picture of ``width`` x ``height`` pixels, rounded down to even numbers."""
    scale = min(1.0, settings.max_side / max(width, height))
    picture = (_even(width * scale), _even(height * scale))
    return Fit(picture, (settings.max_side, settings.max_side) if settings.square else picture)


def at_constant_rate(
    frames: Iterable[Frame], *, fps: int, start_seconds: float, num_pictures: int
) -> Iterator[RGB]:
    """The picture that is shown in the middle of each of ``num_pictures`` equal intervals.

    In the middle, because times that are a little off must not drop one frame and repeat the next.

    Args:
        frames: one or more, ascending.
        fps: intervals per second.
        start_seconds: where the first interval begins; a first frame after that is shown early.
        num_pictures: how many to give.
    """
    num_given = 0
    shown: RGB | None = None
    for frame in frames:
        while (
            shown is not None
            and num_given < num_pictures
            and start_seconds + (num_given + 0.5) / fps < frame.pts_seconds - _SAME_TIME_SECONDS
        ):
            yield shown
            num_given += 1
        shown = frame.rgb_HWC
    while shown is not None and num_given < num_pictures:
        yield shown
        num_given += 1


class _Counter:
    """Frames on their way, counted."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.num_frames = 0
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.num_frames += 1
            yield frame


def _num_pictures(probe: VideoProbe, fps: int) -> int:
    """Intervals from the first frame to the end of the last.

    Raises:
        VideoError: far more than there are frames.
    """
    between = np.diff(probe.pts_seconds)
    last = float(np.median(between)) if len(between) else 1 / (probe.average_fps or _FALLBACK_FPS)
    seconds = probe.duration_seconds + last
    if seconds > _MAX_SECONDS_PER_FRAME * probe.num_frames:
        reason = f"its times leap: {probe.num_frames} frames in {seconds:.0f} seconds"
        raise VideoError(Status.DECODE_ERROR, reason)
    return max(1, round(seconds * fps))


def _even(pixels: float) -> int:
    return max(2, 2 * int(pixels / 2 + 1e-6))


def _fitted(rgb_HWC: RGB, fit: Fit) -> RGB:
    """The picture at its size, in the middle of its canvas."""
    (width, height), (canvas_width, canvas_height) = fit
    if rgb_HWC.shape[:2] != (height, width):
        resized = cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_AREA)
        rgb_HWC = np.asarray(resized, np.uint8)
    if fit.canvas == fit.picture:
        return rgb_HWC
    canvas_HWC = np.zeros((canvas_height, canvas_width, 3), np.uint8)
    # At even places, so that each colour sample lies within the picture or beside it.
    top, left = (canvas_height - height) // 4 * 2, (canvas_width - width) // 4 * 2
    canvas_HWC[top : top + height, left : left + width] = rgb_HWC
    return canvas_HWC


def _encode(path: Path, pictures: Iterable[RGB], fit: Fit, settings: NormaliseSettings) -> None:
    """Write pictures of the canvas' size.

    Raises:
        VideoError: x264 refuses them.
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


def _loss(num_decoded: int, num_frames: int, problem: str | None) -> str | None:
    if num_decoded == num_frames:
        return None
    cause = f" ({problem})" if problem else ""
    return f"only {num_decoded} of {num_frames} frames could be decoded{cause}"


def _smallness(fit: Fit, settings: NormaliseSettings) -> str | None:
    longer = max(fit.picture)
    if longer == settings.max_side:
        return None
    return f"its longer side has only {longer} pixels, not {settings.max_side}"
