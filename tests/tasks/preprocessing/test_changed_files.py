"""What is decoded is what was hashed: a file that changes in between gives no result under its id.

The change is made at a known moment, by the function that hashes or by the decode process itself.
"""

import importlib
import os
import sys
from collections.abc import Sequence
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

def work(location, *arguments, **options):
    target = Path(location)
    other = target.parents[1] / "others" / target.name

    def change_and_extract(path, *arguments, **options):
        if target.stem == "exchange":
            other.replace(target)
        else:
            with target.open("r+b") as file:
                file.write(other.read_bytes())
        return _extract(path, *arguments, **options)

    worker._extract = change_and_extract
    return worker.extract_one(location, *arguments, **options)
"""


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "h")


@pytest.fixture
def videos(tmp_path: Path, face_video: Path, faceless_video: Path) -> Path:
    """A folder with a video for each change, which shows a face.

    The folder ``others`` beside it holds a video of the same name and size that shows none.
    """
    for number, name in enumerate(CHANGES):
        showing = face_video.read_bytes() + b"\0\0\0\x0cfree" + number.to_bytes(4)
        empty = faceless_video.read_bytes()
        missing = len(showing) - len(empty)
        assert missing >= 12
        fill = missing.to_bytes(4) + b"free" + number.to_bytes(4) + bytes(missing - 12)
        for folder, content in {"videos": showing, "others": empty + fill}.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.mp4").write_bytes(content)
    return tmp_path / "videos"


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


CHANGES = {"exchange": exchange, "overwrite": overwrite, "link": link}


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


def test_file_that_changed_after_it_was_hashed_has_no_result_and_is_tried_again(
    videos: Path, layout: StoreLayout, face_model: Path
) -> None:
    def hash_and_change(files: Sequence[InputFile]) -> list[InputFile]:
        named = hash_contents(files, RUN)
        for name, change in CHANGES.items():
            change(videos / f"{name}.mp4", videos.with_name("others") / f"{name}.mp4")
        return named

    files = discover(videos, layout, labels=None, exclude=None, hash_files=hash_and_change)
    results = extract(files, layout, face_model)
    assert results.keys() == {file.video_id for file in files}
    assert {(r.status, r.reason, r.sequences) for r in results.values()} == {
        (Status.UNREADABLE, CHANGED, ())
    }
    again = find(videos, layout)
    assert {file.video_id for file in again}.isdisjoint(results)
    assert {r.status for r in extract(again, layout, face_model).values()} == {Status.NO_FACE}
    # Nor is it an answer for an honest copy of the first content.
    [shard] = plan_shards(files, layout, shard_size=8)
    assert set(shard.video_ids) == results.keys()


def test_file_that_changes_while_it_is_decoded_has_no_result(
    tmp_path: Path,
    videos: Path,
    layout: StoreLayout,
    face_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (videos / "link.mp4").unlink()
    (tmp_path / "late_change.py").write_text(LATE_CHANGE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "late_change", raising=False)
    module = importlib.import_module("late_change")
    monkeypatch.setattr("tasks.preprocessing.decode_pool.extract_one", module.work)
    results = extract(find(videos, layout), layout, face_model)
    assert len(results) == 2
    assert {(r.status, r.reason, r.sequences) for r in results.values()} == {
        (Status.UNREADABLE, CHANGED, ())
    }


def test_video_of_another_content_is_not_normalised(videos: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.mp4"
    limits = ReadLimits(max_bytes=10**9, max_seconds=60)
    path = videos / "link.mp4"
    write = partial(reencode_one, path)
    with pytest.raises(VideoError, match=CHANGED):
        write(sha256_of(videos / "exchange.mp4"), target, NormaliseSettings(), limits)
    assert not target.exists()
    write(sha256_of(path), target, NormaliseSettings(), limits)
    assert target.exists()
