"""A video written anew: recompressed, or its packets in another container.

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
from tasks.faces.decode import FrameReader
from tasks.faces.plan import frames_plan
from tasks.faces.probe import coded_packets, open_container, probe_video, video_stream

_REMUX_FORMATS = {
    "mov": ("matroska", "mov", "mp4", "nut"),  # what FFmpeg calls MP4, too
    "matroska": ("mp4", "mov", "nut"),
}
"""In the order in which they are tried, by the name of the video's own."""
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
    colour, is left out. One frame is alive at a time, besides those that x264 looks ahead to.

    Args:
        path: the video.
        folder: where the file is written.
        crf: constant rate factor, 0 to 51.
        decoder: see ``FrameReader``.
        is_retry: likewise.

    Returns:
        The file.

    Raises:
        VideoError: the video cannot be decoded or cannot be encoded.
    """
    probe = probe_video(path)
    plan = frames_plan(probe, np.arange(probe.num_frames))
    frames = FrameReader(path, probe, plan, decoder=decoder, is_retry=is_retry)
    written = folder / "recompressed.mp4"
    # One thread: what x264 decides depends on their number.
    options = {"crf": str(crf), "preset": "fast", "threads": "1"}
    rate = Fraction(probe.average_fps or _FALLBACK_FPS).limit_denominator(1001)
    # Times before zero would be hidden by an edit list.
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
    """Encode frames; the first one's size is that of all.

    Raises:
        VideoError: the video cannot be decoded.
        av.FFmpegError: the frames cannot be encoded.
        ValueError: likewise.
        OverflowError: a time is out of all bounds.
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
        # Where time stands still x264 would refuse the frame.
        tick = max(tick + 1, round((frame.pts_seconds - first_seconds) / _TICK))
        picture.pts, picture.time_base = tick, _TICK
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def remux(path: Path, folder: Path) -> Path:
    """Write a video's packets, unchanged, to a file of another format that shows the same.

    Formats that cannot hold the codec, the exact times, the rotation or the edit list are passed
    over. The last resort is the format that the video has: raw streams, for one, lack the times
    that all others want.

    Args:
        path: the video.
        folder: where the file is written.

    Returns:
        The file.

    Raises:
        VideoError: the video cannot be read, or no format holds it.
    """
    probe = probe_video(path)
    own_format = probe.container.partition(",")[0]
    first_frames = _first_frames(path, probe)
    for name in (*_REMUX_FORMATS.get(own_format, _OTHER_REMUX_FORMATS), own_format):
        copy = folder / name
        with suppress(*_UNWRITABLE, VideoError):
            _copy_packets(path, probe, copy, container_format=name)
            copied = probe_video(copy)
            if _agree(probe, copied) and all(
                map(np.array_equal, first_frames, _first_frames(copy, copied))
            ):
                return copy
        copy.unlink(missing_ok=True)
    raise VideoError(
        Status.UNSUPPORTED,
        f"no container holds the packets of {probe.codec} in {own_format} and their times",
    )


def _copy_packets(path: Path, probe: VideoProbe, copy: Path, *, container_format: str) -> None:
    """Write the packets of the stream that is shown.

    Raises:
        av.FFmpegError: the format does not take them.
        ValueError: likewise.
        VideoError: the file can no longer be opened.
    """
    pts_P = probe.packets.pts_P
    # Files lack some decoding times. These ascend, and no picture is decoded after it is shown.
    dts_P = np.sort(pts_P)
    dts_P -= max(0, int((dts_P - pts_P).max()))
    options = {"avoid_negative_ts": "disabled"}  # times before zero are an edit list
    with (
        open_container(path) as given,
        av.open(str(copy), "w", format=container_format, options=options) as written,
    ):
        stream = video_stream(given)
        target = written.add_stream_from_template(stream, opaque=True)
        # The template's is what the codec says; the container's word counts for more.
        if stream.sample_aspect_ratio:
            target.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
        packets = _until_damage(coded_packets(given, stream))
        for packet, dts in zip(packets, dts_P.tolist(), strict=False):
            if probe.has_pts:
                packet.dts = dts
            packet.stream = target
            written.mux(packet)


def _until_damage(
    packets: "Iterable[av.Packet[VideoStream]]",
) -> "Iterator[av.Packet[VideoStream]]":
    """As ``probe_video`` reads them: what comes before the damage counts."""
    with suppress(av.FFmpegError):
        yield from packets


def _agree(first: VideoProbe, second: VideoProbe) -> bool:
    """Whether two files show the same frames at the same times, by what their packets say."""
    return np.array_equal(
        first.packets.frame_index_P, second.packets.frame_index_P
    ) and np.allclose(first.pts_seconds, second.pts_seconds, rtol=0, atol=_SAME_TIME_SECONDS)


def _first_frames(path: Path, probe: VideoProbe) -> list[RGB]:
    """The first frame as each decoder gives it.

    It tells whether the turn, the shape of the pixels and the stream's head were kept. decord, for
    one, does not turn what Matroska says to turn.

    Raises:
        VideoError: no frame can be decoded.
    """
    plan = frames_plan(probe, np.zeros(1, np.int64))
    decoders: tuple[Decoder, ...] = ("pyav", "decord")
    readers = [FrameReader(path, probe, plan, decoder=decoder) for decoder in decoders]
    return [next(iter(reader)).rgb_HWC for reader in readers]
