"""One shard on disk: its crops, its rows, and what a second attempt leaves."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import FaceModelError, ReelcheckError
from reelcheck.records import InputFile, Shard, VideoResult
from storage.crops import CropReader
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import SEQUENCES, VIDEO_RESULTS
from storage.tables import read_rows
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import extract_shard
from tasks.preprocessing.summary import WorkDone


@pytest.fixture
def settings(face_model: Path) -> PreprocessSettings:
    return PreprocessSettings(face_model_sha256=sha256_of(face_model))


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "h")


def shard_of(source: Path, layout: StoreLayout) -> Shard:
    files: list[InputFile] = discover(source, layout, labels=None, exclude=None)
    (shard,) = plan_shards(files, layout, shard_size=64)
    return shard


def extract(
    shard: Shard, layout: StoreLayout, settings: PreprocessSettings, run: RunSettings
) -> WorkDone:
    with DecodePool([shard], settings, run) as pool:
        work: WorkDone = extract_shard(shard, layout, pool, compress=run.compress_crops)
    return work


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
    seen: list[VideoResult] = []
    with DecodePool([shard], settings, RunSettings(num_workers=2)) as pool:
        done = extract_shard(shard, layout, pool, on_video=seen.append)
    rows = read_rows(layout.shard_videos_path(shard.name), VIDEO_RESULTS)
    assert [row["video_id"] for row in rows] == sorted(shard.video_ids)
    statuses = {Path(p).name: i for p, i in zip(shard.locations, shard.video_ids, strict=True)}
    by_id = {row["video_id"]: row for row in rows}
    assert {name: by_id[video_id]["status"] for name, video_id in statuses.items()} == {
        "a.mp4": "ok",
        "b.mp4": "ok",
        "faceless.mp4": "no_face",
        "bad.mp4": "decode_error",
    }
    assert [result.video_id for result in seen] == [row["video_id"] for row in rows]
    assert done.num_videos == 4
    assert done.num_frames == sum(row["num_frames_decoded"] or 0 for row in rows) > 3 * 10
    assert {"demux", "decode", "detect", "crop", "write"} <= set(done.cpu_seconds)
    assert min(done.cpu_seconds.values()) > 0
    reader = CropReader(layout.crops_path(shard.name, 0))
    sequences = read_rows(layout.shard_sequences_path(shard.name), SEQUENCES)
    assert [row["crop_row"] for row in sequences] == list(range(len(reader))) == [0, 1]
    pictures = [reader.read(row["crop_row"], sequence_id=row["sequence_id"]) for row in sequences]
    np.testing.assert_array_equal(pictures[0], pictures[1])  # the same face, twice
    for row in sequences:
        assert reader.read(row["crop_row"], sequence_id=row["sequence_id"]).shape == (
            row["num_frames"],
            112,
            112,
            3,
        )
        assert row["sequence_id"] == f"{row['video_id'][:16]}-00-00"
        assert (row["shard"], row["crop_file"]) == (shard.name, 0)
        assert len(row["sharpness"]) == len(row["brightness"]) == row["num_frames"]
        assert np.array(row["keypoints_xy"]).shape == (row["num_frames"], 12)
        sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in row["boxes_xyxy"]]
        assert min(sides) <= row["face_pixels"] <= max(sides)
    assert {row["video_id"] for row in sequences} == {statuses["a.mp4"], statuses["b.mp4"]}
    assert layout.done_shards() == [shard.name]


@pytest.mark.parametrize("compress", [False, True])
def test_extract_shard_again_gives_the_same_bytes_and_removes_what_was_left_over(
    tmp_path: Path,
    layout: StoreLayout,
    settings: PreprocessSettings,
    face_video: Path,
    compress: bool,
) -> None:
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4", "b.mp4"]), layout)
    run = RunSettings(num_workers=2, compress_crops=compress)
    extract(shard, layout, settings, run)
    before = {path.name: path.read_bytes() for path in layout.shards_dir.iterdir()}
    assert len(before) == 3
    layout.crops_path(shard.name, 1).write_bytes(b"of an attempt that saw more faces")
    extract(shard, layout, settings, run)
    assert {path.name: path.read_bytes() for path in layout.shards_dir.iterdir()} == before


def test_extract_shard_that_begins_anew_is_not_done_meanwhile(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    run = RunSettings(num_workers=1)
    extract(shard, layout, settings, run)

    def stop(result: VideoResult) -> None:
        assert layout.done_shards() == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), DecodePool([shard], settings, run) as pool:
        extract_shard(shard, layout, pool, on_video=stop)
    assert layout.done_shards() == []


def test_extract_shard_detector_that_cannot_start_is_no_fault_of_the_videos(
    tmp_path: Path, layout: StoreLayout, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"not a model")
    monkeypatch.setenv("REELCHECK_FACE_MODEL", str(model))
    settings = PreprocessSettings(face_model_sha256=sha256_of(model))
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    with pytest.raises(FaceModelError, match=r"model\.tflite cannot be started"):
        extract(shard, layout, settings, RunSettings(num_workers=1))
    assert layout.done_shards() == []


def test_extract_shard_too_little_memory_to_start_is_no_fault_of_the_videos(
    tmp_path: Path,
    layout: StoreLayout,
    settings: PreprocessSettings,
    face_video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With one thread there, as in the other tests, it might just do.
    monkeypatch.delenv("OMP_NUM_THREADS")
    shard = shard_of(fill(tmp_path / "videos", face_video, ["a.mp4"]), layout)
    run = RunSettings(num_workers=1, max_memory_bytes=2**28)  # MediaPipe alone needs more
    with pytest.raises(ReelcheckError):
        extract(shard, layout, settings, run)
    assert layout.done_shards() == []
