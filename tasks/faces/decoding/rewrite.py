"""Rewrite a video: recompress it, or put its packets into another container.

Runs in a decode process; see ``tasks/faces/perturb.py``.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from reelcheck.config import Decoder
from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame, VideoProbe
from reelcheck.status import Status
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_frames
from tasks.faces.decoding.probe import (
    find_video_stream,
    open_container,
    probe_video,
    read_coded_packets,
)

_REMUX_FORMATS = {
    "mov": ("matroska", "mov", "mp4", "nut"),  # FFmpeg's name for MP4, too
    "matroska": ("mp4", "mov", "nut"),
}
"""Formats in the order in which they are tried, by the video's own format."""
_OTHER_REMUX_FORMATS = ("mp4", "matroska", "mov", "nut")
_SAME_TIME_SECONDS = 1e-6
_TICK = Fraction(1, 1_000_000)
"""Seconds: the unit of the time stamps of recompressed videos."""
_FALLBACK_FPS = 25.0
_UNWRITABLE = (av.FFmpegError, ValueError, OverflowError)


def recompress(
    path: Path, folder: Path, *, crf: int, decoder: Decoder = "auto", is_retry: bool = False
) -> Path:
    """Write every frame of a video at its time as H.264 (x264, preset fast, 4:2:0) in MP4.

    Frames are upright and have square pixels; a last odd line or column, for which 4:2:0 has no
    colour, is cut off. One frame is in memory at a time, besides those of x264's lookahead.

    Args:
        path: the video.
        folder: folder for the new file.
        crf: constant rate factor, 0 to 51.
        decoder: see ``FrameReader``.
        is_retry: see ``FrameReader``.

    Returns:
        The file.

    Raises:
        VideoError: the video cannot be decoded or cannot be encoded.
    """
    probe = probe_video(path)
    plan = plan_frames(probe, np.arange(probe.num_frames))
    frames = FrameReader(path, probe, plan, decoder=decoder, is_retry=is_retry)
    written = folder / "recompressed.mp4"
    # One thread: x264's decisions depend on their number.
    options = {"crf": str(crf), "preset": "fast", "threads": "1"}
    rate = Fraction(probe.average_fps or _FALLBACK_FPS).limit_denominator(1001)
    # An edit list would hide times before zero.
    first_seconds = min(0.0, probe.pts_seconds[0])
    try:
        with av.open(str(written), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.codec_context.time_base = _TICK
            _encode(frames, container, stream, first_seconds=first_seconds)
    except _UNWRITABLE as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise VideoError(
            Status.DECODE_ERROR, f"cannot be compressed once more as H.264: {problem}"
        ) from error
    return written


def _encode(
    frames: Iterable[Frame],
    container: OutputContainer,
    stream: VideoStream,
    *,
    first_seconds: float,
) -> None:
    """Encode frames, all at the size of the first.

    Raises:
        VideoError: the video cannot be decoded.
        av.FFmpegError: the frames cannot be encoded.
        ValueError: the frames cannot be encoded.
        OverflowError: a time is too large.
    """
    converter = VideoReformatter()
    tick = -1
    for frame in frames:
        if tick < 0:
            stream.height, stream.width = (
                max(2, side - side % 2) for side in frame.rgb_HWC.shape[:2]
            )
            stream.pix_fmt = "yuv420p"
        even_HWC = np.ascontiguousarray(frame.rgb_HWC[: stream.height, : stream.width])
        picture = converter.reformat(
            av.VideoFrame.from_ndarray(even_HWC, format="rgb24"),
            width=stream.width,
            height=stream.height,
            format="yuv420p",
            threads=1,
        )
        # x264 refuses a frame whose time does not advance.
        tick = max(tick + 1, round((frame.pts_seconds - first_seconds) / _TICK))
        picture.pts, picture.time_base = tick, _TICK
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def remux(path: Path, folder: Path) -> Path:
    """Write a video's packets, unchanged, to a file of another format with the same frames.

    Formats that cannot hold the codec, the exact times, the rotation or the edit list are skipped.
    The last choice is the video's own format: raw streams, for example, lack the times that all
    other formats need.

    Args:
        path: the video.
        folder: folder for the new file.

    Returns:
        The file.

    Raises:
        VideoError: the video cannot be read, or no format holds it.
    """
    probe = probe_video(path)
    own_format = probe.container.partition(",")[0]
    first_frames = _read_first_frames(path, probe)
    for name in (*_REMUX_FORMATS.get(own_format, _OTHER_REMUX_FORMATS), own_format):
        copy = folder / name
        with suppress(*_UNWRITABLE, VideoError):
            _copy_packets(path, probe, copy, container_format=name)
            copied = probe_video(copy)
            if _agree(probe, copied) and all(
                map(np.array_equal, first_frames, _read_first_frames(copy, copied))
            ):
                return copy
        copy.unlink(missing_ok=True)
    raise VideoError(
        Status.UNSUPPORTED,
        f"no container holds the packets of {probe.codec} in {own_format} and their times",
    )


def _copy_packets(path: Path, probe: VideoProbe, copy: Path, *, container_format: str) -> None:
    """Write the packets of the shown stream.

    Raises:
        av.FFmpegError: the format does not accept the packets.
        ValueError: the format does not accept the packets.
        VideoError: the file cannot be opened any more.
    """
    pts_P = probe.packets.pts_P
    # Files lack some decoding times. New ones ascend, and none is later than its presentation time.
    dts_P = np.sort(pts_P)
    dts_P -= max(0, int((dts_P - pts_P).max()))
    options = {"avoid_negative_ts": "disabled"}  # times before zero are an edit list
    with (
        open_container(path) as given,
        av.open(str(copy), "w", format=container_format, options=options) as written,
    ):
        stream = find_video_stream(given)
        target = written.add_stream_from_template(stream, opaque=True)
        # The template has the codec's aspect ratio; the container's takes precedence.
        if stream.sample_aspect_ratio:
            target.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
        packets = _read_until_damage(read_coded_packets(given, stream))
        for packet, dts in zip(packets, dts_P.tolist(), strict=False):
            if probe.has_pts:
                packet.dts = dts
            packet.stream = target
            written.mux(packet)


def _read_until_damage(
    packets: "Iterable[av.Packet[VideoStream]]",
) -> "Iterator[av.Packet[VideoStream]]":
    """Yield the packets before the first damage, like ``probe_video``."""
    with suppress(av.FFmpegError):
        yield from packets


def _agree(first: VideoProbe, second: VideoProbe) -> bool:
    """Whether two files show the same frames at the same times, according to their packets."""
    return np.array_equal(
        first.packets.frame_index_P, second.packets.frame_index_P
    ) and np.allclose(first.pts_seconds, second.pts_seconds, rtol=0, atol=_SAME_TIME_SECONDS)


def _read_first_frames(path: Path, probe: VideoProbe) -> list[RGB]:
    """Read the first frame with each decoder.

    It shows whether rotation, pixel shape and stream header were kept. decord, for example, ignores
    the rotation in Matroska.

    Raises:
        VideoError: no frame can be decoded.
    """
    plan = plan_frames(probe, np.zeros(1, np.int64))
    decoders: tuple[Decoder, ...] = ("pyav", "decord")
    readers = [FrameReader(path, probe, plan, decoder=decoder) for decoder in decoders]
    return [next(iter(reader)).rgb_HWC for reader in readers]
