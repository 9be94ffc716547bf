"""What packets say of themselves, against FFmpeg's own decoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from tasks.faces.probe import probe_video

Make = Callable[[Any], Path]
X264 = {"options": {"x264-params": "bframes=5:b-adapt=0:b-pyramid=normal:keyint=30"}}
X264_OPEN = {"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=20:min-keyint=20"}}
X265 = {
    "codec": "libx265",
    "options": {"x265-params": "log-level=none:bframes=4:b-adapt=0:keyint=30:open-gop=0"},
}


def decode(
    path: Path, *, skip: Literal["DEFAULT", "NONREF"] = "DEFAULT", first: int = 0
) -> dict[int, bytes]:
    """Time -> picture of what FFmpeg decodes from packet ``first`` on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = skip
        packets = [packet for packet in container.demux(stream) if packet.size][first:]
        pictures = [frame for packet in [*packets, None] for frame in stream.decode(packet)]
        return {f.pts: f.to_ndarray().tobytes() for f in pictures if f.pts is not None}


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("values", [X264, X264_OPEN, X265], ids=["x264", "x264_open", "x265"])
def test_references_are_the_pictures_that_ffmpeg_keeps(
    make_video: Make, recipe_type: type[Any], values: dict[str, Any], container: str
) -> None:
    codec = values.get("codec", "libx264")
    name = f"bits_{codec}_{len(str(values))}_{container}"
    path = make_video(recipe_type(name, container, num_frames=90, **values))
    packets = probe_video(path).packets
    kept = set(packets.pts_P[packets.is_reference_P].tolist())
    assert kept == set(decode(path, skip="NONREF"))
    assert 0 < len(kept) < 90


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("values", [X264, X264_OPEN, X265], ids=["x264", "x264_open", "x265"])
def test_restarts_need_nothing_before_them(
    make_video: Make, recipe_type: type[Any], values: dict[str, Any], container: str
) -> None:
    codec = values.get("codec", "libx264")
    name = f"bits_{codec}_{len(str(values))}_{container}"
    path = make_video(recipe_type(name, container, num_frames=90, **values))
    packets = probe_video(path).packets
    truth = decode(path)
    for restart in np.flatnonzero(packets.is_restart_P):
        from_here = decode(path, first=int(restart))
        trailing = {pts for pts in truth if pts >= packets.pts_P[restart]}
        assert {pts: from_here.get(pts) for pts in trailing} == {p: truth[p] for p in trailing}


def test_h264_key_frame_that_may_be_looked_past_is_no_restart(
    make_video: Make, recipe_type: type[Any]
) -> None:
    path = make_video(recipe_type("bits_open.mkv", "matroska", num_frames=90, **X264_OPEN))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    num_keys = sum(packet.is_keyframe for packet in packets)
    assert num_keys > probe_video(path).packets.is_restart_P.sum() == 1


def test_codec_of_which_nothing_is_known_has_one_restart_and_references_only(
    make_video: Make, recipe_type: type[Any]
) -> None:
    path = make_video(recipe_type("bits.avi", "avi", "mpeg4", options={"bf": "2", "g": "10"}))
    packets = probe_video(path).packets
    assert packets.is_restart_P.tolist() == [True] + [False] * (packets.num_packets - 1)
    assert packets.is_reference_P.all()


def test_pictures_of_an_intra_codec_are_independent(
    make_video: Make, recipe_type: type[Any]
) -> None:
    path = make_video(recipe_type("bits_mjpeg.avi", "avi", "mjpeg", "yuvj420p"))
    packets = probe_video(path).packets
    assert packets.is_restart_P.all()
    assert not packets.is_reference_P.any()
