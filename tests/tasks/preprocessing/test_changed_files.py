"""What is decoded is what was hashed: a file that changes in between gives no result under its id.

The change is made at a known moment, by the function that hashes or by the decode process itself.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from reelcheck.config import NormaliseSettings, PreprocessSettings, RunSettings
from reelcheck.errors import VideoError
from reelcheck.reading import ReadLimits
from reelcheck.records import InputFile, VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from tasks.faces.worker import reencode_one
from tasks.intake.contents import hash_contents
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import extract_shard

RUN = RunSettings(num_workers=1)
CHANGED = "changed while it was read; run again"
# Imported by the decode process; changes the file when it is open and its content is proved.
LATE_CHANGE = """
from pathlib import Path

from tasks.faces import worker
from tasks.faces.worker import _extract

def change_and_extract(path, *arguments, **options):
    plan = Path(__file__).with_name("plan").read_text().splitlines()
    kind, target, other = plan
    if kind == "exchange":
        Path(other).replace(target)
    else:
        with Path(target).open("r+b") as file:
            file.write(Path(other).read_bytes())
    return _extract(path, *arguments, **options)


def work(*arguments, **options):
    worker._extract = change_and_extract
    return worker.extract_one(*arguments, **options)
"""


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "h")


@pytest.fixture
def videos(tmp_path: Path, face_video: Path) -> Path:
    """A folder with one video, which shows a face."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "target.mp4").write_bytes(face_video.read_bytes())
    return folder


@pytest.fixture
def other(tmp_path: Path, face_video: Path, faceless_video: Path) -> Path:
    """Another video of the same size, which shows none."""
    content, size = faceless_video.read_bytes(), face_video.stat().st_size
    missing = size - len(content)
    assert missing >= 8
    path = tmp_path / "other.mp4"
    path.write_bytes(content + missing.to_bytes(4) + b"free" + bytes(missing - 8))
    return path


def exchange(target: Path, other: Path) -> None:
    other.replace(target)


def overwrite(target: Path, other: Path) -> None:
    """Write into the same file, and set its time back."""
    info = target.stat()
    with target.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def link(target: Path, other: Path) -> None:
    target.unlink()
    target.hardlink_to(other)


def find(source: Path, layout: StoreLayout) -> list[InputFile]:
    return discover(source, layout, labels=None, exclude=None)


def extract(
    files: Sequence[InputFile], layout: StoreLayout, face_model: Path
) -> dict[str, VideoResult]:
    """Extract what is missing, as ``preprocess`` does."""
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    shards = plan_shards(files, layout, shard_size=8)
    results: dict[str, VideoResult] = {}
    with DecodePool(shards, settings, RUN) as pool:
        for shard in shards:
            extract_shard(
                shard,
                layout,
                pool,
                on_video=lambda result: results.update({result.video_id: result}),
            )
    return results


@pytest.mark.parametrize("change", [exchange, overwrite, link])
def test_file_that_changed_after_it_was_hashed_has_no_result_and_is_tried_again(
    videos: Path,
    other: Path,
    layout: StoreLayout,
    face_model: Path,
    change: Callable[[Path, Path], None],
) -> None:
    def hash_and_change(files: Sequence[InputFile]) -> list[InputFile]:
        named = hash_contents(files, RUN)
        change(videos / "target.mp4", other)
        return named

    files = discover(videos, layout, labels=None, exclude=None, hash_files=hash_and_change)
    old_id, new_id = files[0].video_id or "", None
    [result] = extract(files, layout, face_model).values()
    assert (result.video_id, result.status, result.reason) == (old_id, Status.UNREADABLE, CHANGED)
    assert result.sequences == ()
    [again] = find(videos, layout)
    new_id = again.video_id or ""
    assert new_id != old_id
    assert extract([again], layout, face_model)[new_id].status is Status.NO_FACE
    # An honest copy of the first content is looked at by itself.
    [known] = extract([replace(files[0], path="x.mp4")], layout, face_model).values()
    assert known.status is Status.UNREADABLE


@pytest.mark.parametrize("kind", ["exchange", "overwrite"])
def test_file_that_changes_while_it_is_decoded_has_no_result(
    tmp_path: Path,
    videos: Path,
    other: Path,
    layout: StoreLayout,
    face_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    (tmp_path / "late_change.py").write_text(LATE_CHANGE, encoding="utf-8")
    (tmp_path / "plan").write_text(f"{kind}\n{videos / 'target.mp4'}\n{other}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "late_change", raising=False)
    module = importlib.import_module("late_change")
    monkeypatch.setattr("tasks.preprocessing.decode_pool.extract_one", module.work)
    [result] = extract(find(videos, layout), layout, face_model).values()
    assert (result.status, result.reason, result.sequences) == (Status.UNREADABLE, CHANGED, ())


def test_video_of_another_content_is_not_normalised(
    videos: Path, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "a.mp4"
    limits = ReadLimits(max_bytes=10**9, max_seconds=60)
    write = partial(reencode_one, videos / "target.mp4")
    with pytest.raises(VideoError, match=CHANGED):
        write(sha256_of(other), target, NormaliseSettings(), limits)
    assert not target.exists()
    write(sha256_of(videos / "target.mp4"), target, NormaliseSettings(), limits)
    assert target.exists()
