"""A file reaches nothing but itself: no server, no other file, whatever it says or is called."""

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from PIL import Image

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.status import Status
from storage.hashing import sha256_of
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_frames
from tasks.faces.decoding.probe import probe_video
from tasks.faces.video import extract_video

Make = Callable[[Any], Path]
REFUSED = {Status.UNSUPPORTED, Status.DECODE_ERROR}
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
TEXTS = {
    "playlist": PLAYLIST,
    "playlist of playlists": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{list}\n",
    "playlist with a key and a map": (
        '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n'
        '#EXT-X-MAP:URI="{target}"\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n'
    ),
    "concat script": "ffconcat version 1.0\nfile '{target}'\n",
    "DASH manifest": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT9S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1">'
        "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "Smooth Streaming manifest": (
        '<SmoothStreamingMedia MajorVersion="2" Duration="9"><StreamIndex Type="video" '
        'Url="{target}"><QualityLevel Index="0" Bitrate="1"/></StreamIndex></SmoothStreamingMedia>'
    ),
    "IMF playlist": (
        '<?xml version="1.0"?><CompositionPlaylist '
        'xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Path>{target}</Path>'
        "</CompositionPlaylist>"
    ),
    "session description": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{target}\n"
        "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "Windows Media reference": "[Reference]\nRef1={target}\n",
    "ASX list": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "QuickTime link": '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?>'
    '<embed src="{target}"/>',
    "RTSP redirection": "rtsptextrtsp://127.0.0.1:{port}/a\n",
    "list of addresses": "{target}\n",
    "web page": '<html><body><video src="{target}"></video></body></html>',
    "drawing": '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">'
    '<image href="{target}" width="64" height="64"/></svg>',
    "AviSynth script": 'DirectShowSource("{target}")\n',
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, list[str]]]:
    """Port of a web server on this machine, and the paths that it was asked for."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, requests
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(path: Path) -> Iterator[list[str]]:
    """Filled, at the end, with an entry for every time that anybody opened the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    in_open = 0x20
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(path), in_open) >= 0
    events: list[str] = []
    try:
        yield events
        with suppress(BlockingIOError):
            while True:
                # Events of a watched file, unlike those of a folder, have no name: 16 bytes each.
                events += ["opened"] * (len(os.read(watch, 4096)) // 16)
    finally:
        os.close(watch)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="watches files with inotify")


@dataclass(frozen=True)
class Neighbours:
    """Real videos beside the file under test."""

    folder: Path
    video: Path
    stream: Path


@pytest.fixture
def neighbours(tmp_path: Path, make_video: Make, recipe_type: type[Any]) -> Neighbours:
    video, stream = tmp_path / "secret.mp4", tmp_path / "secret.ts"
    video.write_bytes(make_video(recipe_type("plain.mp4")).read_bytes())
    stream.write_bytes(make_video(recipe_type("plain.ts", "mpegts")).read_bytes())
    return Neighbours(tmp_path, video, stream)


def pictures(path: Path, decoder: Literal["decord", "pyav"]) -> list[np.ndarray[Any, Any]]:
    """Every frame, by the way of the pipeline.

    Raises:
        VideoError: the file is refused.
    """
    probe = probe_video(path)
    plan = plan_frames(probe, np.arange(probe.num_frames))
    return [frame.rgb_HWC for frame in FrameReader(path, probe, plan, decoder=decoder)]


def refusal(path: Path) -> Status:
    with pytest.raises(VideoError) as caught:
        pictures(path, "decord")
    assert caught.value.reason
    return caught.value.status


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a"])
@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_names_an_address_asks_no_server(
    server: tuple[int, list[str]], tmp_path: Path, kind: str, name: str
) -> None:
    port, requests = server
    url = f"http://127.0.0.1:{port}/{name}"
    path = tmp_path / name
    path.write_text(TEXTS[kind].format(target=f"{url}.ts", list=f"{url}.m3u8", port=port))
    assert refusal(path) is Status.UNSUPPORTED
    assert requests == []


@linux_only
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a"])
@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_names_another_file_does_not_open_it(
    neighbours: Neighbours, kind: str, name: str
) -> None:
    inner = neighbours.folder / "inner.m3u8"
    inner.write_text(PLAYLIST.format(target="secret.ts"))
    path = neighbours.folder / name
    path.write_text(TEXTS[kind].format(target="secret.ts", list="inner.m3u8", port=9))
    with opened(neighbours.stream) as of_stream, opened(inner) as of_list:
        assert refusal(path) is Status.UNSUPPORTED
    assert of_stream == of_list == []


def test_ffmpeg_as_it_comes_asks_the_server(server: tuple[int, list[str]], tmp_path: Path) -> None:
    port, requests = server
    path = tmp_path / "a.mp4"
    path.write_text(TEXTS["playlist"].format(target=f"http://127.0.0.1:{port}/seen.ts"))
    allowed = {"protocol_whitelist": "file,http,tcp", "extension_picky": "0"}
    with pytest.raises(av.FFmpegError):
        av.open(str(path), format="hls", options=allowed).close()
    assert "/seen.ts" in requests
    requests.clear()


@linux_only
@pytest.mark.parametrize("kind", ["playlist", "playlist of playlists", "concat script"])
def test_ffmpeg_as_it_comes_opens_the_other_file(neighbours: Neighbours, kind: str) -> None:
    (neighbours.folder / "inner.m3u8").write_text(PLAYLIST.format(target="secret.ts"))
    path = neighbours.folder / "a.m3u8"
    path.write_text(TEXTS[kind].format(target="secret.ts", list="inner.m3u8"))
    with opened(neighbours.stream) as events, av.open(str(path)) as container:
        assert container.streams.video
    assert events


def playlist_and_video(video: bytes, target: str) -> tuple[bytes, int, bytes]:
    """The two ends of a file that is a playlist at first sight and a video at second, and the gap.

    To a reader of MP4 the playlist's first letters are the size of a box to be skipped.
    """
    playlist = PLAYLIST.format(target=target).encode()
    (gap,) = struct.unpack(">I", playlist[:4])
    moved = bytearray(video)
    table = moved.index(b"stco") + 8
    (num_chunks,) = struct.unpack_from(">I", moved, table)
    for chunk in range(num_chunks):
        place = table + 4 + 4 * chunk
        struct.pack_into(">I", moved, place, struct.unpack_from(">I", moved, place)[0] + gap)
    return playlist, gap, bytes(moved)


@linux_only
@pytest.mark.parametrize("target", ["secret.mp4", "secret.ts", "http"])
def test_file_that_is_playlist_and_video_at_once_is_its_own_video_or_none(
    neighbours: Neighbours,
    server: tuple[int, list[str]],
    make_video: Make,
    recipe_type: type[Any],
    target: str,
) -> None:
    port, requests = server
    video = make_video(recipe_type("own.mp4", width=64))
    if target == "http":
        target = f"http://127.0.0.1:{port}/a.ts"
    playlist, gap, moved = playlist_and_video(video.read_bytes(), target)
    path = neighbours.folder / "a.mp4"
    with path.open("wb") as file:  # half a gigabyte of nothing, which takes no room
        file.write(playlist)
        file.seek(gap)
        file.write(moved)
    with opened(neighbours.video) as of_video, opened(neighbours.stream) as of_stream:
        try:
            found = pictures(path, "decord")
        except VideoError as error:
            assert error.status in REFUSED  # noqa: PT017 - either way is right
        else:
            np.testing.assert_array_equal(found, pictures(video, "pyav"))
    assert of_video == of_stream == []
    assert requests == []


def alias_record(name: str) -> bytes:
    """A QuickTime alias to a file in the same folder, as FFmpeg reads it."""
    record = bytes(10) + struct.pack(">B27s", 4, b"disk") + bytes(12)
    record += struct.pack(">B63s", len(name), name.encode()) + bytes(16)
    record += struct.pack(">hh", 1, 1) + bytes(16)
    path = f"/{name}".encode()
    record += struct.pack(">hH", 2, len(path)) + path + bytes(len(path) % 2)
    return record + struct.pack(">hH", -1, 0) + bytes(40)


def reference_movie(video: bytes, entry: bytes) -> bytes:
    """The video with its pictures said to be elsewhere: another entry in its data reference."""
    old = video.index(b"url \x00\x00\x00\x01") - 4
    movie = bytearray(video[:old] + entry + video[old + 12 :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = movie.index(name) - 4
        (size,) = struct.unpack_from(">I", movie, place)
        struct.pack_into(">I", movie, place, size + len(entry) - 12)
    return bytes(movie)


@linux_only
def test_reference_movie_does_not_open_the_file_that_it_refers_to(neighbours: Neighbours) -> None:
    alias = alias_record(neighbours.video.name)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    path = neighbours.folder / "a.mov"
    path.write_bytes(reference_movie(neighbours.video.read_bytes(), entry))
    with opened(neighbours.video) as events:
        assert refusal(path) in REFUSED
    assert events == []
    allowed = {"enable_drefs": "1"}
    with opened(neighbours.video) as events, av.open(str(path), options=allowed) as container:
        assert next(container.decode(video=0))
    assert events  # so it would have been seen


def test_reference_movie_of_an_address_asks_no_server(
    neighbours: Neighbours, server: tuple[int, list[str]]
) -> None:
    port, requests = server
    url = f"http://127.0.0.1:{port}/a.mp4".encode() + b"\0"
    entry = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url
    path = neighbours.folder / "a.mov"
    path.write_bytes(reference_movie(neighbours.video.read_bytes(), entry))
    try:
        # A reader that knows no addresses looks into the file itself.
        np.testing.assert_array_equal(pictures(path, "decord"), pictures(neighbours.video, "pyav"))
    except VideoError as error:
        assert error.status in REFUSED  # noqa: PT017 - either way is right
    assert requests == []


ODD_NAMES = (
    "concat:secret.mp4|secret.ts",
    "subfile,,start,0,end,0,,:secret.mp4",
    "data:video,mp4;base64,AAAA",
    "http:secret.mp4",
    "file:secret.mp4",
    "file:secret.mp4.mp4",
    "pipe:0",
    "async:secret.mp4",
    "crypto:secret.mp4",
    "cache:secret.mp4",
    "fd:0",
    "-",
    "-i.mp4",
    "a.mp4?x=1#t=2",
    "%03d.mp4",
    "[a]*.mp4",
    "a\nb.mp4",
    "rtsp:secret.mp4",
    "~",
    "$HOME.mp4",
    "lavfi:testsrc",
)


@linux_only
@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_name_that_looks_like_an_address_is_a_name(
    neighbours: Neighbours,
    make_video: Make,
    recipe_type: type[Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    decoder: Literal["decord", "pyav"],
) -> None:
    video = make_video(recipe_type("own.mp4", width=64))
    expected = pictures(video, "pyav")
    (neighbours.folder / name).write_bytes(video.read_bytes())
    monkeypatch.chdir(neighbours.folder)
    with opened(neighbours.video) as of_video, opened(neighbours.stream) as of_stream:
        for path in (Path(name), neighbours.folder / name):
            np.testing.assert_array_equal(pictures(path, decoder), expected)
    assert of_video == of_stream == []


@linux_only
def test_picture_named_like_a_series_does_not_open_the_series(neighbours: Neighbours) -> None:
    for name in ("a%03d.png", "a001.png"):
        Image.new("RGB", (64, 64), "red").save(neighbours.folder / name)
    with opened(neighbours.folder / "a001.png") as events:
        assert refusal(neighbours.folder / "a%03d.png") is Status.UNSUPPORTED
    assert events == []


@linux_only
def test_watch_sees_a_file_that_is_opened(neighbours: Neighbours) -> None:
    with opened(neighbours.video) as events:
        neighbours.video.read_bytes()
    assert len(events) == 1


def test_extracting_such_files_gives_rows(
    face_model: Path, server: tuple[int, list[str]], neighbours: Neighbours
) -> None:
    from tasks.faces.detection.detect import FaceDetector

    port, requests = server
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    with FaceDetector(face_model, min_confidence=settings.min_confidence) as detector:
        for number, text in enumerate(TEXTS.values()):
            for target in (f"http://127.0.0.1:{port}/a.ts", "secret.ts"):
                path = neighbours.folder / f"{number}.mp4"
                path.write_text(text.format(target=target, list=target, port=port))
                result = extract_video(path, "0" * 64, settings, detector)
                assert result.status is Status.UNSUPPORTED
                assert result.reason
    assert requests == []
