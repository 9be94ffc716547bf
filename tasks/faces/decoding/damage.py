"""Decode every packet in order, and know which pictures may show what the decoder made up.

- FFmpeg hides damage: it fills the hole with its neighbours and goes on. Here it reports the first
  thing that breaks the rules of the codec (``err_detect=explode``).
- A picture can be predicted from any earlier one. So after damage every picture is in doubt until a
  key picture, which needs none before it.
- A flipped bit can give another valid picture. No decoder can notice that: H.264 carries no
  checksum. ``benchmarks/damage.py`` counts how often it happens.
"""

from collections.abc import Iterator

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.video.stream import VideoStream

from tasks.faces.decoding.probe import demux_packets


class CheckedPictures:
    """Iterate over a stream's pictures as they are shown, each with whether it is beyond doubt.

    Args:
        container: an open file.
        stream: its video stream; the settings of its decoder are changed.

    After iteration ``problem`` is the first damage that was found, in words (None: none).
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.problem: str | None = None
        self._container, self._stream = container, stream
        context = stream.codec_context
        context.thread_count = 1
        context.options = {"err_detect": "explode"}
        context.flags |= Flags.copy_opaque  # each picture tells the number of its packet
        self._doubtful_from: int | None = None
        self._last_damaged = -1

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Yield each picture, and whether no damage can have reached it."""
        number = -1
        try:
            for number, packet in enumerate(demux_packets(self._container, self._stream)):
                if not packet.size and packet.dts is not None:
                    continue  # Theora's way to repeat a picture; the decoder would end the stream
                if packet.is_corrupt:
                    self._doubt(number, "a packet is incomplete")
                packet.opaque = number
                yield from self._decode(packet, number)
        except av.FFmpegError as error:
            self._doubt(number + 1, error.strerror or str(error))

    def _decode(
        self, packet: "av.Packet[VideoStream]", number: int
    ) -> Iterator[tuple[av.VideoFrame, bool]]:
        try:
            for picture in packet.decode():
                yield picture, self._is_sure(picture, number)
        except (av.FFmpegError, ValueError) as error:
            self._doubt(number, getattr(error, "strerror", None) or str(error))

    def _is_sure(self, picture: av.VideoFrame, number: int) -> bool:
        own = picture.opaque if isinstance(picture.opaque, int) else number
        if picture.is_corrupt:
            self._doubt(own, "a picture is incomplete")
        elif picture.key_frame and own > self._last_damaged:
            self._doubtful_from = None
        return self._doubtful_from is None or own < self._doubtful_from

    def _doubt(self, number: int, problem: str) -> None:
        self.problem = self.problem or problem
        self._last_damaged = max(self._last_damaged, number)
        if self._doubtful_from is None:
            self._doubtful_from = number
