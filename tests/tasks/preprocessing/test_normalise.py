"""One profile for all videos: what ffprobe says of the files, and that no run does things twice."""

import csv
import importlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
import pytest
from coded_video import flat, write_video
from hypothesis import given
from hypothesis import strategies as st

from reelcheck.config import NormaliseSettings, RunSettings
from reelcheck.errors import SourceError
from reelcheck.records import RGB
from tasks.faces.decoding.reencode import reencode
from tasks.preprocessing.normalise import normalise, target_names
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

SMALL = NormaliseSettings(max_side=160)
RUN = RunSettings(num_workers=1)
ENDLESS = """
import threading
from pathlib import Path

from storage.atomic import atomic_path


def write_without_end(path, video_id, target, settings, limits):
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"the begin of a video")
        Path(__file__).with_name("begun").touch()
        threading.Event().wait()
"""
Probe = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="session")
def probed() -> Probe:
    """What ffprobe says of a file: its streams, packets and tags."""
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is not installed")

    def probe(path: Path) -> dict[str, Any]:
        command = [ffprobe, "-v", "error", "-show_streams", "-show_packets", "-show_format"]
        answer = subprocess.run([*command, "-of", "json", path], capture_output=True, check=True)
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    return probe


def bits_per_pixel(found: dict[str, Any]) -> float:
    (stream,) = found["streams"]
    num_bits = 8 * sum(int(packet["size"]) for packet in found["packets"])
    return num_bits / (stream["width"] * stream["height"] * len(found["packets"]))


def decoded(path: Path) -> list[RGB]:
    with av.open(str(path)) as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]


def table_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "normalised.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    """Every video of the output: which file it is, and when it was written."""
    return {
        path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*.mp4")
    }


def left_behind(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.name.endswith((".tmp", ".jsonl"))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four videos that differ in all that files can differ in, and three files that are none."""
    folder = tmp_path / "videos"
    ramp = [flat(8 * number, width=320, height=180) for number in range(30)]
    write_video(folder / "real" / "a.mov", ramp, fps=50, is_loud=True)
    write_video(folder / "real" / "a.avi", ramp[:15], fps=15, codec="mjpeg")
    write_video(folder / "fake" / "b.mkv", [flat(9 * n) for n in range(12)], fps=12, codec="mpeg4")
    write_video(folder / "c.mp4", [flat(80, width=90, height=160)] * 10, fps=25)
    (folder / "notes.txt").write_text("no video")
    (folder / "empty.mp4").touch()
    still = av.CodecContext.create("png", "w")
    assert isinstance(still, av.VideoCodecContext)
    still.width, still.height, still.pix_fmt = 160, 120, "rgb24"
    still.time_base = Fraction(1, 25)
    (packet,) = still.encode(av.VideoFrame.from_ndarray(flat(9), format="rgb24"))
    (folder / "still.mp4").write_bytes(bytes(packet))
    return folder


def test_all_videos_come_out_alike(source: Path, tmp_path: Path, probed: Probe) -> None:
    out = tmp_path / "out"
    counts = normalise(source, out, SMALL, RUN)
    assert counts == {"ok": 4, "unsupported": 3}
    expected = {
        # 0.6 s, 1 s, 1 s, 0.4 s: of 25 frames each
        "real/a.mov.mp4": (160, 90, 15),
        "real/a.avi.mp4": (160, 90, 25),
        "fake/b.mp4": (160, 120, 25),
        "c.mp4": (90, 160, 10),
    }
    assert set(files_of(out)) == set(expected)
    for name, (width, height, num_frames) in expected.items():
        found = probed(out / name)
        (stream,) = found["streams"]
        assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
        assert (stream["width"], stream["height"]) == (width, height)
        assert stream.get("sample_aspect_ratio", "1:1") == "1:1"
        assert (stream["r_frame_rate"], stream["avg_frame_rate"]) == ("25/1", "25/1")
        assert len(found["packets"]) == num_frames
        assert set(found["format"]["tags"]) == {
            "major_brand",
            "minor_version",
            "compatible_brands",
            "encoder",
        }
    rows = table_of(out)
    assert {path: row["out"] for path, row in rows.items() if row["status"] == "ok"} == {
        "real/a.mov": "real/a.mov.mp4",
        "real/a.avi": "real/a.avi.mp4",
        "fake/b.mkv": "fake/b.mp4",
        "c.mp4": "c.mp4",
    }
    refused = {path: row["reason"] for path, row in rows.items() if row["status"] != "ok"}
    assert set(refused) == {"notes.txt", "empty.mp4", "still.mp4"}
    assert all(refused.values())
    assert not left_behind(out)


def test_square_makes_every_width_and_height_the_same(
    source: Path, tmp_path: Path, probed: Probe
) -> None:
    out = tmp_path / "out"
    square = SMALL.model_copy(update={"square": True})
    normalise(source, out, square, RUN)
    sizes = {(s["width"], s["height"]) for n in files_of(out) for s in probed(out / n)["streams"]}
    assert sizes == {(160, 160)}
    (first, *_) = decoded(out / "c.mp4")
    # 90 of 160 columns, in the middle: black, picture, black.
    assert first[:, :30].max() < 20
    assert abs(int(np.median(first[:, 40:120])) - 80) <= 4
    assert first[:, 130:].max() < 20


def clips(num_frames: int) -> dict[str, Sequence[RGB]]:
    """Pictures that need next to no bits, and some that need all there are."""
    rng = np.random.default_rng(0)
    face = render_frames(
        identity_seed=1, clip_seed=2, kind="real", num_frames=num_frames, height=192
    )
    return {
        "black": [flat(0)] * num_frames,
        "noise": [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(num_frames)],
        "cuts": [flat(255 * (number // 7 % 2)) for number in range(num_frames)],
        "face": list(face),
    }


def test_bits_per_pixel_do_not_depend_on_content_or_quality(tmp_path: Path, probed: Probe) -> None:
    source, out = tmp_path / "videos", tmp_path / "out"
    source.mkdir()
    for name, frames in clips(100).items():
        for crf in (18, 35):
            write_h264(source / f"{name}_{crf}.mp4", frames, fps=25, crf=crf)
    before = {path.stem: bits_per_pixel(probed(path)) for path in source.iterdir()}
    assert before["face_18"] > 3 * before["face_35"]
    assert before["noise_18"] > 300 * before["black_18"]
    normalise(source, out, SMALL, RUN)
    after = {path.stem: bits_per_pixel(probed(path)) for path in out.glob("*.mp4")}
    assert set(after) == set(before)
    for name in clips(1):
        assert after[f"{name}_18"] == pytest.approx(after[f"{name}_35"], rel=0.03)
    assert after["face_18"] == pytest.approx(after["face_35"], rel=0.01)
    natural = [value for name, value in after.items() if not name.startswith("noise")]
    assert max(natural) < 1.03 * min(natural)
    # Half a second's bits, which is how far the rate may swing, are an eighth of such a clip.
    assert all(value == pytest.approx(0.1, rel=1 / 8) for value in after.values())
    # Key frames come by the clock, never by what is seen.
    packets = [probed(path)["packets"] for path in out.glob("*.mp4")]
    keys = {tuple(n for n, p in enumerate(some) if "K" in p["flags"]) for some in packets}
    assert keys == {(0, 50)}


@pytest.mark.parametrize("fps", [5, 24, 25, 30, 50])
def test_every_moment_shows_what_the_source_showed(tmp_path: Path, fps: int) -> None:
    steps = [flat(20 * number) for number in range(12)]  # one every 0.2 s
    frames = [steps[number * 5 // fps] for number in range(12 * fps // 5)]
    path = write_video(tmp_path / "steps.mp4", frames, fps=fps)
    result = reencode(path, tmp_path / "out.mp4", SMALL)
    shown = [int(np.median(picture)) for picture in decoded(tmp_path / "out.mp4")]
    assert result.num_frames == len(shown) == round(len(frames) / fps * 25)
    for place, brightness in enumerate(shown[:-1]):
        step = int((place + 0.5) / 25 * 5)
        # Where a source frame ends within half a frame of a step, it may be the one before.
        near = {20 * step, 20 * int(((place + 0.5) / 25 - 1 / fps) * 5)}
        assert min(abs(brightness - value) for value in near) <= 3


NAMES = st.sampled_from(["a", "a.mp4", "a.MP4", "a.mov", "a.mov.mp4", "a.avi", "b.mov", ".mov"])


@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12))
def test_target_names_are_distinct_and_mp4_stays(drawn: set[str]) -> None:
    folders = {str(folder) for path in drawn for folder in PurePosixPath(path).parents}
    paths = drawn - folders  # a file system has no file where it has a folder
    names = target_names(paths)
    assert set(names) == paths
    assert len(set(names.values())) == len(paths)
    assert names == target_names(sorted(paths, reverse=True))
    for path, name in names.items():
        assert name.endswith(".mp4")
        assert name not in folders
        assert PurePosixPath(name).parent == PurePosixPath(path).parent
        if path.endswith(".mp4"):
            assert name == path


def test_target_name_keeps_the_ending_only_where_two_would_meet() -> None:
    assert target_names(["x/a.mov", "y/a.mov", "y/a.mp4"]) == {
        "x/a.mov": "x/a.mp4",
        "y/a.mov": "y/a.mov.mp4",
        "y/a.mp4": "y/a.mp4",
    }


def test_second_run_does_nothing_and_a_changed_file_alone_is_done_again(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    counts = normalise(source, out, SMALL, RUN)
    before, table = files_of(out), (out / "normalised.csv").read_bytes()
    assert normalise(source, out, SMALL, RUN) == counts
    assert files_of(out) == before
    assert (out / "normalised.csv").read_bytes() == table

    write_video(source / "c.mp4", [flat(200)] * 5, fps=25)
    (out / "fake" / "b.mp4").unlink()
    normalise(source, out, SMALL, RUN)
    after = files_of(out)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {"c.mp4", "fake/b.mp4"}

    # What has become unreadable leaves nothing of what it was.
    (source / "c.mp4").write_text("no video any more")
    assert normalise(source, out, SMALL, RUN) == {"ok": 3, "unsupported": 4}
    assert set(files_of(out)) == set(before) - {"c.mp4"}

    other = normalise(source, out, NormaliseSettings(max_side=128), RUN)
    assert other == {"ok": 3, "unsupported": 4}
    assert not set(files_of(out).values()) & set(after.values())


def test_interrupted_run_goes_on_where_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tasks.preprocessing.normalise.write_csv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            normalise(source, out, SMALL, RUN)
    assert not (out / "normalised.csv").exists()
    before = files_of(out)
    with (out / "unfinished.jsonl").open("a") as file:
        file.write('\n{"path": "c.m')  # killed as it wrote
    (source / "late.mp4").write_bytes((source / "c.mp4").read_bytes())
    (out / ".late.mp4.12345678.tmp").touch()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.preprocessing.normalise.write_csv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            normalise(source, out, SMALL, RUN)
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert normalise(source, out, SMALL, RUN) == {"ok": 5, "unsupported": 3}
    assert files_of(out) == after
    assert len(table_of(out)) == 8
    assert not left_behind(out)


def test_same_bytes_from_every_run(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        normalise(source, tmp_path / name, SMALL, RunSettings(num_workers=2))
    for path in files_of(tmp_path / "one"):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_no_video_is_opened_in_this_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened here")

    monkeypatch.setattr(av, "open", opened)
    assert normalise(source, tmp_path / "out", SMALL, RUN) == {"ok": 4, "unsupported": 3}


def test_deadline_ends_one_video_and_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "videos", tmp_path / "out"
    write_video(source / "long.mp4", [flat(9)] * 3, fps=25)
    (tmp_path / "endless.py").write_text(ENDLESS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # the decode process imports it by name
    with monkeypatch.context() as during:
        endless = importlib.import_module("endless")
        during.setattr("tasks.preprocessing.normalise.reencode_one", endless.write_without_end)
        run = RunSettings(num_workers=1, timeout_seconds=1)
        assert normalise(source, out, SMALL, run) == {"timeout": 1}
    assert (tmp_path / "begun").exists()
    assert not files_of(out)
    assert not left_behind(out)
    # A failure is an answer, until it is asked for again.
    assert normalise(source, out, SMALL, RUN) == {"timeout": 1}
    assert normalise(source, out, SMALL, RUN, retry_failed=True) == {"ok": 1}
    assert table_of(out)["long.mp4"]["out"] == "long.mp4"


def test_memory_limit_ends_one_video_and_not_the_run(tmp_path: Path) -> None:
    source = tmp_path / "videos"
    write_video(source / "large.mp4", [flat(9, width=6000, height=4000)] * 3, fps=25)
    write_video(source / "small.mp4", [flat(9)] * 3, fps=25)
    run = RunSettings(num_workers=1, max_memory_bytes=2**28)
    counts = normalise(source, tmp_path / "out", SMALL, run)
    assert counts == {"ok": 1, "out_of_memory": 1}


def test_damaged_end_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(50)]
    path = write_video(tmp_path / "a.ts", frames, fps=25)
    content = bytearray(path.read_bytes())
    for place in range(len(content) * 2 // 3, len(content), 100):
        content[place] ^= 0xFF
    path.write_bytes(content)
    result = reencode(path, tmp_path / "b.mp4", SMALL)
    assert "frames could be decoded" in str(result.remark)
    assert len(decoded(tmp_path / "b.mp4")) == result.num_frames


def test_output_that_would_be_written_over_the_source_is_refused(
    source: Path, tmp_path: Path
) -> None:
    before = files_of(source)
    for out in (source, tmp_path):
        with pytest.raises(SourceError, match="another folder for the output"):
            normalise(source, out, SMALL, RUN)
    with pytest.raises(SourceError, match="is no folder"):
        normalise(source / "c.mp4", tmp_path / "out", SMALL, RUN)
    assert files_of(source) == before


def test_output_inside_the_source_is_no_input(source: Path) -> None:
    for _ in range(2):
        assert normalise(source, source / "out", SMALL, RUN) == {"ok": 4, "unsupported": 3}


def test_copy_keeps_its_path_though_its_name_is_odd(tmp_path: Path) -> None:
    source, out = tmp_path / "videos", tmp_path / "out"
    path = write_video(source / "a.mp4", [flat(9)] * 3, fps=25)
    for name in ("-dash.mp4", 'quote "\n, 视频.mp4'):
        shutil.copy(path, source / name)
    assert normalise(source, out, SMALL, RUN) == {"ok": 3}
    before = files_of(out)
    assert set(before) == {"a.mp4", "-dash.mp4", 'quote "\n, 视频.mp4'}
    assert normalise(source, out, SMALL, RUN) == {"ok": 3}
    assert files_of(out) == before
