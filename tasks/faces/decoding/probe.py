"""Probe a file by one pass over its packets, without decoding.

- The content decides, not the extension.
- FFmpeg may open local files only, with demuxers that read one self-contained file only: a playlist
  or a concat script named ``.mp4`` cannot open other files.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from reelcheck.errors import VideoError
from reelcheck.records import PacketIndex, VideoProbe
from reelcheck.status import Status
from tasks.faces.decoding.bitstream import PacketFacts, make_fact_reader

_VIDEO_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,ogg,mpegts,mpeg,mpegvideo,asf,gif,apng,h264,hevc,"
    "m4v,ivf,mxf,dv,rm,wtv,nut,av1,obu"
)
_PICTURE_DEMUXERS = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,jpegls_pipe,svg_pipe"
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": f"{_VIDEO_DEMUXERS},{_PICTURE_DEMUXERS}",
}
_PROGRESSIVE = 1
"""Value of FFmpeg's AVFieldOrder: 0 is unknown, 1 progressive, larger values are interlaced."""
_FALLBACK_FPS = 25.0
"""FFmpeg's own guess for raw streams, which carry no time stamps."""

# (offset, bytes) at the beginning of video containers; a damaged video still has them.
_VIDEO_MAGIC = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"OggS"),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x30\x26\xb2\x75"),
    (0, b"\x00\x00\x00\x01"),
)


def open_container(path: Path) -> InputContainer:
    """Open a local media file with FFmpeg, without access to the network and to other files.

    Raises:
        VideoError: the file is no media file, or damaged.
    """
    av.logging.set_level(None)
    try:
        return av.open(str(path.absolute()), options=_OPTIONS)
    except (av.FFmpegError, ValueError) as error:
        raise _make_open_error(path, error) from error


def find_video_stream(container: InputContainer) -> VideoStream:
    """Find the stream that a player would show: the first that is not a cover picture.

    Raises:
        VideoError: there is no such stream.
    """
    if container.format.name.endswith("_pipe"):
        picture = container.format.name.removesuffix("_pipe")
        reason = f"an animated or unusual picture ({picture}); still JPEG, PNG and WebP are read"
        raise VideoError(Status.UNSUPPORTED, reason)
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    # A cover picture counts as a video stream, but is none.
    others = {stream.type for stream in container.streams} - {"video"}
    kinds = ", ".join(sorted(others)) or "nothing"
    raise VideoError(Status.UNSUPPORTED, f"no video stream (it holds only {kinds})")


def probe_video(path: Path) -> VideoProbe:
    """Read a video's packet index.

    Raises:
        VideoError: the file is no video, or no packet of it can be read.
    """
    with open_container(path) as container:
        stream = find_video_stream(container)
        if getattr(stream, "codec_context", None) is None:
            raise VideoError(Status.UNSUPPORTED, "the video stream's codec is unknown")
        packets = list(_describe_packets(container, stream))
        shown = [packet for packet in packets if packet.is_shown]
        if not shown:
            raise VideoError(Status.DECODE_ERROR, "the video stream holds no frames")
        if stream.width == 0 or stream.height == 0:
            raise VideoError(Status.DECODE_ERROR, "the picture size is unknown: no key frame found")
        known_pts = {packet.pts for packet in shown} - {None}
        # Raw streams have no time stamps; those of spliced streams start again.
        has_pts = len(known_pts) == len(shown) and stream.time_base is not None
        return VideoProbe(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=stream.codec_context.pix_fmt,
            width=stream.width,
            height=stream.height,
            pixel_aspect=_read_pixel_aspect(stream),
            average_fps=float(stream.average_rate) if stream.average_rate else None,
            pts_seconds=_compute_times(shown, stream, has_pts=has_pts),
            has_pts=has_pts,
            is_only_video_stream=len(container.streams.video) == 1,
            has_edit_list=any(packet.is_discard for packet in packets),
            is_interlaced=stream.codec_context.field_order > _PROGRESSIVE,
            packets=_make_index(packets, has_pts=has_pts),
        )


@dataclass(frozen=True)
class _Packet:
    pts: int | None
    is_discard: bool
    facts: PacketFacts | None

    @property
    def is_shown(self) -> bool:
        return not self.is_discard and (self.facts is None or self.facts.is_shown)


def demux_packets(
    container: InputContainer, stream: VideoStream
) -> "Iterator[av.Packet[VideoStream]]":
    """Yield all packets of a stream; the last is empty and marks the end for the decoder.

    Raises:
        av.FFmpegError: the file is damaged here; the packets before still count.
    """
    # After the last packet PyAV fails with streams that began inside the file (its issue 692).
    with suppress(IndexError):
        yield from container.demux(stream)


def read_coded_packets(
    container: InputContainer, stream: VideoStream
) -> "Iterator[av.Packet[VideoStream]]":
    """Yield the packets that hold pictures, in the order in which ``PacketIndex`` counts them.

    Raises:
        av.FFmpegError: the file is damaged here; the packets before still count.
    """
    return (packet for packet in demux_packets(container, stream) if packet.size)


def _describe_packets(container: InputContainer, stream: VideoStream) -> Iterator[_Packet]:
    read_facts = make_fact_reader(stream)
    try:
        for packet in read_coded_packets(container, stream):
            facts = read_facts(packet) if read_facts else None
            yield _Packet(packet.pts, packet.is_discard, facts)
    except av.FFmpegError:
        return


def _compute_times(
    shown: Sequence[_Packet], stream: VideoStream, *, has_pts: bool
) -> tuple[float, ...]:
    """Compute the ascending times of the shown frames."""
    base = stream.time_base
    if has_pts and base is not None:
        # Multiply whole numbers before the division, so that equal times stay equal.
        pts = sorted(packet.pts for packet in shown if packet.pts is not None)
        return tuple(time * base.numerator / base.denominator for time in pts)
    fps = float(stream.average_rate or _FALLBACK_FPS)
    return tuple(index / fps for index in range(len(shown)))


def _make_index(packets: Sequence[_Packet], *, has_pts: bool) -> PacketIndex:
    num_packets = len(packets)
    is_shown = np.array([packet.is_shown for packet in packets])
    pts = np.array([-1 if packet.pts is None else packet.pts for packet in packets], np.int64)
    frame_index = np.full(num_packets, -1)
    shown_order = np.argsort(pts[is_shown], kind="stable") if has_pts else slice(None)
    frame_index[np.flatnonzero(is_shown)[shown_order]] = np.arange(is_shown.sum())
    is_restart, is_reference = np.zeros(num_packets, bool), np.ones(num_packets, bool)
    facts = [packet.facts for packet in packets if packet.facts is not None]
    # Packets with equal times cannot be distinguished, so none can be skipped.
    if has_pts and len(facts) == len(set(pts.tolist())) == num_packets:
        top_layer = max(fact.layer for fact in facts)
        is_restart = np.array([fact.is_restart for fact in facts])
        is_reference = np.array([f.is_reference or f.layer < top_layer for f in facts])
    is_restart[0] = True
    return PacketIndex(
        frame_index_P=frame_index, pts_P=pts, is_restart_P=is_restart, is_reference_P=is_reference
    )


def _read_pixel_aspect(stream: VideoStream) -> float:
    """Read width over height of a stored pixel; 1 if it is unknown (None, 0) or implausible."""
    known = float(getattr(stream, "sample_aspect_ratio", None) or 1)
    return known if 0.1 <= known <= 10 else 1.0


def _make_open_error(path: Path, error: Exception) -> VideoError:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as os_error:
        return VideoError(Status.UNREADABLE, f"cannot be read: {os_error.strerror}")
    if not head:
        return VideoError(Status.UNSUPPORTED, "empty file (0 bytes)")
    if any(head[offset:].startswith(magic) for offset, magic in _VIDEO_MAGIC):
        problem = getattr(error, "strerror", None) or "invalid data"
        return VideoError(Status.DECODE_ERROR, f"damaged or incomplete video: {problem}")
    return VideoError(Status.UNSUPPORTED, "not a video (no known video format)")
