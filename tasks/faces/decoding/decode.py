"""Decode the frames of a plan, upright and with square pixels; docs/decoding.md has the figures.

Three ways are tried in turn until all wanted frames are there:

- PyAV by plan: only the needed packets are decoded. It stops at the first sign of damage.
- PyAV in order: every packet is decoded, and the next frame beyond doubt replaces a damaged one
  (``damage.py``).
- decord, strictly forwards, because its seeks return wrong frames for several kinds of stream; only
  for streams for which it is known to be exact. It tells no damage, so PyAV first proves that there
  is none; therefore decord is used on request, or where PyAV has failed.

All ways give the same pixels. Frames are streamed: one is in memory at a time.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from reelcheck.config import Decoder
from reelcheck.errors import VideoError
from reelcheck.records import RGB, DecodePlan, Frame, VideoProbe
from reelcheck.status import Status
from tasks.faces.decoding.damage import CheckedPictures
from tasks.faces.decoding.probe import (
    find_video_stream,
    open_container,
    read_coded_packets,
)

if TYPE_CHECKING:
    import decord

_Way = Literal["decord", "pyav by plan", "pyav in order"]
_DECORD_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2"}
"""Without Matroska, whose rotation decord ignores."""
_DECORD_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}
"""Without formats such as 10 bits, which decord converts to slightly different colours."""
_NOT_DECORD = {"av1", "theora"}
"""Codecs that decord's FFmpeg lacks."""
_DECORD_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"}
_UNPROVED = "decord alone could read it, which tells no damage"
_SAME_TIME_SECONDS = 1e-6


def reads_exactly(probe: VideoProbe) -> bool:
    """Whether decord, read from the start, gives exactly this stream's frames."""
    return (
        probe.container in _DECORD_CONTAINERS
        and probe.pixel_format in _DECORD_PIXELS
        and probe.height % 2 == 0  # else it places the colours of the last lines differently
        and probe.is_only_video_stream
        and probe.has_pts
        and not probe.has_edit_list
        and not probe.is_interlaced
        and not _is_anamorphic(probe)
        and probe.codec not in _NOT_DECORD
        and find_spec("decord") is not None
    )


class FrameReader:
    """Iterate over the frames of a plan, ascending.

    Args:
        path: the video.
        probe: the video's probe.
        plan: which frames, and which packets give them.
        decoder: ``decord`` takes decord wherever it is exact; ``auto`` and ``pyav`` take PyAV.
        is_retry: begin with the decoder that the first attempt did not begin with.

    After iteration ``decoder`` is the decoder of the last frames, ``num_packets_decoded`` the
    number of packets that all ways together had to decode, and ``problem`` the damage that was
    found, in words (None: none); frames in doubt are never given.

    Raises:
        VideoError: during iteration, if no frame at all can be decoded.
    """

    def __init__(
        self,
        path: Path,
        probe: VideoProbe,
        plan: DecodePlan,
        *,
        decoder: Decoder = "auto",
        is_retry: bool = False,
    ) -> None:
        self.problem: str | None = None
        self.num_packets_decoded = 0
        self._path, self._probe, self._plan = path, probe, plan
        self._converter = VideoReformatter()
        self._ways = _choose_ways(probe, plan, decoder, is_retry=is_retry)
        self._way = self._ways[0]
        # A second attempt is made where PyAV died or took too long: it cannot prove anything.
        self._can_prove = not is_retry

    @property
    def decoder(self) -> Literal["decord", "pyav"]:
        """Decoder in use."""
        return "decord" if self._way == "decord" else "pyav"

    def __iter__(self) -> Iterator[Frame]:
        wanted = self._plan.frame_indices
        num_passed = num_frames = 0
        for way in self._ways:
            self._way = way
            for frame in self._read(wanted[num_passed:]):
                num_passed = bisect_right(wanted, frame.frame_index)
                num_frames += 1
                yield frame
            if num_passed == len(wanted):
                break
        if num_frames == 0:
            reason = self.problem or "the decoder gave no usable frame"
            raise VideoError(Status.DECODE_ERROR, reason)

    def _read(self, wanted: Sequence[int]) -> Iterator[Frame]:
        if self._way == "decord":
            if self._may_use_decord(wanted):
                self.num_packets_decoded += self._plan.num_packets_in_order
                yield from self._read_with_decord(wanted)
            return
        is_planned = self._way == "pyav by plan"
        self.num_packets_decoded += (
            self._plan.num_packets if is_planned else self._plan.num_packets_in_order
        )
        with open_container(self._path) as container:
            stream = find_video_stream(container)
            if is_planned:
                yield from self._read_by_plan(container, stream, wanted)
            else:
                yield from self._read_in_order(container, stream, wanted)

    def _may_use_decord(self, wanted: Sequence[int]) -> bool:
        """Prove that all is whole up to the last wanted frame, or note that it is unproved."""
        if not _begins_as_video(self._path):
            return False
        if not self._can_prove:
            self.problem = _UNPROVED
            return True
        self.num_packets_decoded += self._plan.num_packets_in_order
        last = self._probe.pts_seconds[wanted[-1]]
        with open_container(self._path) as container:
            pictures = CheckedPictures(container, find_video_stream(container))
            for picture, is_sure in pictures:
                if not is_sure or picture.time >= last:
                    break
            return pictures.problem is None

    def _read_with_decord(self, wanted: Sequence[int]) -> Iterator[Frame]:
        """Yield frames until the end or until decord fails."""
        import decord  # noqa: PLC0415 - absent on platforms without a wheel

        decord.logging.set_level(decord.logging.QUIET)
        with suppress(decord.DECORDError, RuntimeError, StopIteration):
            path = str(self._path.absolute())
            reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
            if len(reader) != self._probe.num_frames:
                return
            key_frames = reader.get_key_indices()
            position = 0
            for index in wanted:
                _move_forward(reader, position, index, key_frames)
                yield self._make_frame(index, reader.next().asnumpy())
                position = index + 1

    def _read_by_plan(
        self, container: InputContainer, stream: VideoStream, wanted: Sequence[int]
    ) -> Iterator[Frame]:
        """Yield frames until the last wanted one or until any problem."""
        packets = self._probe.packets
        index_of_pts = dict(
            zip(packets.pts_P.tolist(), packets.frame_index_P.tolist(), strict=True)
        )
        remaining, wanted_set = deque(wanted), set(wanted)
        stream.codec_context.thread_count = 1
        # Without this FFmpeg hides damage.
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            for picture in _decode_runs(container, stream, self._probe, self._plan):
                index = index_of_pts.get(picture.pts, -1)
                if picture.is_corrupt:
                    return
                if index not in wanted_set:
                    continue
                if index != remaining.popleft():
                    return  # one is missing
                yield self._make_frame(index, self._turn_upright(picture))
                if not remaining:
                    return
        except (av.FFmpegError, ValueError, VideoError):
            return

    def _read_in_order(
        self, container: InputContainer, stream: VideoStream, wanted: Sequence[int]
    ) -> Iterator[Frame]:
        """Yield the wanted frames by their times; the next sure one replaces one in doubt."""
        times = self._probe.pts_seconds
        num_passed = 0
        pictures = CheckedPictures(container, stream)
        for position, (picture, is_sure) in enumerate(pictures):
            self.problem = pictures.problem
            timed = self._probe.has_pts and picture.pts is not None
            time = picture.time if timed else times[min(position, len(times) - 1)]
            if not is_sure or time < times[wanted[num_passed]] - _SAME_TIME_SECONDS:
                continue
            index = bisect_left(times, time - _SAME_TIME_SECONDS)
            num_passed = bisect_right(wanted, index)
            yield self._make_frame(index, self._turn_upright(picture))
            if num_passed == len(wanted):
                return
        self.problem = pictures.problem

    def _turn_upright(self, picture: av.VideoFrame) -> RGB:
        """Convert to RGB with square pixels, turned (counter-clockwise) by the display matrix."""
        # A picture's own converter is new for every picture; threads cost more than they bring.
        converted = self._converter.reformat(picture, format="rgb24", threads=1).to_ndarray()
        rgb = np.asarray(converted, np.uint8)
        if _is_anamorphic(self._probe):
            size = (round(picture.width * self._probe.pixel_aspect), picture.height)
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.rot90(rgb, k=round(picture.rotation / 90) % 4)

    def _make_frame(self, index: int, rgb: RGB) -> Frame:
        index = min(index, self._probe.num_frames - 1)
        return Frame(
            frame_index=index,
            pts_seconds=self._probe.pts_seconds[index],
            rgb_HWC=np.ascontiguousarray(rgb),
        )


def _choose_ways(
    probe: VideoProbe,
    plan: DecodePlan,
    decoder: Decoder,
    *,
    is_retry: bool,
) -> tuple[_Way, ...]:
    """Choose the ways to decode, in the order in which to try them."""
    by_pyav: tuple[_Way, ...] = ("pyav in order",)
    if plan.num_packets < plan.num_packets_in_order:
        by_pyav = ("pyav by plan", *by_pyav)
    by_decord: tuple[_Way, ...] = ("decord", "pyav in order")
    if not reads_exactly(probe):
        return by_pyav[-1:] if is_retry else by_pyav
    return by_decord if (decoder == "decord") != is_retry else by_pyav


def _decode_runs(
    container: InputContainer, stream: VideoStream, probe: VideoProbe, plan: DecodePlan
) -> Iterator[av.VideoFrame]:
    """Yield exactly the pictures of the plan's packets.

    Packets between runs are read and dropped, without a seek: that costs microseconds, and a seek
    may reach a wrong packet.

    Raises:
        av.FFmpegError: the packets are damaged.
        VideoError: the file gave other packets than when it was probed.
    """
    context = stream.codec_context
    packets = enumerate(read_coded_packets(container, stream))
    for number, run in enumerate(plan.runs):
        if number:
            yield from context.decode(None)
            context.flush_buffers()
        needed = set(run.tolist())
        for position, packet in packets:
            if position in needed:
                if packet.pts != probe.packets.pts_P[position]:
                    raise VideoError(Status.DECODE_ERROR, "the file changed while it was read")
                yield from context.decode(packet)
            if position >= run[-1]:
                break
    yield from context.decode(None)


def _begins_as_video(path: Path) -> bool:
    """Whether the first bytes are those of MP4.

    decord's FFmpeg has no option for allowed formats: with a file that begins as a playlist and
    continues as a video, it would open the files of the playlist.
    """
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:] in _DECORD_BOXES


def _move_forward(
    reader: "decord.VideoReader", position: int, index: int, key_frames: Sequence[int]
) -> None:
    """Move decord from one frame to a later one and decode all frames between.

    ``skip_frames`` seeks as soon as it would pass a key frame, and its seeks are wrong; therefore
    ``next``, which never seeks, passes key frames.
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
