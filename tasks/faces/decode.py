"""Decode chosen frames of a video, upright and with square pixels.

- decord is the project's decoder. It is used strictly forwards, because its seeks return other
  frames than asked for on several kinds of stream.
- Where even that is known to be wrong (MPEG-TS, edit lists, other containers than MP4 and Matroska)
  or decord cannot open the file, PyAV decodes instead, also strictly forwards.
- Frames are streamed: one is alive at a time.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame, VideoProbe
from reelcheck.status import Status
from tasks.faces.probe import open_container, video_stream

if TYPE_CHECKING:
    import decord

Decoder = Literal["decord", "pyav"]
_DECORD_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_SAME_TIME_SECONDS = 1e-6


def choose_decoder(probe: VideoProbe) -> Decoder:
    """Which decoder reads this stream exactly when read from the start."""
    exact = (
        probe.container in _DECORD_CONTAINERS
        and probe.is_only_video_stream
        and probe.has_pts
        and not probe.has_edit_list
        and not _is_anamorphic(probe)
    )
    return "decord" if exact and find_spec("decord") is not None else "pyav"


@dataclass
class FrameReader:
    """Iterate over chosen frames of a video, ascending, falling back from decord to PyAV.

    Args:
        path: the video.
        probe: its packet index.
        frame_indices: ascending positions among the shown frames.

    After iteration ``decoder`` says which decoder gave the frames, and ``problem`` what the
    decoder last complained of (None: nothing).

    Raises:
        VideoError: while iterating, when no frame at all can be decoded.
    """

    path: Path
    probe: VideoProbe
    frame_indices: Sequence[int]
    decoder: Decoder = field(init=False)
    problem: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.decoder = choose_decoder(self.probe)

    def __iter__(self) -> Iterator[Frame]:
        remaining = list(self.frame_indices)
        if self.decoder == "decord":
            for frame in self._decord_frames():
                remaining = remaining[1:]
                yield frame
            if not remaining:
                return
            self.decoder = "pyav"
        num_frames = len(self.frame_indices) - len(remaining)
        for frame in _pyav_frames(self, remaining):
            num_frames += 1
            yield frame
        if num_frames == 0:
            reason = self.problem or "the decoder gave no usable frame"
            raise VideoError(Status.DECODE_ERROR, reason)

    def _decord_frames(self) -> Iterator[Frame]:
        """Frames until the end or until decord fails; PyAV then takes the rest."""
        import decord  # noqa: PLC0415 - absent on platforms without a wheel

        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(str(self.path.absolute()), ctx=decord.cpu(0), num_threads=1)
            if len(reader) != self.probe.num_frames:
                return
            key_frames = reader.get_key_indices()
            position = 0
            for index in self.frame_indices:
                _advance(reader, position, index, key_frames)
                yield _frame(self.probe, index, reader.next().asnumpy())
                position = index + 1
        except (decord.DECORDError, RuntimeError, StopIteration):
            return


def _advance(
    reader: "decord.VideoReader", position: int, index: int, key_frames: Sequence[int]
) -> None:
    """Move decord from one frame to a later one, decoding all between.

    ``skip_frames`` seeks as soon as it would pass a key frame, and its seeks go wrong; so key
    frames are passed with ``next``, which never seeks.
    """
    while position < index:
        following = bisect_right(key_frames, position)
        next_key = key_frames[following] if following < len(key_frames) else index + 1
        if next_key > index:
            reader.skip_frames(index - position)
            return
        if next_key - 1 > position:
            reader.skip_frames(next_key - 1 - position)
        reader.next()
        position = next_key


def _is_anamorphic(probe: VideoProbe) -> bool:
    return abs(probe.pixel_aspect - 1) > 0.02


def _pyav_frames(reader: FrameReader, frame_indices: Sequence[int]) -> Iterator[Frame]:
    """The wanted frames by presentation time; a damaged frame gives way to the next good one."""
    times = reader.probe.pts_seconds
    wanted = list(frame_indices)
    with open_container(reader.path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        for position, frame in enumerate(_decoded(reader, container.demux(stream))):
            if not wanted:
                return
            timed = reader.probe.has_pts and frame.pts is not None
            time = frame.time if timed else times[min(position, len(times) - 1)]
            if frame.is_corrupt or time < times[wanted[0]] - _SAME_TIME_SECONDS:
                continue
            index = bisect_left(times, time - _SAME_TIME_SECONDS)
            wanted = [later for later in wanted if later > index]
            yield _frame(reader.probe, index, _upright(frame, reader.probe))


def _decoded(
    reader: FrameReader, packets: "Iterable[av.Packet[VideoStream]]"
) -> Iterator[av.VideoFrame]:
    """All frames in order. As in every player, a packet that cannot be decoded is left out."""
    try:
        for packet in packets:
            try:
                yield from packet.decode()
            except (av.FFmpegError, ValueError) as error:
                reader.problem = getattr(error, "strerror", None) or str(error)
    except av.FFmpegError as error:
        reader.problem = error.strerror


def _upright(frame: av.VideoFrame, probe: VideoProbe) -> RGB:
    """RGB picture with square pixels, turned as the display matrix says (counter-clockwise)."""
    rgb = frame.to_ndarray(format="rgb24")
    if _is_anamorphic(probe):
        size = (round(frame.width * probe.pixel_aspect), frame.height)
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.rot90(rgb, k=round(frame.rotation / 90) % 4)


def _frame(probe: VideoProbe, index: int, rgb: RGB) -> Frame:
    index = min(index, probe.num_frames - 1)
    return Frame(
        frame_index=index,
        pts_seconds=probe.pts_seconds[index],
        rgb_HWC=np.ascontiguousarray(rgb),
    )
