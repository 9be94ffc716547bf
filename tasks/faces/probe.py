"""What a file is, from one pass over its packets: nothing is decoded.

- The content decides, not the extension.
- FFmpeg may open local files only, and only with demuxers that read one self-contained file: a
  playlist or a concat script named ``.mp4`` reaches nothing.
"""

from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from reelcheck.errors import VideoError
from reelcheck.records import VideoProbe
from reelcheck.status import Status

_VIDEO_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,ogg,mpegts,mpeg,mpegvideo,asf,gif,apng,h264,hevc,"
    "m4v,ivf,mxf,dv,rm,wtv,nut,av1,obu"
)
_PICTURE_DEMUXERS = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,jpegls_pipe,svg_pipe"
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": f"{_VIDEO_DEMUXERS},{_PICTURE_DEMUXERS}",
}
_FALLBACK_FPS = 25.0
"""FFmpeg's own guess for raw streams, which carry no time stamps."""

# (offset, bytes) that begin a video container: tells a damaged video from something else.
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
    """Open a local media file with FFmpeg, shut off from the network and from other files.

    Raises:
        VideoError: it is not a media file, or a damaged one.
    """
    av.logging.set_level(None)
    try:
        return av.open(str(path.absolute()), options=_OPTIONS)
    except (av.FFmpegError, ValueError) as error:
        raise _cannot_open(path, error) from error


def video_stream(container: InputContainer) -> VideoStream:
    """The stream that a player would show: the first that is not a cover picture.

    Raises:
        VideoError: there is none.
    """
    if container.format.name.endswith("_pipe"):
        picture = container.format.name.removesuffix("_pipe")
        raise VideoError(Status.UNSUPPORTED, f"a still picture ({picture}), not a video")
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
        VideoError: not a video, or one from which no packet can be read.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        if getattr(stream, "codec_context", None) is None:
            raise VideoError(Status.UNSUPPORTED, "the video stream's codec is unknown")
        times = _packet_times(container, stream)
        if not times.pts_seconds:
            raise VideoError(Status.DECODE_ERROR, "the video stream holds no frames")
        if stream.width == 0 or stream.height == 0:
            raise VideoError(Status.DECODE_ERROR, "the picture size is unknown: no key frame found")
        pixel_aspect = _pixel_aspect(stream)
        return VideoProbe(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=stream.width,
            height=stream.height,
            pixel_aspect=pixel_aspect,
            average_fps=float(stream.average_rate) if stream.average_rate else None,
            pts_seconds=times.pts_seconds,
            has_pts=times.has_pts,
            is_only_video_stream=len(container.streams.video) == 1,
            has_edit_list=times.has_edit_list,
        )


class _Times(NamedTuple):
    pts_seconds: tuple[float, ...]
    has_pts: bool
    has_edit_list: bool


def _packet_times(container: InputContainer, stream: VideoStream) -> _Times:
    """Ascending times of the shown frames."""
    times: list[float] = []
    num_packets = num_discarded = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            num_packets += 1
            if packet.is_discard:
                num_discarded += 1
            elif packet.pts is not None and packet.time_base is not None:
                times.append(float(packet.pts * packet.time_base))
    except av.FFmpegError:
        pass  # a damaged end: what was read so far still counts
    num_frames = num_packets - num_discarded
    # Raw streams have no time stamps; where a stream was spliced they start anew.
    has_pts = len(set(times)) == num_frames
    if not has_pts:
        fps = float(stream.average_rate or _FALLBACK_FPS)
        times = [index / fps for index in range(num_frames)]
    return _Times(tuple(sorted(times)), has_pts, has_edit_list=num_discarded > 0)


def _pixel_aspect(stream: VideoStream) -> float:
    """Width over height of a stored pixel; 1 where it is unknown (None, 0) or absurd."""
    known = float(getattr(stream, "sample_aspect_ratio", None) or 1)
    return known if 0.1 <= known <= 10 else 1.0


def _cannot_open(path: Path, error: Exception) -> VideoError:
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
