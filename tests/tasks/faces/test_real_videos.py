"""Real files that break pipelines, each with the status that a person would give it."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pytest

from reelcheck.config import PreprocessSettings
from reelcheck.records import VideoResult
from reelcheck.status import Status
from tasks.faces.decoding.image_file import find_still_codec
from tasks.faces.decoding.probe import probe_video
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.image import extract_image
from tasks.faces.video import extract_video
from tasks.intake.discover import find_files

pytestmark = pytest.mark.slow
SETTINGS = PreprocessSettings()
# The same three seconds of one face in every kind of stream: same decision as mx_ref.mp4.
SAME_FACE = (
    "mx_ref.mp4",
    "mx_h264_opengop_b.mp4",
    "mx_h264_longgop.mp4",
    "mx_h264_intra.mp4",
    "mx_h264_hi10.mp4",
    "mx_h264_444.mp4",
    "mx_gray.mp4",
    "mx_hevc.mp4",
    "mx_hevc10.mp4",
    "mx_vp8.webm",
    "mx_vp9.webm",
    "mx_av1.mp4",
    "mx_mpeg4.avi",
    "mx_mjpeg.avi",
    "mx_mpeg2.ts",
    "mx_theora.ogv",
    "mx_wmv2.wmv",
    "mx_flv1.flv",
    "mx_gif.gif",
    "mx_raw.h264",
    "mx_rot90.mp4",
    "mx_rot180.mp4",
    "mx_rot270.mp4",
    "mx_vfr.mp4",
    "mx_sar.mp4",
    "mx_fragmented.mp4",
    "mx_offset.mp4",
    "mx_interlaced.mpg",
    "mx_odd_333x187.webm",
    "mx_120fps.mp4",
    "mx_crf45.mp4",
    "näme with späce (1) 'q' 视频.MP4",
    "-dash_first.mp4",
    "no_extension",
    "webm_named.mp4",
)
# Status and number of people.
EXPECTED: dict[str, tuple[str, int]] = {
    **dict.fromkeys(SAME_FACE, ("ok", 1)),
    "mx_h263.3gp": ("ok", 1),
    "mx_reschange.ts": ("ok", 2),  # the picture halves midway, and tracks go by size
    "mx_2160p.mp4": ("ok", 1),
    "mx_corrupt_mid.mp4": ("ok", 1),
    "mx_truncated_faststart.mp4": ("ok", 1),
    "late_face.mp4": ("ok", 1),
    "splice_real4s_fake1s.mp4": ("ok", 1),
    "sidebyside_real_fake.mp4": ("ok", 2),
    "fk_keanu1_crf28.mp4": ("ok", 1),
    "fk_keanu1_crf38.mp4": ("ok", 1),
    "fk_keanu1_half_hevc.mp4": ("ok", 1),
    "clm_cap13.webm": ("ok", 3),  # one man in three shots: a cut ends a track
    "clm_cap13.ogv": ("ok", 1),
    "clm_cap13.mp4": ("ok", 1),
    "wild_5.mp4": ("ok", 1),
    "wild_9.mp4": ("ok", 1),
    "wild_10.mp4": ("ok", 1),
    "mx_1frame.mp4": ("too_few_frames", 0),
    "mx_2frames.mp4": ("too_few_frames", 0),
    "mx_3frames.mp4": ("too_few_frames", 0),
    "mx_1fps.mp4": ("too_few_frames", 0),
    "mx_upsidedown.mp4": ("ok", 1),
    "mx_tinyface.mp4": ("no_face", 0),  # 14 pixels: below what is judged, and not found at all
    "black.mp4": ("no_face", 0),
    "bottles.mp4": ("no_face", 0),
    "fa_black_intro.mp4": ("no_face", 0),
    "mp_bbb.webm": ("no_face", 0),
    "mp_failing_audio.mp4": ("no_face", 0),
    "mp_no_duration.webm": ("no_face", 0),
    "mp_transparent.webm": ("no_face", 0),
    "tc_av1_video.mkv": ("no_face", 0),
    "tc_bt709_full_range.mp4": ("no_face", 0),
    "tc_h264_10bits.mp4": ("no_face", 0),
    "tc_h265_10bits.mp4": ("no_face", 0),
    "tc_h265_video.mp4": ("no_face", 0),
    "tc_nasa_13013.mp4": ("no_face", 0),
    "tc_var_fps_video.mp4": ("no_face", 0),
    "mx_nomoov.mp4": ("decode_error", 0),
    "mx_nokeystart.ts": ("decode_error", 0),
    "zero_byte.mp4": ("unsupported", 0),
    "png_named.mp4": ("too_few_frames", 0),  # a still picture, whatever its name
    "audio_only.mp4": ("unsupported", 0),
    "cover_art_audio.m4a": ("unsupported", 0),
    "mx_webp.webp": ("unsupported", 0),
    "playlist_named.mp4": ("unsupported", 0),
    "lfs_pointer.mp4": ("unsupported", 0),
}
# No person is to be seen, but the detector is sure enough of something; a person would say no_face.
DETECTOR_IS_WRONG = {"robot_cartoon.mp4": "a cartoon robot"}
# Many or changing people: how many, two viewers would not agree on.
UNCOUNTED = {"wild_3.mp4", "wild_8.mp4"}

Extract = Callable[[str], VideoResult]


@pytest.fixture(scope="module")
def awkward(shared_data: Path) -> Path:
    return shared_data / "public" / "awkward"


@pytest.fixture(scope="module")
def extract(awkward: Path, face_model: Path) -> Iterator[Extract]:
    with FaceDetector(face_model, min_confidence=SETTINGS.min_confidence) as detector:

        @lru_cache
        def run(name: str) -> VideoResult:
            if find_still_codec(awkward / name) is not None:
                return extract_image(awkward / name, "a" * 64, SETTINGS, detector)
            return extract_video(awkward / name, "a" * 64, SETTINGS, detector)

        yield run


def test_real_every_awkward_file_is_expected_to_be_something(awkward: Path) -> None:
    found = {file.path for file in find_files(awkward)}
    assert found == set(EXPECTED) | set(DETECTOR_IS_WRONG) | UNCOUNTED


@pytest.mark.parametrize("name", EXPECTED)
def test_real_awkward_file_gets_the_status_a_person_would_give(extract: Extract, name: str) -> None:
    result = extract(name)
    people = len({sequence.track_id for sequence in result.sequences})
    assert (str(result.status), people) == EXPECTED[name]
    assert result.status is Status.OK or result.reason


@pytest.mark.parametrize("name", sorted(UNCOUNTED))
def test_real_several_people_are_ok(extract: Extract, name: str) -> None:
    assert extract(name).status is Status.OK


@pytest.mark.xfail(strict=True, reason="the face detector sees a face where no person is")
@pytest.mark.parametrize("name", DETECTOR_IS_WRONG)
def test_real_no_person_is_no_face(extract: Extract, name: str) -> None:
    assert extract(name).status is Status.NO_FACE


@pytest.mark.parametrize("name", ["mx_corrupt_mid.mp4", "mx_truncated_faststart.mp4"])
def test_real_damaged_video_is_flagged(extract: Extract, name: str) -> None:
    assert "sampled frames could be decoded" in (extract(name).reason or "")


def face_place(result: VideoResult) -> tuple[float, float, float]:
    """Middle and side of the face over the whole clip, as shares of the picture."""
    assert result.width is not None
    assert result.height is not None
    boxes = np.concatenate([sequence.boxes_xyxy for sequence in result.sequences])
    x1, y1, x2, y2 = np.median(boxes, axis=0) / math.sqrt(result.width * result.height)
    return (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1)


@pytest.mark.parametrize("name", SAME_FACE)
def test_real_same_face_is_found_in_the_same_place_in_every_stream(
    extract: Extract, name: str
) -> None:
    # A picture on its side, upside down or squeezed would have it elsewhere.
    found, reference = extract(name), extract("mx_ref.mp4")
    assert face_place(found) == pytest.approx(face_place(reference), abs=0.03)
    assert found.num_frames_with_face == 30


def test_real_head_upside_down_is_turned(extract: Extract) -> None:
    found, reference = extract("mx_upsidedown.mp4"), extract("mx_ref.mp4")
    assert (found.head_rotation, reference.head_rotation) == (180, 0)
    # Boxes lie on the picture as shown: where the upright face is, turned about the middle.
    x, y, side = face_place(found)
    assert found.width is not None
    assert found.height is not None
    root = math.sqrt(found.width * found.height)
    upright = (found.width / root - x, found.height / root - y, side)
    assert upright == pytest.approx(face_place(reference), abs=0.03)


@pytest.mark.parametrize(
    "name", ["fake/dfdc_facetube_achdeirhym.mp4", "fake/dfdc_facetube_aimzesksew.mp4"]
)
def test_real_face_that_fills_the_picture_is_found(
    shared_data: Path, extract: Extract, name: str
) -> None:
    result = extract(f"../{name}")
    assert (result.status, result.num_faces) == (Status.OK, 1)


@pytest.mark.parametrize("folder", ["images_real", "images_fake"])
@pytest.mark.parametrize("still_crop", ["face", "whole"])
def test_real_pictures_give_crops(
    shared_data: Path, face_model: Path, folder: str, still_crop: str
) -> None:
    chosen = PreprocessSettings.model_validate({"min_sequence_frames": 1, "still_crop": still_crop})
    paths = sorted((shared_data / "public" / folder).iterdir())
    with FaceDetector(face_model, min_confidence=chosen.min_confidence) as detector:
        results = [extract_image(path, "a" * 64, chosen, detector) for path in paths]
    # Many of them are tight crops of a face already, which a face detector is not made for.
    num_ok = sum(result.status is Status.OK for result in results)
    assert num_ok >= (0.5 * len(paths) if still_crop == "face" else len(paths))
    assert {result.status for result in results} <= {Status.OK, Status.NO_FACE}


def test_real_stream_whose_clock_restarts_is_counted_whole(awkward: Path) -> None:
    with av.open(str(awkward / "mx_reschange.ts")) as container:
        num_frames = sum(1 for _ in container.decode(video=0))
    assert num_frames == 180
    assert probe_video(awkward / "mx_reschange.ts").num_frames == num_frames
