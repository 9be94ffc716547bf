"""The contact sheet shows what the store and the video hold, and says what is missing."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import StoreError
from reelcheck.settings import settings_hash
from storage.atomic import write_text
from storage.crops import CropReader
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import read_rows, write_table
from tasks.faces.decoding.stills import Still
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.collect import collect_tables
from tasks.preprocessing.contact_sheet import Face, Line, Sheet, draw_sheet, escape_text
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.extract import extract_shard
from tasks.preprocessing.inspect import find_video, gather_sheet, write_contact_sheet

RUN = RunSettings(num_workers=1)
ACCIDENTS = """
import os
import signal

from reelcheck.errors import VideoError
from reelcheck.status import Status


def hang(*_, **__):
    signal.pause()


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGSEGV)


def eat(*_, **__):
    return bytearray(2**40)


def refuse(*_, **__):
    raise VideoError(Status.DECODE_ERROR, "damaged")
"""
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Store:
    layout: StoreLayout
    source: Path

    def row(self, name: str) -> dict[str, Any]:
        return find_video(read_rows(self.layout.videos_path, VIDEOS), name)


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    face_model: Path,
    face_video: Path,
    faceless_video: Path,
) -> Store:
    """A video with a face, its copy in a folder, one without a face, one that is none."""
    folder = tmp_path_factory.mktemp("inspected")
    source = folder / "videos"
    (source / "copies").mkdir(parents=True)
    for name in ("face.mp4", "copies/face.mp4"):
        (source / name).write_bytes(face_video.read_bytes())
    (source / "ramp \N{GREEK SMALL LETTER ALPHA}.mp4").write_bytes(faceless_video.read_bytes())
    (source / "text.mp4").write_text("not a video")
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    layout = locate_preprocessed(folder / "store", settings_hash(settings))
    write_text(layout.settings_path, settings.model_dump_json())
    files = discover(source, layout, labels=None, exclude=None)
    shards = plan_shards(files, layout, shard_size=64)
    with DecodePool(shards, settings, RUN) as pool:
        extract_shard(shards[0], layout, pool)
    collect_tables(files, layout)
    return Store(layout, source)


def texts(sheet: Sheet) -> list[str]:
    return [line.text for line in sheet.lines]


def holds(sheet: Picture, picture: Picture) -> bool:
    """Whether the picture is somewhere on the sheet, pixel by pixel."""
    difference = cv2.matchTemplate(sheet, picture, cv2.TM_SQDIFF)
    top, left = np.unravel_index(difference.argmin(), difference.shape)
    height, width = picture.shape[:2]
    return np.array_equal(sheet[top : top + height, left : left + width], picture)


def without_dots(sheet: Sheet) -> Sheet:
    tracks = tuple(tuple(replace(f, keypoints_xy=None) for f in track) for track in sheet.tracks)
    return replace(sheet, tracks=tracks)


def test_sheet_of_an_ok_video_holds_its_frames_its_crops_and_its_row(
    store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "new folder" / "sheet.png"
    write_contact_sheet(store.layout, "face.mp4", out, RUN)
    drawn = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    (sequence,) = read_rows(store.layout.manifest_path, MANIFEST)
    path = store.layout.crops_path(sequence["shard"], sequence["crop_file"])
    crops = CropReader(path).read(sequence["crop_row"], sequence_id=sequence["sequence_id"])
    sheet = gather_sheet(store.layout, "face.mp4", RUN)
    np.testing.assert_array_equal(drawn, draw_sheet(sheet))
    plain_drawn = draw_sheet(without_dots(sheet))
    for crop in (crops[0], crops[-1]):
        assert holds(plain_drawn, crop)
        assert not holds(np.asarray(drawn, np.uint8), crop)
    assert len(sheet.stills) == 12
    indices = [still.frame_index for still in sheet.stills]
    assert (indices[0], indices[-1]) == (0, 23)
    (track,) = sheet.tracks
    assert [face.frame_index for face in track] == sequence["frame_indices"]
    assert [list(face.keypoints_xy or ()) for face in track] == sequence["keypoints_xy"]
    assert sum(face.crop_HWC is not None for face in track) == 15
    assert track[0].crop_HWC is not None
    assert track[-1].crop_HWC is not None
    path_line, status, about, name = texts(sheet)
    assert path_line in {"face.mp4", "copies/face.mp4"}
    assert status == "ok"
    assert "0.92 s    256 x 192    h264 in mov    25 frames/s" in about
    assert "decoded 24 frames of 24 sampled, 24 in all    a face on 24" in about
    assert sequence["video_id"] in name


def test_sheet_of_a_video_without_a_face_shows_the_frames_that_were_looked_at(
    store: Store,
) -> None:
    sheet = gather_sheet(store.layout, "ramp \N{GREEK SMALL LETTER ALPHA}.mp4", RUN)
    assert len(sheet.stills) == 12
    assert sheet.tracks == ()
    assert "no_face: no face on any" in texts(sheet)[1]
    assert draw_sheet(sheet).shape[0] > 500


def test_sheet_of_what_is_no_video_says_status_and_reason(store: Store) -> None:
    sheet = gather_sheet(store.layout, "text.mp4", RUN)
    assert (sheet.stills, sheet.tracks) == ((), ())
    path, status, name = texts(sheet)
    assert (path, status) == ("text.mp4", "unsupported: not a video (no known video format)")
    assert "video" in name
    assert draw_sheet(sheet).shape[0] < 200


@pytest.mark.parametrize(
    ("change", "note"),
    [("gone", "the file is gone"), ("folder", "the file is gone"), ("other", "another content")],
)
def test_sheet_of_a_file_that_changed_has_crops_only_and_says_so(
    store: Store, tmp_path: Path, tiny: Any, change: str, note: str
) -> None:
    (clip,) = tiny.clips(1)[:1]
    layout = tiny.write_store(tmp_path, [clip])
    row = find_video(read_rows(layout.videos_path, VIDEOS), clip.path)
    assert not Path(row["root"]).exists()
    rows = [{**row, "root": str(tmp_path / "videos"), "num_frames_decoded": 4}]
    write_table(layout.videos_path, rows, VIDEOS)
    path = tmp_path / "videos" / clip.path
    path.parent.mkdir(parents=True)
    if change == "folder":
        path.mkdir()
    elif change == "other":
        path.write_bytes((store.source / "face.mp4").read_bytes())
    sheet = gather_sheet(layout, clip.path, RUN)
    assert sheet.stills == ()
    assert len(sheet.tracks) == 1
    assert any(note in text and text.endswith("crops only") for text in texts(sheet))
    assert draw_sheet(sheet).ndim == 3


@pytest.fixture
def accidents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What can befall the process that reads the frames; it imports them by name."""
    (tmp_path / "accidents.py").write_text(ACCIDENTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("accidents")


@pytest.mark.parametrize(
    ("accident", "reason"),
    [
        ("hang", "gave up after 1 seconds"),
        ("die", "the process that read it died"),
        ("eat", "not enough memory"),
        ("refuse", "damaged"),
    ],
)
def test_sheet_of_a_video_that_cannot_be_read_has_crops_only_and_says_so(
    store: Store,
    accidents: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    accident: str,
    reason: str,
) -> None:
    monkeypatch.setattr("tasks.preprocessing.inspect.read_stills_of", getattr(accidents, accident))
    run = RunSettings(timeout_seconds=1 if accident == "hang" else 600)
    sheet = gather_sheet(store.layout, "face.mp4", run)
    assert sheet.stills == ()
    assert len(sheet.tracks) == 1
    assert f"the frames cannot be read ({reason}): crops only" in texts(sheet)


def test_sheet_of_a_crowd_shows_some_and_counts_the_rest(tmp_path: Path, tiny: Any) -> None:
    (clip,) = tiny.clips(1, num_tracks=33)[:1]
    sheet = gather_sheet(tiny.write_store(tmp_path, [clip]), clip.path, RUN)
    assert len(sheet.tracks) == 30
    assert "3 more face tracks are not shown" in texts(sheet)


def test_video_is_found_by_path_name_and_id(store: Store) -> None:
    expected = store.row("text.mp4")
    video_id = expected["video_id"]
    for video in (video_id, video_id[:6], video_id[:20].upper(), str(store.source / "text.mp4")):
        assert store.row(video) == expected


def test_video_of_two_copies_is_the_one_whose_file_is_there(store: Store, tmp_path: Path) -> None:
    rows = [row for row in read_rows(store.layout.videos_path, VIDEOS) if "face" in row["path"]]
    assert len(rows) == 2
    for row in rows:
        gone = {**row, "root": str(tmp_path)}
        assert find_video([gone, row], row["video_id"]) == row
        assert find_video([row, gone], row["video_id"]) == row


@pytest.mark.parametrize("video", ["nothing.mp4", "", "fffff", "videos", "*"])
def test_video_that_is_not_there_is_a_store_error_that_helps(store: Store, video: str) -> None:
    with pytest.raises(StoreError, match=r"has no video .* give its path or name, its video_id"):
        store.row(video)


def made_up_rows(*ids_and_paths: tuple[str | None, str]) -> list[dict[str, Any]]:
    return [{"root": "/r", "path": path, "video_id": name} for name, path in ids_and_paths]


def test_video_that_can_mean_several_is_a_store_error_that_names_them() -> None:
    rows = made_up_rows(("abcdef01", "a/x.mp4"), ("abcdef02", "b/x.mp4"))
    for video in ("x.mp4", "abcdef"):
        with pytest.raises(StoreError, match=r"2 videos: a/x.mp4 \(abcdef01\), b/x.mp4 \(abc"):
            find_video(rows, video)
    assert find_video(rows, "a/x.mp4") is rows[0]


def test_video_without_an_id_is_found_by_its_path() -> None:
    rows = made_up_rows((None, "a.mp4"), (None, "b.mp4"))
    assert find_video(rows, "b.mp4") is rows[1]


def face(track_id: int, *, frame_index: int = 0, left: float = 10.0) -> Face:
    return Face(
        track_id=track_id,
        frame_index=frame_index,
        pts_seconds=0.0,
        xyxy=(left, 40.0, left + 40.0, 80.0),
        confidence=0.9,
        crop_HWC=None,
        keypoints_xy=None,
    )


def grey_still(width: int = 200, height: int = 100, *, scale: float = 1.0) -> Still:
    picture = np.full((height, width, 3), 90, np.uint8)
    return Still(frame_index=0, pts_seconds=0.0, scale=scale, rgb_HWC=picture)


def coloured(drawn: Picture) -> list[tuple[float, float]]:
    """Left and right edge, as parts of the sheet's width, of each colour that is no grey."""
    flat = drawn.reshape(-1, 3).astype(int)
    strong = flat[np.ptp(flat, axis=1) > 60]
    colours, counts = np.unique(strong, axis=0, return_counts=True)
    edges = []
    for colour in colours[np.argsort(-counts)][:2]:
        columns = np.flatnonzero((drawn == colour).all(axis=2).any(axis=0))
        edges.append((columns[0] / drawn.shape[1], columns[-1] / drawn.shape[1]))
    return sorted(edges)


def sheet_of(stills: Sequence[Still], faces: Sequence[Face]) -> Picture:
    tracks = tuple((one,) for one in faces)
    return draw_sheet(Sheet(lines=(), stills=tuple(stills), tracks=tracks))


def test_boxes_are_drawn_where_the_faces_are_in_one_colour_per_track() -> None:
    drawn = sheet_of([grey_still()], [face(0), face(1, left=120)])
    top = drawn[:230]  # the frame, without the tracks' own rows
    (first_left, first_right), (second_left, second_right) = coloured(top)
    assert first_left < first_right < second_left < second_right
    width = first_right - first_left
    assert second_right - second_left == pytest.approx(width, rel=0.1)
    # 110 of 200 pixels between the boxes, of 40 each.
    assert second_left - first_left == pytest.approx(width * 110 / 40, rel=0.1)


def test_boxes_fit_frames_that_were_made_smaller() -> None:
    whole = sheet_of([grey_still()], [face(0)])
    half = sheet_of([grey_still(100, 50, scale=0.5)], [face(0)])
    np.testing.assert_array_equal(whole[:200], half[:200])


@pytest.mark.parametrize("side", [56, 112, 224])
def test_dots_are_drawn_on_the_key_points_of_the_crop(side: int) -> None:
    points = (0.2, 0.3, 0.8, 0.3, 0.5, 0.55, 0.5, 0.8, 1.4, 0.5, -0.1, 0.5)  # two beyond the crop
    crop = np.random.default_rng(0).integers(0, 90, (side, side, 3), np.uint8)
    plain_face = replace(face(0), crop_HWC=crop)
    blank = sheet_of([], [plain_face])
    drawn = sheet_of([], [replace(plain_face, keypoints_xy=points)])
    changed = (drawn != blank).any(axis=2).astype(np.uint8)
    num_dots, _, boxes, middles = cv2.connectedComponentsWithStats(changed)
    assert num_dots == 1 + 4  # the first is the ground
    assert boxes[1:, cv2.CC_STAT_AREA].max() <= 30
    # The crop is drawn 112 pixels wide: distances between dots tell where they are in it.
    found = (middles[1:] - middles[1]) / 112
    expected = np.array(points[:8]).reshape(4, 2) - points[:2]
    np.testing.assert_allclose(found, expected, atol=1 / 112)
    # And their places on the sheet tell where all of them are.
    plain_crop = np.argwhere((blank != sheet_of([], [face(0)])).any(axis=2))
    top, left = plain_crop.min(axis=0)
    first = (middles[1] + 0.5 - (left, top)) / 112
    np.testing.assert_allclose(first, points[:2], atol=1 / 112)


def test_box_of_another_frame_is_not_drawn() -> None:
    drawn = sheet_of([grey_still()], [face(0, frame_index=1)])
    assert coloured(drawn[:200]) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 4000), (4000, 2), (640, 640), (90, 160)])
def test_frames_of_any_shape_can_be_drawn(size: tuple[int, int]) -> None:
    still = grey_still(*size)
    drawn = sheet_of([still] * 12, [face(0, left=-30), face(9, left=3990)])
    assert drawn.shape[1] == sheet_of([], []).shape[1]
    assert len(drawn) < 6000


def test_text_that_cannot_be_drawn_is_written_as_escapes() -> None:
    assert escape_text("näme\n视 a\\b") == r"n\xe4me\n\u89c6 a\b"
    assert escape_text("\udcff") == r"\udcff"


def test_line_too_long_for_the_sheet_is_shortened_in_the_middle() -> None:
    line = Line(text="x" * 20_000)
    drawn = draw_sheet(Sheet(lines=(line,), stills=(), tracks=()))
    inked = np.flatnonzero((drawn != drawn[0, 0]).any(axis=(0, 2)))
    assert inked[0] >= 24
    assert inked[-1] <= drawn.shape[1] - 24
