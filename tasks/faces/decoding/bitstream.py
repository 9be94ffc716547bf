"""Dependencies between pictures, read from the bytes of packets.

- Containers mark key frames, but neither whether later pictures need earlier ones, nor which
  pictures no other refers to. The headers of NAL units say both for H.264 and HEVC (ITU-T H.264
  section 7.4.1, H.265 section 7.4.2.2).
- Streams of other codecs, which this module does not know, are decoded completely.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
from av.video.stream import VideoStream

_H264_SLICES = range(1, 6)
_H264_IDR = 5
_HEVC_SLICES = range(32)
_HEVC_IRAP = range(16, 22)
_HEVC_NOT_REFERENCED = range(0, 15, 2)
"""Even slice types below 15: not referenced within their own temporal layer."""
_KEY_FRAMES_RESET = {"vp8", "vp9", "av1"}
"""Codecs whose key frames replace every reference, and whose decoders fail without a key frame."""


class PacketFacts(NamedTuple):
    """Facts that one packet gives about itself."""

    is_restart: bool
    is_reference: bool = True
    layer: int = 0
    """Temporal layer; pictures of higher layers may refer to this one."""
    is_shown: bool = True


FactReader = Callable[["av.Packet[VideoStream]"], PacketFacts]


def make_fact_reader(stream: VideoStream) -> FactReader | None:
    """Make a function that reads the facts of this stream's packets; None: its codec gives none."""
    context = stream.codec_context
    name = context.codec.canonical_name
    extradata = context.extradata or b""
    if name == "h264":
        return _make_h264_reader(extradata[4] % 4 + 1 if _is_length_prefixed(extradata, 7) else 0)
    if name == "hevc":
        return _make_hevc_reader(extradata[21] % 4 + 1 if _is_length_prefixed(extradata, 23) else 0)
    if name == "vp8":
        return lambda packet: PacketFacts(packet.is_keyframe, is_shown=_is_shown_vp8(packet))
    if name in _KEY_FRAMES_RESET:
        return lambda packet: PacketFacts(packet.is_keyframe)
    if context.codec.intra_only:
        return lambda _: PacketFacts(is_restart=True, is_reference=False)
    return None


def _is_length_prefixed(extradata: bytes, min_bytes: int) -> bool:
    """Whether units begin with their length, as in MP4 (configuration record), not a start code."""
    return len(extradata) >= min_bytes and extradata[0] == 1


def _is_shown_vp8(packet: "av.Packet[VideoStream]") -> bool:
    """Read the show_frame bit (RFC 6386 section 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)


def _make_h264_reader(length_bytes: int) -> FactReader:
    def read(packet: "av.Packet[VideoStream]") -> PacketFacts:
        heads = [head for head, _ in _read_unit_heads(memoryview(packet), length_bytes)]
        slices = [head for head in heads if head % 32 in _H264_SLICES]
        return PacketFacts(
            # Only an instantaneous refresh drops all references; other "key frames" may keep some.
            is_restart=bool(slices) and all(head % 32 == _H264_IDR for head in slices),
            is_reference=not slices or any(head >> 5 & 3 for head in slices),
        )

    return read


def _make_hevc_reader(length_bytes: int) -> FactReader:
    def read(packet: "av.Packet[VideoStream]") -> PacketFacts:
        units = [
            (first >> 1 & 63, max(0, second % 8 - 1))
            for first, second in _read_unit_heads(memoryview(packet), length_bytes)
        ]
        slices = [(kind, layer) for kind, layer in units if kind in _HEVC_SLICES]
        return PacketFacts(
            is_restart=bool(slices) and all(kind in _HEVC_IRAP for kind, _ in slices),
            is_reference=not slices or any(kind not in _HEVC_NOT_REFERENCED for kind, _ in slices),
            layer=max((layer for _, layer in slices), default=0),
        )

    return read


def _read_unit_heads(data: memoryview, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the first two bytes of every NAL unit of a packet."""
    starts = _find_prefixed_starts(data, length_bytes) if length_bytes else _find_coded_starts(data)
    for start in starts:
        if start + 1 < len(data):
            yield data[start], data[start + 1]


def _find_prefixed_starts(data: memoryview, length_bytes: int) -> Iterator[int]:
    start = 0
    while start + length_bytes < len(data):
        length = int.from_bytes(data[start : start + length_bytes])
        start += length_bytes
        yield start
        start += length


def _find_coded_starts(data: memoryview) -> Iterator[int]:
    content = bytes(data)
    start = content.find(b"\0\0\1")
    while start >= 0:
        yield start + 3
        start = content.find(b"\0\0\1", start + 3)
