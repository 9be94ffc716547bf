"""One still picture to crop sequences, with the real detector on rendered faces."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.records import RGB, Keypoints, VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from tasks.faces.detection.crop import crop_face, measure_quality
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.image import MAX_SEARCH_PIXELS, extract_image, squeeze
from tasks.intake.shards import make_shards
from tasks.preprocessing.decode_pool import DecodePool
from tasks.synthetic.clip import render_frames

VIDEO_ID = "0123456789abcdef" * 4
Extract = Callable[..., VideoResult]
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def extract(face_model: Path) -> Iterator[Extract]:
    with FaceDetector(face_model, min_confidence=0.5) as detector:

        def run(path: Path, **changes: object) -> VideoResult:
            chosen = PreprocessSettings.model_validate({"min_sequence_frames": 1} | changes)
            return extract_image(path, VIDEO_ID, chosen, detector)

        yield run


@pytest.fixture(scope="module")
def face() -> RGB:
    frames = render_frames(identity_seed=6, clip_seed=2, kind="real", num_frames=1, height=192)
    return next(iter(frames))


def saved(path: Path, rgb: RGB, **options: object) -> Path:
    Image.fromarray(np.ascontiguousarray(rgb)).save(path, **options)
    return path


def box_of(result: VideoResult) -> tuple[float, float, float, float]:
    (sequence,) = result.sequences
    return sequence.boxes_xyxy[0]


def points_of(result: VideoResult) -> Keypoints:
    """Key points of the only crop, as fractions of its side."""
    (sequence,) = result.sequences
    ((*numbers,),) = sequence.keypoints_xy
    return Keypoints(*zip(numbers[::2], numbers[1::2], strict=True))


def test_extract_gives_one_sequence_of_one_frame(
    tmp_path: Path, face: RGB, extract: Extract
) -> None:
    result = extract(saved(tmp_path / "face.png", face))
    assert (result.status, result.reason) == (Status.OK, None)
    assert (result.container, result.codec, result.decoder) == ("image", "png", "pillow")
    assert (result.width, result.height) == (256, 192)
    assert (result.average_fps, result.duration_seconds) == (None, None)
    assert result.num_frames == result.num_frames_sampled == result.num_frames_decoded == 1
    assert (result.num_frames_with_face, result.num_faces, result.head_rotation) == (1, 1, 0)
    (sequence,) = result.sequences
    assert sequence.sequence_id == "0123456789abcdef-00-00"
    assert (sequence.pts_seconds, sequence.frame_indices) == ((0.0,), (0,))
    assert sequence.crops_THWC.shape == (1, 112, 112, 3)
    expected = crop_face(face, sequence.boxes_xyxy[0], margin=1.3, crop_pixels=112)
    np.testing.assert_array_equal(sequence.crops_THWC[0], expected)
    assert (sequence.sharpness[0], sequence.brightness[0]) == measure_quality(expected)
    points = points_of(result)
    assert 0 < points.right_eye[0] < points.nose_tip[0] < points.left_eye[0] < 1
    assert 0 < points.right_eye[1] < points.nose_tip[1] < points.mouth_centre[1] < 1


def test_extract_formats_agree(tmp_path: Path, face: RGB, extract: Extract) -> None:
    names = {"a.png": {}, "a.jpg": {"quality": 95}, "a.webp": {"quality": 95}}
    png, *others = (extract(saved(tmp_path / n, face, **options)) for n, options in names.items())
    for other in others:
        assert box_of(other) == pytest.approx(box_of(png), abs=0.05 * 192)
        crops = [result.sequences[0].crops_THWC.astype(int) for result in (png, other)]
        assert np.abs(crops[0] - crops[1]).mean() < 8


@pytest.mark.parametrize("still_crop", ["face", "whole"])
def test_extract_every_orientation_gives_the_same_crop(
    tmp_path: Path, face: RGB, extract: Extract, still_crop: str
) -> None:
    stored = {
        1: face,
        2: face[:, ::-1],
        3: face[::-1, ::-1],
        4: face[::-1],
        5: face.swapaxes(0, 1),
        6: np.rot90(face, 1),
        7: face[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(face, -1),
    }
    crops = []
    for orientation, rgb in stored.items():
        tags = Image.Exif()
        tags[0x0112] = orientation
        path = saved(tmp_path / f"{orientation}.png", rgb, exif=tags)
        result = extract(path, still_crop=still_crop)
        assert (result.width, result.height, result.head_rotation) == (256, 192, 0)
        crops.append(result.sequences[0].crops_THWC)
    assert len(crops) == 8
    for crop in crops:
        np.testing.assert_array_equal(crop, crops[0])


def test_extract_each_face_is_a_sequence(tmp_path: Path, face: RGB, extract: Extract) -> None:
    path = saved(tmp_path / "two.png", np.hstack([face, face[:, ::-1]]))
    result = extract(path)
    assert (result.num_faces, result.num_frames_with_face) == (2, 1)
    assert [sequence.track_id for sequence in result.sequences] == [0, 1]
    assert len({sequence.sequence_id for sequence in result.sequences}) == 2
    middles = sorted((s.boxes_xyxy[0][0] + s.boxes_xyxy[0][2]) / 2 for s in result.sequences)
    assert middles[0] < 256 < middles[1]
    whole = extract(path, still_crop="whole")
    (sequence,) = whole.sequences
    assert (whole.num_faces, sequence.keypoints_xy) == (1, ())  # whose points would they be?


def test_extract_head_upside_down_is_turned(tmp_path: Path, face: RGB, extract: Extract) -> None:
    upright = extract(saved(tmp_path / "up.png", face))
    turned = extract(saved(tmp_path / "down.png", face[::-1, ::-1]))
    assert (turned.status, turned.head_rotation) == (Status.OK, 180)
    x1, y1, x2, y2 = box_of(upright)
    assert box_of(turned) == pytest.approx((256 - x2, 192 - y2, 256 - x1, 192 - y1), abs=2)
    crops = [result.sequences[0].crops_THWC.astype(int) for result in (upright, turned)]
    assert np.abs(crops[0] - crops[1]).mean() < 8
    whole = extract(tmp_path / "down.png", still_crop="whole")
    np.testing.assert_array_equal(
        whole.sequences[0].crops_THWC[0], squeeze(face[::-1, ::-1].copy(), 112)
    )
    # The whole picture stays as it is, upside down, and so do the points in it.
    assert whole.head_rotation == 0
    assert points_of(whole).mouth_centre[1] < points_of(whole).right_eye[1]


def test_extract_whole_is_all_of_the_picture(tmp_path: Path, face: RGB, extract: Extract) -> None:
    result = extract(saved(tmp_path / "a.png", face), still_crop="whole", crop_pixels=64)
    assert (result.status, result.num_faces, result.num_frames_with_face) == (Status.OK, 1, 1)
    (sequence,) = result.sequences
    assert sequence.crops_THWC.shape == (1, 64, 64, 3)
    assert (sequence.boxes_xyxy, sequence.confidences) == (((0.0, 0.0, 256.0, 192.0),), (1.0,))
    # The same points as in the face's own crop, by way of the picture's pixels.
    found = extract(tmp_path / "a.png")
    x1, y1, x2, y2 = box_of(found)
    side = round(1.3 * max(x2 - x1, y2 - y1))
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    for whole, own in zip(points_of(result), points_of(found), strict=True):
        expected = ((left + own[0] * side) / 256, (top + own[1] * side) / 192)
        assert whole == pytest.approx(expected, abs=0.01)


def test_extract_whole_needs_no_face(tmp_path: Path, extract: Extract) -> None:
    path = saved(tmp_path / "grey.png", np.full((90, 120, 3), 128, np.uint8))
    nothing = extract(path)
    assert (nothing.status, nothing.sequences) == (Status.NO_FACE, ())
    assert nothing.reason
    result = extract(path, still_crop="whole")
    assert (result.status, result.num_faces, result.num_frames_with_face) == (Status.OK, 1, 0)
    (sequence,) = result.sequences
    assert sequence.keypoints_xy == ()
    assert np.all(sequence.crops_THWC == 128)


@pytest.mark.parametrize("still_crop", ["face", "whole"])
def test_extract_one_picture_is_too_few_frames_where_more_are_needed(
    tmp_path: Path, face: RGB, extract: Extract, still_crop: str
) -> None:
    path = saved(tmp_path / "a.jpg", face)
    result = extract(path, still_crop=still_crop, min_sequence_frames=7)
    assert (result.status, result.sequences) == (Status.TOO_FEW_FRAMES, ())
    assert result.reason == "one picture; 7 frames of a face are needed"
    assert (result.width, result.height, result.num_frames) == (256, 192, 1)


def test_extract_small_face_is_not_judged(tmp_path: Path, face: RGB, extract: Extract) -> None:
    result = extract(saved(tmp_path / "a.png", face), min_face_pixels=180)
    assert (result.status, result.sequences) == (Status.FACE_TOO_SMALL, ())
    assert "180 are needed" in (result.reason or "")


def test_extract_large_picture_is_searched_small_and_cut_at_full_size(
    tmp_path: Path, face: RGB, extract: Extract
) -> None:
    width = 2 * MAX_SEARCH_PIXELS
    large = np.asarray(cv2.resize(face, (width, width * 192 // 256)), np.uint8)
    result = extract(saved(tmp_path / "large.png", large, compress_level=1), crop_pixels=1024)
    small = extract(saved(tmp_path / "small.png", face))
    factor = width / 256
    expected = np.array(box_of(small)) * factor
    side = expected[2] - expected[0]
    assert box_of(result) == pytest.approx(tuple(expected), abs=0.1 * side)
    expected_crop = crop_face(large, box_of(result), margin=1.3, crop_pixels=1024)
    np.testing.assert_array_equal(result.sequences[0].crops_THWC[0], expected_crop)
    for found, known in zip(points_of(result), points_of(small), strict=True):
        assert found == pytest.approx(known, abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 700), (5000, 40)])
@pytest.mark.parametrize("still_crop", ["face", "whole"])
def test_extract_odd_shapes_are_rows(
    tmp_path: Path, extract: Extract, size: tuple[int, int], still_crop: str
) -> None:
    path = saved(tmp_path / "a.png", np.full((*size, 3), 90, np.uint8))
    result = extract(path, still_crop=still_crop)
    assert result.status in {Status.OK, Status.NO_FACE, Status.FACE_TOO_SMALL, Status.DECODE_ERROR}
    assert (result.status is Status.OK) == bool(result.sequences)


def area_average(rgb: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    """Shrunk to the given length, exactly; what is shorter stays."""
    before = rgb.shape[axis]
    if before <= length:
        return rgb
    parts = np.split(np.repeat(rgb.astype(float), length, axis=axis), length, axis=axis)
    return np.stack([part.mean(axis=axis) for part in parts], axis=axis)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(32, 64),
    seed=st.integers(0, 99),
)
def test_squeezed_averages_areas_where_it_shrinks(
    height: int, width: int, side: int, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = squeeze(rgb, side)
    assert found.shape == (side, side, 3)
    averaged = area_average(area_average(rgb, 0, side), 1, side)
    grown = Image.fromarray(averaged.round().astype(np.uint8)).resize((side, side), BILINEAR)
    assert np.abs(found.astype(int) - np.asarray(grown)).max() <= 3


def test_pictures_go_through_the_decode_processes_beside_videos(
    tmp_path: Path, face: RGB, face_video: Path, faceless_video: Path, face_model: Path
) -> None:
    content = saved(tmp_path / "a.jpg", face, quality=95).read_bytes()
    files = {
        "a.jpg": content,
        "picture named.mp4": content + b"\0",
        "cut.jpg": content[: len(content) // 2],
        "empty.jpg": b"",
        "text.jpg": b"This is no picture.\n",
        "video named.jpg": face_video.read_bytes(),
        "no face.mp4": faceless_video.read_bytes(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    saved(tmp_path / "a.bmp", face)
    moving = [Image.fromarray(face), Image.fromarray(face[:, ::-1].copy())]
    moving[0].save(tmp_path / "moving.png", save_all=True, append_images=moving[1:])
    names = [*files, "a.bmp", "moving.png"]
    ids = {sha256_of(tmp_path / name): name for name in names}
    contents = {video_id: str(tmp_path / name) for video_id, name in ids.items()}
    (shard,) = make_shards(contents, shard_size=len(ids))
    chosen = PreprocessSettings(face_model_sha256=sha256_of(face_model), min_sequence_frames=1)
    with DecodePool([shard], chosen, RunSettings(num_workers=1)) as pool:
        results = {ids[result.video_id]: result for result in pool.results(shard)}
    found = {name: (str(results[name].status), results[name].codec) for name in names}
    assert found == {
        "a.jpg": ("ok", "jpeg"),
        "picture named.mp4": ("ok", "jpeg"),
        "cut.jpg": ("decode_error", "jpeg"),
        "empty.jpg": ("unsupported", None),
        "text.jpg": ("unsupported", None),
        "video named.jpg": ("ok", "h264"),
        "no face.mp4": ("no_face", "h264"),
        "a.bmp": ("unsupported", None),
        "moving.png": ("ok", "apng"),
    }
    assert all(result.reason for result in results.values() if result.status is not Status.OK)
    decoders = {name for name, result in results.items() if result.decoder == "pillow"}
    assert decoders == {"a.jpg", "picture named.mp4", "cut.jpg"}
