"""Videos written anew show what they showed, or lose what they should."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame, VideoResult
from reelcheck.status import Status
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_frames, plan_samples
from tasks.faces.decoding.probe import probe_video
from tasks.faces.decoding.rewrite import recompress, remux
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import extract_video
from tasks.synthetic.clip import render_frames

Extract = Callable[[Path], VideoResult]
Make = Callable[[Any], Path]


@pytest.fixture(scope="module")
def extract(detector: FaceDetector) -> Extract:
    return lambda path: extract_video(path, "0" * 64, PreprocessSettings(), detector)


@pytest.fixture(scope="module")
def face_frames() -> list[NDArray[np.uint8]]:
    return list(render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192))


def frames_of(path: Path) -> list[Frame]:
    probe = probe_video(path)
    return list(FrameReader(path, probe, plan_frames(probe, np.arange(probe.num_frames))))


def luma(rgb_HWC: RGB) -> NDArray[np.float64]:
    grey = cv2.cvtColor(np.ascontiguousarray(rgb_HWC), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.float64)


def assert_same(found: Sequence[Frame], expected: Sequence[Frame]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.frame_index, one.pts_seconds) == (other.frame_index, other.pts_seconds)
        np.testing.assert_array_equal(one.rgb_HWC, other.rgb_HWC)


# ---- remux


def test_remux_gives_the_same_frames_in_another_container(any_video: Path, tmp_path: Path) -> None:
    probe = probe_video(any_video)
    copy = remux(any_video, tmp_path)
    copied = probe_video(copy)
    plan = plan_samples(copied, PreprocessSettings())
    assert plan.frame_indices == plan_samples(probe, PreprocessSettings()).frame_indices
    assert_same(list(FrameReader(copy, copied, plan)), list(FrameReader(any_video, probe, plan)))
    assert_same(frames_of(copy), frames_of(any_video))
    assert copied.codec == probe.codec
    assert list(tmp_path.iterdir()) == [copy]
    if any_video.stem in QUICKTIME_ONLY:
        assert copy.name == "mov"
    elif any_video.suffix != ".h264":  # which has no times
        assert copied.container != probe.container


QUICKTIME_ONLY = {"ntsc", "edit_list"}
"""Matroska counts milliseconds and has no edit lists."""


def encode_frames(path: Path, frames: Sequence[RGB], codec: str, **options: Any) -> Path:
    rotation = options.pop("rotation", 0)
    times = options.pop("times", range(0, 40 * len(frames), 40))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for time, rgb_HWC in zip(times, frames, strict=True):
            picture = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


UNEVEN = np.cumsum([0, *(17 + 29 * (n % 3) for n in range(23))]).tolist()
FACES: dict[str, tuple[str, dict[str, Any]]] = {
    "h264.mp4": ("libx264", {"bf": "3"}),
    "h264.mkv": ("libx264", {"bf": "3"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "vp9.mp4": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4.mp4": ("mpeg4", {"bf": "2"}),
    "turned.mp4": ("libx264", {"rotation": 90}),
    "uneven.mp4": ("libx264", {"bf": "2", "times": UNEVEN}),
    "uneven.mkv": ("libx264", {"bf": "2", "times": UNEVEN}),
}


@pytest.mark.parametrize("name", FACES)
def test_remux_gives_identical_crops(
    name: str, extract: Extract, face_frames: list[RGB], tmp_path: Path
) -> None:
    codec, options = FACES[name]
    turned = [np.ascontiguousarray(np.rot90(f, -1)) for f in face_frames]
    frames = turned if "rotation" in options else face_frames
    path = encode_frames(tmp_path / name, frames, codec, **options)
    (tmp_path / "copies").mkdir()
    plain, remuxed = extract(path), extract(remux(path, tmp_path / "copies"))
    assert plain.status is Status.OK
    assert name == "turned.mp4" or plain.container != remuxed.container
    for first, second in zip(plain.sequences, remuxed.sequences, strict=True):
        np.testing.assert_array_equal(first.crops_THWC, second.crops_THWC)
        assert first.frame_indices == second.frame_indices
        assert first.boxes_xyxy == second.boxes_xyxy
        np.testing.assert_allclose(first.pts_seconds, second.pts_seconds, rtol=0, atol=1e-6)
    assert plain.fingerprints == remuxed.fingerprints
    if "times" in options:
        seconds = plain.sequences[0].pts_seconds
        np.testing.assert_allclose(seconds, np.array(UNEVEN) / 1000, atol=1e-9)


# ---- H.264


def test_h264_keeps_every_frame_and_its_time(face_frames: list[RGB], tmp_path: Path) -> None:
    path = encode_frames(tmp_path / "a.mkv", face_frames, "mpeg4", times=UNEVEN)
    frames = frames_of(recompress(path, tmp_path, crf=0))
    assert [frame.frame_index for frame in frames] == list(range(24))
    np.testing.assert_allclose([f.pts_seconds for f in frames], np.array(UNEVEN) / 1000, atol=1e-6)
    for frame, original in zip(frames, frames_of(path), strict=True):
        # Lossless but for the way to 4:2:0 and back.
        assert np.abs(frame.rgb_HWC.astype(int) - original.rgb_HWC).mean() < 2


def test_h264_loses_more_the_coarser_it_is(face_video: Path, tmp_path: Path) -> None:
    originals = frames_of(face_video)

    def loss(crf: int) -> float:
        pairs = zip(frames_of(recompress(face_video, tmp_path, crf=crf)), originals, strict=True)
        return float(np.mean([np.abs(a.rgb_HWC.astype(int) - b.rgb_HWC).mean() for a, b in pairs]))

    losses = [loss(crf) for crf in (10, 23, 30, 40, 51)]
    assert all(weaker < stronger for weaker, stronger in pairwise(losses)), losses


def test_h264_is_the_same_every_time(face_video: Path, tmp_path: Path) -> None:
    contents = [recompress(face_video, tmp_path, crf=30).read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


def test_h264_of_every_kind_of_video(any_video: Path, tmp_path: Path) -> None:
    originals = frames_of(any_video)
    frames = frames_of(recompress(any_video, tmp_path, crf=0))
    assert [f.frame_index for f in frames] == [f.frame_index for f in originals]
    seconds = [f.pts_seconds for f in frames]
    np.testing.assert_allclose(seconds, [f.pts_seconds for f in originals], rtol=0, atol=1e-6)
    for frame, original in zip(frames, originals, strict=True):
        height, width = (side - side % 2 for side in original.rgb_HWC.shape[:2])
        assert frame.rgb_HWC.shape == (height, width, 3)
        # Luma, because colours that change from pixel to pixel (GIF) are lost.
        assert np.abs(luma(frame.rgb_HWC) - luma(original.rgb_HWC[:height, :width])).mean() < 2


def test_h264_of_a_picture_of_odd_size(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    path = make_video(
        recipe_type("odd.mp4", pixels="yuv444p", width=97, height=65, options={"g": "20"})
    )
    frames = frames_of(recompress(path, tmp_path, crf=10))
    assert {frame.rgb_HWC.shape for frame in frames} == {(64, 96, 3)}
    for frame, original in zip(frames, frames_of(path), strict=True):
        assert np.abs(frame.rgb_HWC.astype(int) - original.rgb_HWC[:64, :96]).mean() < 4


def spliced(make_video: Make, recipe_type: type[Any], folder: Path) -> Path:
    """Two streams one after the other: times begin anew, which no container can say."""
    first = make_video(recipe_type("first.ts", "mpegts"))
    path = folder / "spliced.ts"
    path.write_bytes(first.read_bytes() * 2)
    return path


def test_remux_of_what_no_container_holds_is_refused_in_one_line(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    path = spliced(make_video, recipe_type, tmp_path)
    (tmp_path / "copies").mkdir()
    with pytest.raises(
        VideoError, match="no container holds the packets of h264 in mpegts and their times"
    ) as caught:
        remux(path, tmp_path / "copies")
    assert caught.value.status is Status.UNSUPPORTED
    assert list((tmp_path / "copies").iterdir()) == []
    # The last packet before the splice is incomplete: its pictures are in doubt.
    assert 75 <= len(frames_of(recompress(path, tmp_path, crf=23))) < 80
