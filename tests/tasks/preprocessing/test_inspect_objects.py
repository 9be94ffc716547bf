"""The contact sheet of a video on object storage draws its frames, or says why it cannot."""

from pathlib import Path

import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.settings import settings_hash
from storage.atomic import write_text
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from storage.object_store.objects import ObjectFolder
from storage.schemas import VIDEOS
from storage.tables import read_rows
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.collect import collect_tables
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import extract_shard
from tasks.preprocessing.inspect import find_video, gather_sheet

RUN = RunSettings(num_workers=1)
NAME = "in/söme face.mp4"


@pytest.fixture
def layout(s3_bucket: str, face_video: Path, face_model: Path, tmp_path: Path) -> StoreLayout:
    """A store whose only video is an object of the bucket."""
    ObjectFolder(s3_bucket).put(NAME, face_video)
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    layout = locate_preprocessed(tmp_path / "store", settings_hash(settings))
    write_text(layout.settings_path, settings.model_dump_json())
    files = discover(s3_bucket, layout, labels=None, exclude=None)
    shards = plan_shards(files, layout, shard_size=64)
    with DecodePool(shards, settings, RUN) as pool:
        extract_shard(shards[0], layout, pool)
    collect_tables(files, layout)
    return layout


def notes_of(layout: StoreLayout) -> list[str]:
    sheet = gather_sheet(layout, NAME, RUN)
    assert sheet.stills == ()
    assert len(sheet.tracks) == 1
    return [line.text for line in sheet.lines if line.text.endswith("crops only")]


def test_sheet_of_an_object_holds_its_frames(layout: StoreLayout) -> None:
    sheet = gather_sheet(layout, NAME, RUN)
    assert len(sheet.stills) == 12
    assert len(sheet.tracks) == 1
    assert not any("crops only" in line.text for line in sheet.lines)


def test_sheet_of_an_object_that_changed_or_is_gone_says_so(
    layout: StoreLayout, s3_bucket: str
) -> None:
    ObjectFolder(s3_bucket).write(NAME, b"another")
    [note] = notes_of(layout)
    assert note.startswith("the file has another content now")
    assert note.endswith("crops only")
    ObjectFolder(s3_bucket).remove([NAME])
    [note] = notes_of(layout)
    assert "cannot be fetched" in note


def test_object_is_found_by_its_address(layout: StoreLayout, s3_bucket: str) -> None:
    [row] = read_rows(layout.videos_path, VIDEOS)
    assert find_video([row], f"{s3_bucket}/{NAME}") is row
