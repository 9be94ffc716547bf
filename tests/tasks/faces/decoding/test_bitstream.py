"""What packets say of themselves, against FFmpeg's own decoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from tasks.faces.decoding.probe import probe_video

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


@pytest.fixture(params=["mp4", "matroska", "mpegts"])
def container(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(
    params=[("x264", X264), ("x264_open", X264_OPEN), ("x265", X265)], ids=lambda param: param[0]
)
def coded(
    request: pytest.FixtureRequest, container: str, make_video: Make, recipe_type: type[Any]
) -> Path:
    """90 frames, most of them pictures that nobody refers to."""
    name, values = request.param
    return make_video(recipe_type(f"bits_{name}_{container}", container, num_frames=90, **values))


def test_references_are_the_pictures_that_ffmpeg_keeps(coded: Path) -> None:
    packets = probe_video(coded).packets
    kept = set(packets.pts_P[packets.is_reference_P].tolist())
    assert kept == set(decode(coded, skip="NONREF"))
    assert 0 < len(kept) < 90


def test_restarts_need_nothing_before_them(coded: Path) -> None:
    packets = probe_video(coded).packets
    truth = decode(coded)
    for restart in np.flatnonzero(packets.is_restart_P):
        from_here = decode(coded, first=int(restart))
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
