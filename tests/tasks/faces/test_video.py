"""One video to crop sequences, with the real detector on rendered faces."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reelcheck.config import PreprocessSettings
from reelcheck.records import VideoResult
from reelcheck.status import Status
from tasks.faces.decoding.plan import plan_samples, space_evenly
from tasks.faces.decoding.probe import probe_video
from tasks.faces.detection.crop import crop_face, measure_quality
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import extract_video
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

VIDEO_ID = "0123456789abcdef" * 4
Extract = Callable[..., VideoResult]


@pytest.fixture(scope="module")
def extract(detector: FaceDetector) -> Extract:
    def run(path: Path, **changes: object) -> VideoResult:
        return extract_video(path, VIDEO_ID, PreprocessSettings.model_validate(changes), detector)

    return run


@pytest.fixture(scope="module")
def face_frames() -> list[NDArray[np.uint8]]:
    return list(render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192))


def decode_all(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def assert_no_crops(result: VideoResult, status: Status) -> None:
    assert (result.status, result.sequences) == (status, ())
    assert result.reason
    assert "\n" not in result.reason


def test_extract_face_gives_one_sequence_of_every_frame(face_video: Path, extract: Extract) -> None:
    result = extract(face_video)
    assert (result.status, result.reason) == (Status.OK, None)
    assert (result.container, result.codec) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264")
    assert (result.width, result.height, result.average_fps) == (256, 192, 25.0)
    assert result.duration_seconds == pytest.approx(23 / 25)
    assert result.num_frames == result.num_frames_sampled == result.num_frames_decoded == 24
    assert (result.num_frames_with_face, result.num_faces) == (24, 1)
    (sequence,) = result.sequences
    assert sequence.sequence_id == "0123456789abcdef-00-00"
    assert (sequence.video_id, sequence.track_id) == (VIDEO_ID, 0)
    assert sequence.crops_THWC.shape == (24, 112, 112, 3)
    assert sequence.frame_indices == tuple(range(24))
    assert sequence.pts_seconds == pytest.approx([number / 25 for number in range(24)])
    assert all(confidence >= 0.5 for confidence in sequence.confidences)


def test_extract_crops_are_what_the_boxes_cut_out_of_the_frames(
    face_video: Path, extract: Extract
) -> None:
    (sequence,) = extract(face_video, margin=1.5, crop_pixels=64).sequences
    frames = decode_all(face_video)
    for crop, index, box in zip(
        sequence.crops_THWC, sequence.frame_indices, sequence.boxes_xyxy, strict=True
    ):
        expected = crop_face(frames[index], box, margin=1.5, crop_pixels=64)
        assert np.abs(crop.astype(int) - expected).mean() <= 2  # decord's colour conversion


def test_extract_twice_gives_the_same(face_video: Path, extract: Extract) -> None:
    first, second = extract(face_video), extract(face_video)
    rest = {"sequences": (), "stage_seconds": {}}
    assert replace(first, **rest) == replace(second, **rest)
    for left, right in zip(first.sequences, second.sequences, strict=True):
        np.testing.assert_array_equal(left.crops_THWC, right.crops_THWC)
        assert left.boxes_xyxy == right.boxes_xyxy
        assert left.keypoints_xy == right.keypoints_xy


def test_extract_long_track_is_cut_into_sequences_of_nearly_equal_length(
    face_video: Path, extract: Extract
) -> None:
    result = extract(face_video, max_sequence_frames=10, min_sequence_frames=5)
    assert result.num_faces == 1
    names = [f"0123456789abcdef-00-{part:02}" for part in range(3)]
    assert [sequence.sequence_id for sequence in result.sequences] == names
    assert [sequence.num_frames for sequence in result.sequences] == [8, 8, 8]
    indices = [index for sequence in result.sequences for index in sequence.frame_indices]
    assert indices == list(range(24))


def test_extract_sequences_of_fixed_length_use_what_fills_them(
    face_video: Path, extract: Extract
) -> None:
    # Two even parts of 24 frames would both be longer, three would be shorter.
    result = extract(face_video, max_sequence_frames=10, min_sequence_frames=10)
    assert [sequence.num_frames for sequence in result.sequences] == [10, 10]
    indices = [index for sequence in result.sequences for index in sequence.frame_indices]
    assert indices == list(range(20))


@pytest.mark.parametrize("num_frames", [10, 15])
def test_extract_samples_over_the_whole_video(
    face_video: Path, extract: Extract, num_frames: int
) -> None:
    result = extract(face_video, num_frames=num_frames, sampling="uniform")
    (sequence,) = result.sequences
    assert list(sequence.frame_indices) == space_evenly(24, num_frames).tolist()
    assert result.num_frames_sampled == num_frames


def test_extract_two_people_give_two_tracks_never_mixed(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    others = render_frames(identity_seed=5, clip_seed=3, kind="real", num_frames=24, height=192)
    path = tmp_path / "two.mp4"
    both = (np.concatenate(pair, axis=1) for pair in zip(face_frames, others, strict=True))
    write_h264(path, both, fps=25, crf=20)
    result = extract(path)
    assert (result.status, result.num_faces) == (Status.OK, 2)
    assert {sequence.track_id for sequence in result.sequences} == {0, 1}
    sides = []
    for sequence in result.sequences:
        centres = [(box[0] + box[2]) / 2 for box in sequence.boxes_xyxy]
        (side,) = {centre < 256 for centre in centres}
        sides.append(side)
        assert sequence.num_frames == 24
    assert sorted(sides) == [False, True]


@pytest.mark.parametrize("degrees", [-25, 25])
def test_extract_aligned_crops_of_a_tilted_face_are_those_of_an_upright_one(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path, degrees: int
) -> None:
    path, upright_path = tmp_path / "tilted.mp4", tmp_path / "upright.mp4"
    height, width = face_frames[0].shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    tilted = (cv2.warpAffine(frame, turn, (width, height)) for frame in face_frames)
    write_h264(path, tilted, fps=25, crf=10)
    write_h264(upright_path, face_frames, fps=25, crf=10)

    def middles(path: Path, *, align_eyes: bool) -> NDArray[np.float64]:
        (sequence,) = extract(path, align_eyes=align_eyes).sequences
        return sequence.crops_THWC[:, 30:82, 30:82].mean(axis=0)

    reference = middles(upright_path, align_eyes=True)
    aligned = np.abs(middles(path, align_eyes=True) - reference).mean()
    as_shown = np.abs(middles(path, align_eyes=False) - reference).mean()
    assert aligned < 0.6 * as_shown, (aligned, as_shown)


def test_extract_quality_of_each_crop_is_measured(
    face_video: Path,
    extract: Extract,
    face_frames: list[NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    (sequence,) = extract(face_video).sequences
    measured = [measure_quality(crop) for crop in sequence.crops_THWC]
    assert list(zip(sequence.sharpness, sequence.brightness, strict=True)) == measured
    path = tmp_path / "blurred.mp4"
    write_h264(path, (cv2.GaussianBlur(f, (0, 0), 2) for f in face_frames), fps=25, crf=20)
    (blurred,) = extract(path).sequences
    assert max(blurred.sharpness) < min(sequence.sharpness)


def test_extract_stages_are_timed(face_video: Path, extract: Extract) -> None:
    seconds = extract(face_video).stage_seconds
    assert set(seconds) == {"demux", "decode", "detect", "crop"}
    assert all(value > 0 for value in seconds.values())


def test_extract_says_what_was_decoded_and_moved(face_video: Path, extract: Extract) -> None:
    every = extract(face_video)
    assert (every.num_packets_decoded, every.largest_snap_seconds) == (24, 0)
    few = extract(face_video, num_frames=10)
    settings = PreprocessSettings(num_frames=10)
    plan = plan_samples(probe_video(face_video), settings)
    assert few.largest_snap_seconds == plan.largest_snap_seconds
    assert few.sequences[0].frame_indices == plan.frame_indices


def test_extract_again_with_the_other_decoder_gives_the_same(
    face_video: Path, detector: FaceDetector
) -> None:
    pytest.importorskip("decord")
    settings = PreprocessSettings()
    first = extract_video(face_video, VIDEO_ID, settings, detector, decoder="decord")
    again = extract_video(face_video, VIDEO_ID, settings, detector, decoder="decord", is_retry=True)
    assert (first.decoder, again.decoder) == ("decord", "pyav")
    assert first.sequences[0].frame_indices == again.sequences[0].frame_indices
    difference = first.sequences[0].crops_THWC.astype(int) - again.sequences[0].crops_THWC
    assert np.abs(difference).mean() <= 2


@pytest.mark.parametrize(
    ("rotation", "aspect", "shown"),
    [(0, None, (96, 64)), (90, None, (64, 96)), (0, Fraction(4, 3), (128, 64))],
)
def test_extract_size_is_that_of_the_shown_picture(
    make_video: Any,
    recipe_type: type[Any],
    extract: Extract,
    rotation: int,
    aspect: Fraction | None,
    shown: tuple[int, int],
) -> None:
    name = f"size{rotation}{aspect is None}.mp4"
    result = extract(make_video(recipe_type(name, rotation=rotation, aspect=aspect)))
    assert (result.width, result.height) == shown


def test_extract_no_face(faceless_video: Path, extract: Extract) -> None:
    result = extract(faceless_video)
    assert_no_crops(result, Status.NO_FACE)
    assert result.reason == "no face on any of 24 frames that were looked at"
    assert (result.num_frames_decoded, result.num_frames_with_face, result.num_faces) == (24, 0, 0)


@pytest.mark.parametrize("num_frames", [1, 9])
def test_extract_face_on_too_few_frames(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path, num_frames: int
) -> None:
    path = tmp_path / "short.mp4"
    write_h264(path, face_frames[:num_frames], fps=25, crf=20)
    result = extract(path)
    assert_no_crops(result, Status.TOO_FEW_FRAMES)
    assert f"has {num_frames} frames of {num_frames}" in (result.reason or "")
    assert "10 are needed" in (result.reason or "")
    needed = extract(path, min_sequence_frames=num_frames)
    assert needed.status is Status.OK


def test_extract_face_smaller_than_the_settings_want(face_video: Path, extract: Extract) -> None:
    (sequence,) = extract(face_video).sequences
    sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in sequence.boxes_xyxy]
    size = float(np.median(sides))
    assert extract(face_video, min_face_pixels=int(size)).status is Status.OK
    result = extract(face_video, min_face_pixels=int(size) + 1)
    assert_no_crops(result, Status.FACE_TOO_SMALL)
    assert f"{int(size) + 1} are needed" in (result.reason or "")


def test_extract_face_less_certain_than_the_settings_want(
    face_video: Path, extract: Extract
) -> None:
    result = extract(face_video, min_track_confidence=0.999)
    assert_no_crops(result, Status.NO_FACE)


def test_extract_turned_and_stretched_video_gives_the_same_face(
    face_video: Path, extract: Extract, tmp_path: Path
) -> None:
    frames = decode_all(face_video)
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 192, 256, "yuv420p"
        stream.set_display_rotation(90)
        for frame in frames:
            stored = np.ascontiguousarray(np.rot90(frame, k=-1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    squeezed = tmp_path / "squeezed.mkv"
    with av.open(str(squeezed), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 128, 192, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for frame in frames:
            stored = np.ascontiguousarray(frame[:, ::2])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    reference = np.array(extract(face_video).sequences[0].boxes_xyxy)
    for other in (path, squeezed):
        result = extract(other)
        assert result.status is Status.OK
        boxes = np.array(result.sequences[0].boxes_xyxy)
        assert boxes.shape == reference.shape
        assert np.abs(boxes - reference).max() <= 8


def write_bad(kind: str, path: Path, face_video: Path) -> None:
    content = face_video.read_bytes()
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a video")
    elif kind == "picture":
        Image.new("RGB", (64, 64)).save(path, format="PNG")
    elif kind == "no index":
        path.write_bytes(content[: content.index(b"moov") - 4])
    elif kind == "pictures overwritten":
        first, last = content.index(b"mdat") + 4, content.index(b"moov") - 4
        noise = np.random.default_rng(0).bytes(last - first)
        path.write_bytes(content[:first] + noise + content[last:])
    elif kind == "sound":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("empty", Status.UNSUPPORTED),
        ("text", Status.UNSUPPORTED),
        ("picture", Status.UNSUPPORTED),
        ("sound", Status.UNSUPPORTED),
        ("no index", Status.DECODE_ERROR),
        ("pictures overwritten", Status.DECODE_ERROR),
        ("gone", Status.UNREADABLE),
    ],
)
def test_extract_bad_file_is_a_row_with_its_status(
    face_video: Path, extract: Extract, tmp_path: Path, kind: str, status: Status
) -> None:
    path = tmp_path / "bad.mp4"
    write_bad(kind, path, face_video)
    result = extract(path)
    assert_no_crops(result, status)
    assert result.video_id == VIDEO_ID


def test_extract_video_damaged_at_its_end_is_ok_with_a_remark(
    extract: Extract, face_frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    whole, path = tmp_path / "whole.mp4", tmp_path / "a.mp4"
    write_h264(whole, face_frames, fps=25, crf=5)
    content = bytearray(whole.read_bytes())
    first, last = content.index(b"mdat") + 4, content.index(b"moov") - 4
    begin = first + int(0.7 * (last - first))
    content[begin:last] = np.random.default_rng(0).bytes(last - begin)
    path.write_bytes(content)
    result = extract(path)
    assert result.status is Status.OK
    assert result.num_frames_decoded is not None
    assert 10 <= result.num_frames_decoded < 24
    assert f"damaged: {result.num_frames_decoded} of 24 sampled frames" in (result.reason or "")


def test_extract_any_damage_gives_a_row(extract: Extract, face_video: Path, tmp_path: Path) -> None:
    content = face_video.read_bytes()
    generator = np.random.default_rng(0)
    for number in range(25):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 20):
            damaged[place] = generator.integers(0, 256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damaged)
        result = extract(path)
        assert (result.status is Status.OK) == bool(result.sequences)
        assert result.status is Status.OK or result.reason
