"""Still pictures beside videos in one store: rows, crops, contact sheets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.records import RGB
from reelcheck.settings import settings_hash
from storage.atomic import write_text
from storage.crops import CropReader
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import Row, read_rows
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.collect import collect_tables
from tasks.preprocessing.contact_sheet import Sheet, draw_sheet
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import extract_shard
from tasks.preprocessing.inspect import gather_sheet
from tasks.synthetic.clip import render_frames

RUN = RunSettings(num_workers=1)


@pytest.fixture(scope="module")
def face() -> RGB:
    frames = render_frames(identity_seed=6, clip_seed=2, kind="real", num_frames=1, height=192)
    return next(iter(frames))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, face: RGB, face_video: Path) -> Path:
    """A tree with given parts: pictures, one of them on its side and twice, and a video."""
    folder = tmp_path_factory.mktemp("pictures") / "data"
    for part in ("train/Real", "test/Fake"):
        (folder / part).mkdir(parents=True)
    tags = Image.Exif()
    tags[0x0112] = 6
    on_its_side = Image.fromarray(np.ascontiguousarray(np.rot90(face)))
    on_its_side.save(folder / "train/Real/turned.jpg", exif=tags, quality=95)
    content = (folder / "train/Real/turned.jpg").read_bytes()
    (folder / "train/Real/copy.png").write_bytes(content)
    Image.fromarray(np.hstack([face, face])).save(folder / "test/Fake/two.png")
    (folder / "test/Fake/cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "test/Fake/clip.mp4").write_bytes(face_video.read_bytes())
    return folder


def preprocess(source: Path, store: Path, settings: PreprocessSettings) -> StoreLayout:
    layout = locate_preprocessed(store, settings_hash(settings))
    write_text(layout.settings_path, settings.model_dump_json())
    files = discover(source, layout, labels=None, exclude=None)
    shards = plan_shards(files, layout, shard_size=64)
    with DecodePool(shards, settings, RUN) as pool:
        for shard in shards:
            extract_shard(shard, layout, pool)
    collect_tables(files, layout)
    return layout


@pytest.fixture(scope="module", params=["face", "whole"])
def layout(
    request: pytest.FixtureRequest,
    source: Path,
    tmp_path_factory: pytest.TempPathFactory,
    face_model: Path,
) -> StoreLayout:
    settings = PreprocessSettings(
        face_model_sha256=sha256_of(face_model), min_sequence_frames=1, still_crop=request.param
    )
    return preprocess(source, tmp_path_factory.mktemp("store"), settings)


def by_path(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["path"]: row for row in rows}


def texts(sheet: Sheet) -> list[str]:
    return [line.text for line in sheet.lines]


def test_pictures_are_rows_beside_videos(layout: StoreLayout) -> None:
    rows = by_path(read_rows(layout.videos_path, VIDEOS))
    assert {path: (row["status"], row["label"], row["split"]) for path, row in rows.items()} == {
        "train/Real/turned.jpg": ("ok", 0, "train"),
        "train/Real/copy.png": ("ok", 0, "train"),
        "test/Fake/two.png": ("ok", 1, "test"),
        "test/Fake/cut.jpg": ("decode_error", 1, "test"),
        "test/Fake/clip.mp4": ("ok", 1, "test"),
    }
    picture, video = rows["train/Real/turned.jpg"], rows["test/Fake/clip.mp4"]
    assert (picture["container"], picture["codec"]) == ("image", "jpeg")
    assert (picture["width"], picture["height"], picture["num_frames"]) == (256, 192, 1)
    assert (picture["average_fps"], picture["duration_seconds"]) == (None, None)
    assert video["codec"] == "h264"


def test_pictures_give_sequences_of_one_frame(layout: StoreLayout) -> None:
    rows = read_rows(layout.manifest_path, MANIFEST)
    is_whole = (
        PreprocessSettings.model_validate_json(layout.settings_path.read_bytes()).still_crop
        == "whole"
    )
    numbers = {row["path"]: [] for row in rows}
    for row in rows:
        numbers[row["path"]].append(row["num_frames"])
    first_copy = min("train/Real/copy.png", "train/Real/turned.jpg")
    assert numbers == {
        first_copy: [1],
        "test/Fake/two.png": [1] if is_whole else [1, 1],
        "test/Fake/clip.mp4": [24],
    }


@pytest.mark.parametrize("name", ["turned.jpg", "two.png"])
def test_sheet_of_a_picture_shows_it_upright(layout: StoreLayout, name: str, face: RGB) -> None:
    sheet = gather_sheet(layout, name, RUN)
    (still,) = sheet.stills
    wanted = face if name == "turned.jpg" else np.hstack([face, face])
    assert still.rgb_HWC.shape == wanted.shape
    assert np.abs(still.rgb_HWC.astype(int) - wanted).mean() < 5
    rows = [row for row in read_rows(layout.manifest_path, MANIFEST) if row["track_id"] == 0]
    crops = [
        CropReader(layout.crops_path(row["shard"], row["crop_file"])).read(
            row["crop_row"], sequence_id=row["sequence_id"]
        )[0]
        for row in rows
    ]
    (shown,) = sheet.tracks[0]
    assert any(np.array_equal(shown.crop_HWC, crop) for crop in crops)
    assert texts(sheet)[1] == "ok"
    assert "decoded 1 frames of 1 sampled" in texts(sheet)[2]
    assert draw_sheet(sheet).shape[0] > 200


def test_sheet_of_a_picture_that_is_cut_says_so(layout: StoreLayout) -> None:
    sheet = gather_sheet(layout, "cut.jpg", RUN)
    assert (sheet.stills, sheet.tracks) == ((), ())
    assert "decode_error: damaged or incomplete picture (jpeg)" in texts(sheet)[1]


def test_sheet_of_a_picture_where_more_frames_are_needed_shows_it(
    source: Path, tmp_path: Path, face_model: Path
) -> None:
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    layout = preprocess(source / "train", tmp_path, settings)
    sheet = gather_sheet(layout, "turned.jpg", RUN)
    assert len(sheet.stills) == 1
    assert sheet.tracks == ()
    expected = f"one picture; {settings.min_sequence_frames} frames of a face are needed"
    assert texts(sheet)[1] == f"too_few_frames: {expected}"
