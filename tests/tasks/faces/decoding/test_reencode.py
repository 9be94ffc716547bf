"""The pictures of a video in the profile: which, how large, in which colours."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import NormaliseSettings
from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame
from reelcheck.status import Status
from tasks.faces.decoding.reencode import fit_size, reencode, resample_frames
from tasks.synthetic.dataset import write_h264

SMALL = NormaliseSettings(max_side=160)


def flat(brightness: int, *, width: int = 160, height: int = 120) -> RGB:
    return np.full((height, width, 3), brightness, np.uint8)


def decoded(path: Path) -> list[RGB]:
    with av.open(str(path)) as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]


@settings(deadline=None, max_examples=100)
@given(
    gaps=st.lists(st.floats(0.001, 0.5), min_size=0, max_size=20),
    start=st.floats(-2, 2),
    early=st.floats(0, 0.2),
    fps=st.sampled_from([10, 25, 30]),
    num_pictures=st.integers(1, 60),
)
def test_constant_rate_shows_the_last_frame_that_began(
    gaps: list[float], start: float, early: float, fps: int, num_pictures: int
) -> None:
    times = np.cumsum([start, *gaps])
    frames = [
        Frame(frame_index=n, pts_seconds=float(time), rgb_HWC=np.full((1, 1, 3), n, np.uint8))
        for n, time in enumerate(times)
    ]
    given_pictures = resample_frames(
        frames, fps=fps, start_seconds=start - early, num_pictures=num_pictures
    )
    shown = [int(picture[0, 0, 0]) for picture in given_pictures]
    moments = start - early + (np.arange(num_pictures) + 0.5) / fps
    last_begun = np.searchsorted(times, moments + 1e-6, side="right") - 1
    assert shown == np.maximum(last_begun, 0).tolist()


@settings(deadline=None)
@given(
    width=st.integers(2, 5000),
    height=st.integers(2, 5000),
    max_side=st.integers(32, 640).map(lambda half: 2 * half),
    square=st.booleans(),
)
def test_sizes_are_even_never_larger_and_of_the_same_shape(
    width: int, height: int, max_side: int, square: bool
) -> None:
    chosen = NormaliseSettings(max_side=max_side, square=square)
    fit = fit_size(width, height, chosen)
    new_width, new_height = fit.picture
    assert new_width % 2 == new_height % 2 == 0
    assert 2 <= new_width <= min(width, max_side)
    assert 2 <= new_height <= min(height, max_side)
    scale = min(1, max_side / max(width, height))
    assert new_width == pytest.approx(max(2, width * scale), abs=2)
    assert new_height == pytest.approx(max(2, height * scale), abs=2)
    assert fit.canvas == ((max_side, max_side) if square else fit.picture)
    if max(width, height) >= max_side:
        assert max(fit.picture) == max_side


@pytest.mark.parametrize("colour", [(200, 30, 40), (20, 180, 60), (30, 40, 220), (128, 128, 128)])
def test_colours_stay(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    picture = np.empty((120, 160, 3), np.uint8)
    picture[:] = colour
    path = tmp_path / "a.mp4"
    write_h264(path, [picture] * 5, fps=25, crf=10)
    reencode(path, tmp_path / "b.mp4", SMALL)
    for shown in decoded(tmp_path / "b.mp4"):
        assert np.abs(np.median(shown, axis=(0, 1)) - colour).max() <= 4
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        # FFmpeg's numbers of SMPTE 170M and of the limited range.
        assert (context.colorspace, context.color_range) == (6, 1)


def test_smaller_video_is_not_scaled_up_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_h264(path, [flat(9, width=64, height=48)] * 5, fps=25, crf=20)
    result = reencode(path, tmp_path / "b.mp4", SMALL)
    assert decoded(tmp_path / "b.mp4")[0].shape == (48, 64, 3)
    assert result.remark == "its longer side has only 64 pixels, not 160"


def test_detail_that_is_too_fine_becomes_its_mean_and_no_pattern(tmp_path: Path) -> None:
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, ::2] = 255
    path = tmp_path / "a.mp4"
    write_h264(path, [picture] * 5, fps=25, crf=1)
    reencode(path, tmp_path / "b.mp4", SMALL)
    for shown in decoded(tmp_path / "b.mp4"):
        assert np.abs(shown.astype(int) - 127).max() <= 12


def test_times_that_leap_are_refused_before_a_picture_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"bf": "0"})
        stream.pix_fmt, stream.width, stream.height = "yuv420p", 160, 120
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(flat(9), format="rgb24")
            frame.pts, frame.time_base = number * 25 * 3600, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="3 frames in 10800 seconds") as caught:
        reencode(path, tmp_path / "b.mp4", SMALL)
    assert caught.value.status == Status.DECODE_ERROR
    assert not (tmp_path / "b.mp4").exists()
