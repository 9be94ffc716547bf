"""Every sampling with every decoder gives the frames of a full sequential decode, bit for bit."""

import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import pytest

from reelcheck.config import Decoder, PreprocessSettings
from tasks.faces.decoding.decode import FrameReader, reads_exactly
from tasks.faces.decoding.plan import plan_samples
from tasks.faces.decoding.probe import probe_video

Make = Callable[[Any], Path]
SAMPLINGS = ("spread", "clips", "uniform", "all")
DECODERS: tuple[Decoder, ...] = ("auto", "decord", "pyav")


def x264(parameters: str) -> dict[str, Any]:
    return {"options": {"x264-params": parameters}}


def x265(parameters: str) -> dict[str, Any]:
    options = {"x265-params": f"log-level=none:{parameters}"}
    return {"codec": "libx265", "options": options}


def vpx(codec: str, **options: str) -> dict[str, Any]:
    return {"codec": codec, "options": {"deadline": "good", "cpu-used": "8", **options}}


# Every way in which encoders let pictures depend on each other.
STREAMS: dict[str, dict[str, Any]] = {
    "x264": {},
    "x264_no_b": x264("bframes=0:keyint=30"),
    "x264_one_b": x264("bframes=1:b-adapt=0:keyint=25"),
    "x264_many_b": x264("bframes=8:b-adapt=0:b-pyramid=normal:keyint=60"),
    "x264_b_strict": x264("bframes=5:b-adapt=0:b-pyramid=strict:keyint=40"),
    "x264_b_flat": x264("bframes=5:b-adapt=0:b-pyramid=none:keyint=40"),
    "x264_open_gop": x264("open-gop=1:bframes=4:b-adapt=0:keyint=16:min-keyint=16"),
    "x264_refs": x264("ref=8:bframes=3:keyint=48"),
    "x264_intra_refresh": x264("intra-refresh=1:bframes=0:keyint=20"),
    "x264_one_key_frame": x264("keyint=infinite:bframes=3"),
    "x264_all_intra": x264("keyint=1"),
    "x264_short_groups": x264("keyint=4:min-keyint=4:bframes=2:b-adapt=0"),
    "x264_interlaced": x264("interlaced=1:bframes=2:keyint=30"),
    "x264_slices": x264("slices=4:bframes=3:keyint=30"),
    "x264_weighted": x264("weightp=2:weightb=1:bframes=3:keyint=30"),
    "x264_lossless": x264("qp=0:keyint=30") | {"pixels": "yuv444p"},
    "x264_444": x264("keyint=20:bframes=3") | {"pixels": "yuv444p"},
    "x264_422": x264("keyint=20:bframes=3") | {"pixels": "yuv422p"},
    "x264_10_bit": x264("keyint=20:bframes=3") | {"pixels": "yuv420p10le"},
    "x264_full_range": x264("keyint=20:bframes=3") | {"pixels": "yuvj420p"},
    "x264_mkv": x264("keyint=20:bframes=3") | {"container": "matroska"},
    "x264_ts": x264("keyint=20:bframes=3") | {"container": "mpegts"},
    "x264_flv": x264("keyint=20:bframes=3") | {"container": "flv"},
    "x264_avi": x264("keyint=20:bframes=0") | {"container": "avi"},
    "x264_mov": x264("keyint=20:bframes=3") | {"container": "mov"},
    "x264_raw": x264("keyint=20:bframes=3") | {"container": "h264"},
    "x264_edit_list": x264("keyint=20:bframes=3") | {"num_hidden": 9},
    "x264_odd_size": x264("keyint=20:bframes=3") | {"pixels": "yuv444p", "width": 97, "height": 65},
    "x265": x265("bframes=4"),
    "x265_open_gop": x265("open-gop=1:keyint=20:min-keyint=20:bframes=4:b-adapt=0"),
    "x265_closed_gop": x265("open-gop=0:keyint=20:min-keyint=20:bframes=4:b-adapt=0"),
    "x265_temporal_layers": x265("temporal-layers=3:bframes=4:b-adapt=0:keyint=24"),
    "x265_no_pyramid": x265("b-pyramid=0:bframes=4:b-adapt=0:keyint=24"),
    "x265_no_b": x265("bframes=0:keyint=24"),
    "x265_radl": x265("radl=2:open-gop=0:bframes=4:b-adapt=0:keyint=20:min-keyint=20"),
    "x265_ts": x265("open-gop=1:keyint=20:bframes=4") | {"container": "mpegts"},
    "x265_mkv": x265("open-gop=1:keyint=20:bframes=4") | {"container": "matroska"},
    "x265_10_bit": x265("keyint=20:bframes=4") | {"pixels": "yuv420p10le"},
    "x265_raw": x265("keyint=20:bframes=4") | {"container": "hevc"},
    "vp8": vpx("libvpx", g="20") | {"container": "webm"},
    "vp8_alternate": vpx("libvpx", g="40", **{"auto-alt-ref": "1", "lag-in-frames": "16"})
    | {"container": "webm"},
    "vp9": vpx("libvpx-vp9", g="20") | {"container": "webm"},
    "vp9_alternate": vpx("libvpx-vp9", g="40", **{"auto-alt-ref": "1", "lag-in-frames": "25"})
    | {"container": "webm"},
    "vp9_mp4": vpx("libvpx-vp9", g="20"),
    "av1": {"codec": "libsvtav1", "options": {"preset": "12", "g": "20"}, "width": 128},
    "av1_webm": {"codec": "libsvtav1", "options": {"preset": "12", "g": "20"}, "width": 128}
    | {"container": "webm"},
    "mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p", "container": "avi"},
    "mpeg4_avi": {"codec": "mpeg4", "container": "avi", "options": {"bf": "2", "g": "20"}},
    "mpeg4_mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "20"}},
    "mpeg2_ts": {"codec": "mpeg2video", "container": "mpegts", "options": {"bf": "2", "g": "15"}},
    "mpeg2_ps": {"codec": "mpeg2video", "container": "vob", "options": {"bf": "2", "g": "15"}},
    "mpeg1": {"codec": "mpeg1video", "container": "mpeg", "options": {"bf": "2", "g": "15"}},
    "wmv2": {"codec": "wmv2", "container": "asf", "options": {"g": "20"}},
    "flv1": {"codec": "flv", "container": "flv", "options": {"g": "20"}},
    "ffv1": {"codec": "ffv1", "container": "matroska"},
    "prores": {"codec": "prores_ks", "container": "mov", "pixels": "yuv422p10le"},
    "gif": {"codec": "gif", "container": "gif", "pixels": "rgb8"},
    "huffyuv": {"codec": "huffyuv", "container": "avi", "pixels": "yuv422p"},
}


@pytest.fixture(params=STREAMS)
def stream(request: pytest.FixtureRequest, make_video: Make, recipe_type: type[Any]) -> Path:
    name: str = request.param
    recipe = recipe_type(name, num_frames=130, **STREAMS[name])
    try:
        av.codec.Codec(recipe.codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of FFmpeg has no encoder {recipe.codec}")
    return make_video(recipe)


@lru_cache(maxsize=4)
def truth(path: Path) -> list[int]:
    """Checksum of every frame that FFmpeg shows when it reads from start to end."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [zlib.crc32(picture.tobytes()) for picture in pictures]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_exactness_every_frame_is_that_of_a_full_decode(stream: Path, sampling: str) -> None:
    probe = probe_video(stream)
    settings = PreprocessSettings.model_validate({"sampling": sampling})
    plan = plan_samples(probe, settings)
    expected = [truth(stream)[index] for index in plan.frame_indices]
    assert len(set(truth(stream))) > 0.9 * probe.num_frames  # frames can be told apart
    for decoder in DECODERS:
        for is_retry in (False, True):
            reader = FrameReader(stream, probe, plan, decoder=decoder, is_retry=is_retry)
            frames = list(reader)
            assert [frame.frame_index for frame in frames] == list(plan.frame_indices)
            assert [zlib.crc32(frame.rgb_HWC.tobytes()) for frame in frames] == expected
            is_decord = reads_exactly(probe) and (decoder == "decord") != is_retry
            assert reader.decoder == ("decord" if is_decord else "pyav")
            # A second attempt by decord comes without a proof that nothing is damaged.
            assert (reader.problem is None) == (not (is_decord and is_retry))
