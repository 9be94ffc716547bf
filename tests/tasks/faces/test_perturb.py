"""What perturbations make of videos, and that nothing else changes."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
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
from reelcheck.perturbations import DEFAULT_PERTURBATIONS, Perturbation, parse_perturbation
from reelcheck.records import RGB, Frame, Shard, VideoProbe, VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_frames, plan_samples
from tasks.faces.decoding.probe import probe_video
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.image import extract_image
from tasks.faces.perturb import open_perturbed_video, perturb_frame
from tasks.faces.search import ReadFrames
from tasks.faces.stopwatch import Stopwatch
from tasks.faces.video import extract_video
from tasks.preprocessing.decode_pool import DecodePool
from tasks.synthetic.clip import render_frames

VIDEO_ID = "0123456789abcdef" * 4
SETTINGS = PreprocessSettings()
OF_FRAMES = ("jpeg", "scale", "blur", "noise", "gamma")
Extract = Callable[..., VideoResult]
Make = Callable[[Any], Path]


def named(perturbation: Perturbation) -> str:
    return perturbation.name


@pytest.fixture(scope="module")
def extract(detector: FaceDetector) -> Extract:
    def run(path: Path, name: str | None = None, **changes: Any) -> VideoResult:
        perturbation = parse_perturbation(name) if name else None
        return extract_video(
            path, VIDEO_ID, SETTINGS, detector, perturbation=perturbation, **changes
        )

    return run


@pytest.fixture(scope="module")
def face_frames() -> list[NDArray[np.uint8]]:
    return list(render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192))


@contextmanager
def perturbed(path: Path, name: str) -> Iterator[tuple[VideoProbe, ReadFrames]]:
    with open_perturbed_video(
        path,
        VIDEO_ID,
        parse_perturbation(name),
        decoder="auto",
        is_retry=False,
        scratch_dir=None,
        watch=Stopwatch(),
    ) as opened:
        yield opened


def all_frames(path: Path, name: str) -> list[Frame]:
    with perturbed(path, name) as (probe, read):
        return list(read(plan_frames(probe, np.arange(probe.num_frames))))


def frames_of(path: Path) -> list[Frame]:
    probe = probe_video(path)
    return list(FrameReader(path, probe, plan_frames(probe, np.arange(probe.num_frames))))


def assert_same(found: Sequence[Frame], expected: Sequence[Frame]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.frame_index, one.pts_seconds) == (other.frame_index, other.pts_seconds)
        np.testing.assert_array_equal(one.rgb_HWC, other.rgb_HWC)


def change_of(rgb_HWC: RGB, name: str) -> float:
    """Mean absolute difference that a perturbation of frames makes."""
    frame = Frame(frame_index=3, pts_seconds=0.0, rgb_HWC=rgb_HWC)
    changed = perturb_frame(frame, parse_perturbation(name), video_id=VIDEO_ID)
    return float(np.abs(changed.rgb_HWC.astype(int) - rgb_HWC).mean())


# ---- frames


@pytest.mark.parametrize(
    "names",
    [
        ("jpeg 95", "jpeg 80", "jpeg 50", "jpeg 20", "jpeg 5"),
        ("scale 1/2", "scale 1/4", "scale 1/8"),
        ("blur 0.7", "blur 1.5", "blur 3", "blur 6"),
        ("noise 2", "noise 5", "noise 10", "noise 20"),
        ("gamma 1", "gamma 0.7", "gamma 0.5"),
        ("gamma 1", "gamma 1.4", "gamma 2"),
    ],
)
def test_stronger_perturbation_changes_frames_more(
    face_frames: list[RGB], names: tuple[str, ...]
) -> None:
    changes = [change_of(face_frames[0], name) for name in names]
    assert all(weaker < stronger for weaker, stronger in pairwise(changes)), changes


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([p for p in DEFAULT_PERTURBATIONS if p.family in OF_FRAMES]),
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(0, 9),
)
def test_perturbed_frame_keeps_shape_and_is_the_same_every_time(
    perturbation: Perturbation, height: int, width: int, index: int
) -> None:
    rgb_HWC = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    frame = Frame(frame_index=index, pts_seconds=index / 25, rgb_HWC=rgb_HWC.copy())
    first, second = (perturb_frame(frame, perturbation, video_id=VIDEO_ID) for _ in range(2))
    assert (first.rgb_HWC.shape, first.rgb_HWC.dtype) == (rgb_HWC.shape, np.uint8)
    np.testing.assert_array_equal(first.rgb_HWC, second.rgb_HWC)
    np.testing.assert_array_equal(frame.rgb_HWC, rgb_HWC)  # the frame given stays as it is
    assert (first.frame_index, first.pts_seconds) == (index, index / 25)


@pytest.mark.parametrize("name", ["remux", "h264 crf 30", "dropped frames 1/2"])
def test_perturbation_of_files_leaves_a_frame_alone(face_frames: list[RGB], name: str) -> None:
    assert change_of(face_frames[0], name) == 0


def grey_frame(index: int) -> Frame:
    return Frame(frame_index=index, pts_seconds=0.0, rgb_HWC=np.full((200, 200, 3), 128, np.uint8))


def noise(video_id: str, index: int) -> NDArray[np.float64]:
    noisy = perturb_frame(grey_frame(index), Perturbation("noise", 10), video_id=video_id)
    return noisy.rgb_HWC.astype(float) - 128


def test_noise_has_its_sigma_and_is_another_on_every_frame_of_every_video() -> None:
    values = noise(VIDEO_ID, 0)
    assert values.std() == pytest.approx(10, rel=0.02)
    assert abs(values.mean()) < 0.2
    for other in (noise(VIDEO_ID, 1), noise("f" * 64, 0)):
        assert abs(np.corrcoef(values.ravel(), other.ravel())[0, 1]) < 0.02
    lines = values.reshape(len(values), -1)  # nor does it repeat within a frame
    assert np.abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 0.25


def test_gamma_is_a_power_of_the_values() -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=ramp)
    changed = perturb_frame(frame, Perturbation("gamma", 2), video_id=VIDEO_ID).rgb_HWC
    np.testing.assert_allclose(changed, (ramp / 255.0) ** 2 * 255, atol=0.5)


def test_jpeg_is_that_of_another_library(face_frames: list[RGB], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(face_frames[0]).save(path, quality=50, subsampling="4:2:0")
    frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=face_frames[0])
    changed = perturb_frame(frame, Perturbation("jpeg", 50), video_id=VIDEO_ID).rgb_HWC
    assert np.abs(changed.astype(int) - np.asarray(Image.open(path))).mean() < 0.5
    assert change_of(face_frames[0], "jpeg 50") > 1


def test_blur_means_the_same_at_every_size(face_frames: list[RGB]) -> None:
    def blurred(rgb_HWC: RGB) -> RGB:
        frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=rgb_HWC)
        return perturb_frame(frame, Perturbation("blur", 4), video_id=VIDEO_ID).rgb_HWC

    def enlarged(rgb_HWC: RGB) -> RGB:
        return np.asarray(cv2.resize(rgb_HWC, None, fx=3, fy=3), np.uint8)

    small = face_frames[0]
    upright = np.ascontiguousarray(np.rot90(small))
    expected = enlarged(blurred(small)).astype(int)
    assert np.abs(blurred(enlarged(small)) - expected).mean() < 0.5
    assert np.abs(enlarged(small) - expected).mean() > 1.5
    np.testing.assert_allclose(blurred(upright), np.rot90(blurred(small)), atol=1)


# ---- dropped frames


@pytest.mark.parametrize(("name", "every"), [("dropped frames 1/2", 2), ("dropped frames 3/4", 4)])
def test_dropped_frames_leave_every_nth_as_it_was(any_video: Path, name: str, every: int) -> None:
    kept = frames_of(any_video)[::every]
    expected = [replace(frame, frame_index=number) for number, frame in enumerate(kept)]
    assert_same(all_frames(any_video, name), expected)


@pytest.mark.parametrize("sampling", ["spread", "clips", "uniform", "all"])
def test_dropped_frames_are_never_sampled(
    make_video: Make, recipe_type: type[Any], sampling: str
) -> None:
    path = make_video(recipe_type("dropped.mp4", num_frames=130, options={"bf": "3", "g": "20"}))
    originals = frames_of(path)
    with perturbed(path, "dropped frames 1/2") as (probe, read):
        assert (probe.num_frames, probe.average_fps) == (65, 12.5)
        plan = plan_samples(probe, PreprocessSettings.model_validate({"sampling": sampling}))
        frames = list(read(plan))
    assert [frame.frame_index for frame in frames] == list(plan.frame_indices)
    assert len(frames) >= 30  # as many as of a video of another frame rate
    expected = [replace(originals[2 * i], frame_index=i) for i in plan.frame_indices]
    assert_same(frames, expected)


def test_dropped_frames_can_leave_too_few(extract: Extract, face_video: Path) -> None:
    result = extract(face_video, "dropped frames 1/2")
    assert (result.status, result.num_frames, result.average_fps) == (Status.OK, 12, 12.5)
    assert result.sequences[0].frame_indices == tuple(range(12))
    result = extract(face_video, "dropped frames 3/4")
    assert (result.status, result.num_frames_decoded) == (Status.TOO_FEW_FRAMES, 6)


# ---- one video


def test_perturbed_frames_are_what_faces_are_cut_from(extract: Extract, face_video: Path) -> None:
    plain, dark = extract(face_video), extract(face_video, "gamma 2")
    assert dark.status is Status.OK
    assert np.mean(dark.sequences[0].brightness) < 0.8 * np.mean(plain.sequences[0].brightness)
    blurred = extract(face_video, "blur 4")
    assert max(blurred.sequences[0].sharpness) < 0.5 * min(plain.sequences[0].sharpness)


def test_perturbation_that_hides_faces_is_lost_coverage(extract: Extract, face_video: Path) -> None:
    result = extract(face_video, "blur 50")
    assert (result.status, result.num_frames_decoded) == (Status.NO_FACE, 24)


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped", "empty"])
@pytest.mark.parametrize("perturbation", DEFAULT_PERTURBATIONS, ids=named)
def test_broken_video_is_a_row_and_leaves_nothing_behind(
    perturbation: Perturbation, damage: str, extract: Extract, face_video: Path, tmp_path: Path
) -> None:
    content = face_video.read_bytes()
    flipped = bytearray(content)
    media = content.index(b"mdat") + 100
    flipped[media::50] = bytes(len(flipped[media::50]))
    path, scratch_dir = tmp_path / "broken.mp4", tmp_path / "scratch"
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "text": b"no video at all" * 20,
            "flipped": bytes(flipped),
            "empty": b"",
        }[damage]
    )
    scratch_dir.mkdir()
    result = extract(path, perturbation.name, scratch_dir=scratch_dir)
    if damage == "flipped":  # a player shows something of it
        assert result.status not in {Status.INTERNAL_ERROR, Status.UNSUPPORTED}
        assert (result.status is Status.OK) == bool(result.sequences)
    else:
        assert result.status in {Status.UNSUPPORTED, Status.DECODE_ERROR}
    assert result.reason
    assert "\n" not in result.reason
    assert list(scratch_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["remux", "h264 crf 30"])
def test_file_is_written_where_it_may_and_removed(
    extract: Extract, face_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # nothing else can be written
    scratch_dir = tmp_path / "scratch"
    scratch_dir.mkdir()
    assert extract(face_video, name, scratch_dir=scratch_dir).status is Status.OK
    assert list(scratch_dir.iterdir()) == []


# ---- still pictures


def test_still_picture_goes_through_perturbations_of_frames_only(
    detector: FaceDetector, face_frames: list[RGB], tmp_path: Path
) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(face_frames[0]).resize((640, 480)).save(path)
    chosen = PreprocessSettings(min_sequence_frames=1, still_crop="whole", crop_pixels=480)

    def crop(name: str | None) -> RGB:
        perturbation = parse_perturbation(name) if name else None
        result = extract_image(path, VIDEO_ID, chosen, detector, perturbation=perturbation)
        assert result.status is Status.OK
        return result.sequences[0].crops_THWC

    plain = crop(None)
    for perturbation in DEFAULT_PERTURBATIONS:
        is_same = np.array_equal(crop(perturbation.name), plain)
        assert is_same == (perturbation.family not in OF_FRAMES), perturbation.name


# ---- the decode processes


def pooled(path: Path, face_model: Path, perturbation: Perturbation | None) -> VideoResult:
    video_id = hashlib.sha256(path.read_bytes()).hexdigest()
    shard = Shard(name="s", position="1/1", video_ids=(video_id,), locations=(str(path),))
    chosen = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    with DecodePool([shard], chosen, RunSettings(num_workers=1), perturbation=perturbation) as pool:
        (result,) = pool.results(shard)
    return result


def test_pool_passes_the_perturbation_through(
    face_video: Path,
    face_model: Path,
    extract: Extract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (None, "blur 4", "h264 crf 40"):
        result = pooled(face_video, face_model, parse_perturbation(name) if name else None)
        expected = extract(face_video, name)
        np.testing.assert_array_equal(
            result.sequences[0].crops_THWC, expected.sequences[0].crops_THWC
        )
        is_plain = np.array_equal(
            expected.sequences[0].crops_THWC, extract(face_video).sequences[0].crops_THWC
        )
        assert is_plain == (name is None)
    assert list(tmp_path.iterdir()) == []
