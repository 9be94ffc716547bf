"""What is said of a video without decoding it, against what a full decode gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from reelcheck.errors import VideoError
from reelcheck.status import Status
from tasks.faces.decoding.probe import probe_video

Make = Callable[[Any], Path]
NAMES = {
    "mp4": "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska": "matroska,webm",
    "webm": "matroska,webm",
}
CODECS = {
    "libx264": "h264",
    "libx265": "hevc",
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "flv": "flv1",
}


def decode_all(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def refusal(path: Path) -> tuple[Status, str]:
    with pytest.raises(VideoError) as caught:
        probe_video(path)
    assert caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value.status, caught.value.reason


def test_probe_says_what_a_full_decode_gives(any_recipe: Any, any_video: Path) -> None:
    probe, frames = probe_video(any_video), decode_all(any_video)
    assert probe.num_frames == len(frames) == any_recipe.num_frames - any_recipe.num_hidden
    assert probe.container == NAMES.get(any_recipe.container, any_recipe.container)
    assert probe.codec == CODECS.get(any_recipe.codec, any_recipe.codec)
    assert probe.average_fps == pytest.approx(float(any_recipe.fps), rel=0.01)
    times = [frame.time for frame in frames]
    if times[0] is None:  # a raw stream has no clock
        times = [number / float(any_recipe.fps) for number in range(len(frames))]
    assert probe.pts_seconds == pytest.approx(times, abs=1e-6)
    assert probe.duration_seconds == pytest.approx(times[-1] - times[0], abs=1e-6)
    assert probe.has_edit_list == (any_recipe.num_hidden > 0)
    assert probe.pixel_aspect == pytest.approx(float(any_recipe.aspect or 1))


def test_probe_size_is_that_of_the_stored_picture(any_recipe: Any, any_video: Path) -> None:
    probe = probe_video(any_video)
    assert (probe.width, probe.height) == (any_recipe.width, any_recipe.height)
    assert probe.pixel_aspect == pytest.approx(float(any_recipe.aspect or 1))


def test_probe_content_decides_not_the_name(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    source = make_video(recipe_type("mpeg4.avi", "avi", "mpeg4", options={"bf": "2"}))
    for name in ("video.txt", "video.mp4", "no_extension", "-dash 'q' 视频.MOV", "%03d.mp4"):
        path = tmp_path / name
        path.write_bytes(source.read_bytes())
        assert probe_video(path).container == "avi"


def test_probe_first_stream_that_is_no_cover_picture_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        small, large = (container.add_stream("libx264", rate=25) for _ in range(2))
        small.width, small.height = 32, 16
        large.width, large.height = 64, 48
        for stream in (small, large):
            stream.pix_fmt = "yuv420p"
        for stream in (small, large):
            picture = np.zeros((stream.height, stream.width, 3), np.uint8)
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    probe = probe_video(path)
    assert (probe.width, probe.height, probe.num_frames) == (32, 16, 3)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_probe_empty_file_is_unsupported(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert refusal(tmp_path / "a.mp4") == (Status.UNSUPPORTED, "empty file (0 bytes)")


@pytest.mark.parametrize(
    "content",
    [
        b"just some text\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        bytes(range(256)) * 20,
        b"\x00" * 4096,
        b"PK\x03\x04" + b"\x00" * 100,
        b"path,label\na.mp4,real\n" * 40,
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
    ],
    ids=["text", "LFS", "bytes", "zeros", "zip", "csv", "playlist", "concat", "wav head"],
)
def test_probe_something_else_named_mp4_is_unsupported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert refusal(path)[0] is Status.UNSUPPORTED


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_probe_picture_named_mp4_is_unsupported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    Image.new("RGB", (64, 64), "red").save(path, format=kind)
    status, reason = refusal(path)
    assert status is Status.UNSUPPORTED
    assert f"picture ({kind.lower()}); still JPEG, PNG and WebP are read" in reason


def test_probe_sound_only_is_unsupported(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.mp4")
    expected = (Status.UNSUPPORTED, "no video stream (it holds only audio)")
    assert refusal(tmp_path / "a.mp4") == expected


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_probe_video_without_its_index_is_a_decode_error(
    make_video: Make, recipe_type: type[Any], tmp_path: Path, keep: float
) -> None:
    content = make_video(recipe_type("b_frames.mp4", options={"bf": "3", "g": "12"})).read_bytes()
    assert content.index(b"moov") > keep * len(content) * 0.5
    path = tmp_path / "a.mp4"
    path.write_bytes(content[: int(keep * content.index(b"moov"))])
    status, reason = refusal(path)
    assert status is Status.DECODE_ERROR
    assert "damaged or incomplete video" in reason


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 12,
        b"\x1a\x45\xdf\xa3" + b"\x00" * 20,
        b"RIFF\x10\x00\x00\x00AVI LIST",
        b"OggS" + b"\x00" * 40,
        b"FLV\x01\x05\x00\x00\x00\x09",
    ],
    ids=["mp4", "matroska", "avi", "ogg", "flv"],
)
def test_probe_head_of_a_video_alone_is_a_decode_error(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(head)
    assert refusal(path)[0] is Status.DECODE_ERROR


def test_probe_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.mp4")[0] is Status.UNREADABLE


def test_probe_codec_nobody_knows_is_refused(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    content = make_video(recipe_type("few.mp4", num_frames=2)).read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(content.replace(b"avc1", b"zzzz"))
    assert refusal(path)[0] in {Status.UNSUPPORTED, Status.DECODE_ERROR}


def test_probe_one_frame_is_a_video_of_no_duration(
    make_video: Make, recipe_type: type[Any]
) -> None:
    probe = probe_video(make_video(recipe_type("one.mp4", num_frames=1)))
    assert (probe.num_frames, probe.duration_seconds) == (1, 0.0)


def test_probe_cut_transport_stream_counts_what_is_there(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    content = make_video(recipe_type("stream.ts", "mpegts", "mpeg2video", options={"bf": "2"}))
    path = tmp_path / "cut.ts"
    path.write_bytes(content.read_bytes()[: content.stat().st_size // 2])
    assert 0 < probe_video(path).num_frames < 40
