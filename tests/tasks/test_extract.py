"""Extraction in real processes: one row per video, whatever happens to the process."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import FaceModelError, ReelcheckError
from reelcheck.records import InputFile, Shard, VideoResult
from reelcheck.status import Status
from storage.crops import CropReader
from storage.layout import StoreLayout, preprocessed
from storage.schemas import SEQUENCES, VIDEO_RESULTS
from storage.tables import read_rows
from tasks.discover import discover, plan_shards
from tasks.extract import extract_shard, extract_videos
from tasks.faces.weights import sha256_of

# Stands in for the work on one video; imported by the decode processes, too.
ODD_WORK = """
import os
import signal
from pathlib import Path

from reelcheck.errors import FaceModelError, ReelcheckError
from reelcheck.records import VideoResult
from reelcheck.status import Status
from tasks.faces.worker import extract_one


def work(path: Path, video_id: str) -> VideoResult:
    if path.stem == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.stem == "hungry":
        block = bytearray(2**40)
    if path.stem == "defect":
        raise ZeroDivisionError("no such luck")
    if path.stem.startswith("hangs"):
        path.with_suffix(".busy").touch()
        path.with_suffix(".busy").rename(path.with_suffix(f".{os.getpid()}"))
        signal.pause()
    return extract_one(path, video_id)
"""
PARENT = """
import sys
from pathlib import Path

import odd_work
import tasks.extract
from reelcheck.config import PreprocessSettings, RunSettings
from tasks.discover import discover, plan_shards
from storage.layout import preprocessed

if __name__ == "__main__":
    tasks.extract.extract_one = odd_work.work
    source, store, sha256 = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    layout = preprocessed(store, "h")
    files = discover.fn(source, layout, labels=None, exclude=None)
    (shard,) = plan_shards(files, layout, shard_size=64)
    settings = PreprocessSettings(face_model_sha256=sha256)
    list(tasks.extract.extract_videos(shard, settings, RunSettings(num_workers=2)))
"""


@pytest.fixture
def settings(face_model: Path) -> PreprocessSettings:
    return PreprocessSettings(face_model_sha256=sha256_of(face_model))


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return preprocessed(tmp_path / "store", "h")


def shard_of(source: Path, layout: StoreLayout) -> Shard:
    files: list[InputFile] = discover.fn(source, layout, labels=None, exclude=None)
    (shard,) = plan_shards(files, layout, shard_size=64)
    return shard


def fill(folder: Path, face_video: Path, names: Sequence[str]) -> Path:
    """Copies that differ in content but not in pictures: bytes after the end are no matter."""
    folder.mkdir()
    for name in names:
        content = face_video.read_bytes()
        free = (8 + len(name.encode())).to_bytes(4) + b"free" + name.encode()
        (folder / name).write_bytes(content + free)
    return folder


def test_extract_shard_bad_and_good_videos_all_get_their_row(
    tmp_path: Path,
    layout: StoreLayout,
    settings: PreprocessSettings,
    face_video: Path,
    faceless_video: Path,
) -> None:
    source = fill(tmp_path / "videos", face_video, ["a.mp4", "b.mp4"])
    shutil.copy(faceless_video, source / "faceless.mp4")
    (source / "bad.mp4").write_bytes(face_video.read_bytes()[:500])
    shard = shard_of(source, layout)
    assert extract_shard.fn(shard, layout, settings, RunSettings(num_workers=2)) == 2
    rows = read_rows(layout.shard_videos_path(shard.name), VIDEO_RESULTS)
    assert [row["video_id"] for row in rows] == sorted(shard.video_ids)
    statuses = {Path(p).name: i for p, i in zip(shard.paths, shard.video_ids, strict=True)}
    by_id = {row["video_id"]: row for row in rows}
    assert {name: by_id[video_id]["status"] for name, video_id in statuses.items()} == {
        "a.mp4": "ok",
        "b.mp4": "ok",
        "faceless.mp4": "no_face",
        "bad.mp4": "decode_error",
    }
    reader = CropReader(layout.crops_path(shard.name))
    sequences = read_rows(layout.shard_sequences_path(shard.name), SEQUENCES)
    assert [row["row"] for row in sequences] == list(range(len(reader))) == [0, 1]
    pictures = [reader.read(row["row"]) for row in sequences]
    np.testing.assert_array_equal(pictures[0], pictures[1])  # the same face, twice
    for row in sequences:
        assert reader.read(row["row"]).shape == (row["num_frames"], 112, 112, 3)
        assert row["sequence_id"] == f"{row['video_id'][:16]}-00-00"
        assert row["shard"] == shard.name
        sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in row["boxes_xyxy"]]
        assert min(sides) <= row["face_pixels"] <= max(sides)
    assert {row["video_id"] for row in sequences} == {statuses["a.mp4"], statuses["b.mp4"]}
    assert layout.done_shards() == [shard.name]


@pytest.fixture
def odd_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the decode processes meet with accidents; they import the module by its name."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "odd_work.py").write_text(ODD_WORK, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return folder


def test_extract_videos_accident_of_one_process_is_one_row(
    tmp_path: Path,
    layout: StoreLayout,
    settings: PreprocessSettings,
    face_video: Path,
    odd_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("odd_work")
    assert Path(str(module.__file__)).parent == odd_work
    monkeypatch.setattr("tasks.extract.extract_one", module.work)
    names = ["dies.mp4", "hungry.mp4", "defect.mp4", "fine.mp4"]
    shard = shard_of(fill(tmp_path / "videos", face_video, names), layout)
    results: list[VideoResult] = list(extract_videos(shard, settings, RunSettings(num_workers=2)))
    assert [result.video_id for result in results] == list(shard.video_ids)
    by_name = {Path(p).name: r for p, r in zip(shard.paths, results, strict=True)}
    assert {name: result.status for name, result in by_name.items()} == {
        "dies.mp4": Status.DECODE_ERROR,
        "hungry.mp4": Status.OUT_OF_MEMORY,
        "defect.mp4": Status.INTERNAL_ERROR,
        "fine.mp4": Status.OK,
    }
    assert "-11" in (by_name["dies.mp4"].reason or "")
    assert by_name["defect.mp4"].reason == "ZeroDivisionError: no such luck"
    for name, result in by_name.items():
        assert (result.status is Status.OK) == (result.reason is None) == (name == "fine.mp4")


def test_extract_videos_past_the_deadline_is_a_timeout(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    run = RunSettings(num_workers=1, timeout_seconds=0.01)
    (result,) = extract_videos(shard, settings, run)
    assert (result.status, result.sequences) == (Status.TIMEOUT, ())
    assert result.reason == "gave up after 0.01 seconds"


def test_extract_videos_detector_that_cannot_start_is_no_fault_of_the_videos(
    tmp_path: Path, layout: StoreLayout, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"not a model")
    monkeypatch.setenv("REELCHECK_FACE_MODEL", str(model))
    settings = PreprocessSettings(face_model_sha256=sha256_of(model))
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    with pytest.raises(FaceModelError, match=r"model\.tflite cannot be started"):
        extract_shard.fn(shard, layout, settings, RunSettings(num_workers=1))
    assert layout.done_shards() == []


def test_extract_videos_too_little_memory_to_start_is_no_fault_of_the_videos(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    run = RunSettings(num_workers=1, max_memory_bytes=2**28)  # MediaPipe alone needs more
    with pytest.raises(ReelcheckError):
        extract_shard.fn(shard, layout, settings, run)
    assert layout.done_shards() == []


def running() -> set[int]:
    """Number of every process that is not a zombie, from /proc."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended meanwhile
        if state != "Z":
            found.add(int(folder.name))
    return found


def poll(wanted: Callable[[], bool], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_extract_videos_decode_processes_die_with_their_parent(
    tmp_path: Path, settings: PreprocessSettings, face_video: Path, odd_work: Path
) -> None:
    (odd_work / "parent.py").write_text(textwrap.dedent(PARENT), encoding="utf-8")
    # Two videos that never end: idle processes would end by themselves when the pipe closes.
    source = fill(tmp_path / "videos", face_video, ["hangs1.mp4", "hangs2.mp4"])
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, odd_work / "parent.py", source, tmp_path / "store"]
    parent = subprocess.Popen(
        [*map(str, command), settings.face_model_sha256],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{odd_work}"},
        stderr=subprocess.DEVNULL,
    )

    def busy() -> set[int]:
        names = [path.suffix[1:] for path in source.iterdir()]
        return {int(name) for name in names if name.isdecimal()}

    try:
        assert poll(lambda: len(busy()) == 2, seconds=60)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert poll(lambda: not busy() & running(), seconds=20)
