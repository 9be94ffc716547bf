"""The frames asked for are the frames given, against a full decode with PyAV."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reelcheck.errors import VideoError
from reelcheck.records import Frame
from reelcheck.status import Status
from tasks.faces.decode import Decoder, FrameReader, choose_decoder
from tasks.faces.probe import probe_video

Make = Callable[[Any], Path]
Picture = NDArray[np.uint8]
LARGEST_DECORD_DIFFERENCE = 2.0
"""Mean grey levels: decord converts colours with another routine."""


@lru_cache
def decode_all(path: Path) -> list[tuple[float | None, Picture]]:
    """Time and stored picture of every frame that FFmpeg gives when read from start to end."""
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def read(path: Path, plan: list[int], decoder: Decoder | None = None) -> tuple[list[Frame], str]:
    reader = FrameReader(path, probe_video(path), plan)
    if decoder is not None:
        reader.decoder = decoder
    return list(reader), reader.decoder


def shown(picture: Picture, recipe: Any) -> Picture:
    """The stored picture as a player shows it."""
    turned = np.rot90(picture, k=recipe.rotation // 90 % 4)
    if recipe.aspect is None:
        return turned
    size = (round(turned.shape[1] * float(recipe.aspect)), turned.shape[0])
    return np.asarray(cv2.resize(turned, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def difference(left: Picture, right: Picture) -> float:
    assert left.shape == right.shape
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_frames_of_any_plan_are_those_of_a_full_decode(
    any_recipe: Any, any_video: Path, data: st.DataObject
) -> None:
    truth = decode_all(any_video)
    everything = st.sets(st.integers(0, len(truth) - 1), min_size=1, max_size=12)
    plan = sorted(data.draw(everything))
    probe = probe_video(any_video)
    frames, decoder = read(any_video, plan)
    assert decoder == choose_decoder(probe)
    assert [frame.frame_index for frame in frames] == plan
    assert [frame.pts_seconds for frame in frames] == [probe.pts_seconds[i] for i in plan]
    for frame in frames:
        expected = shown(truth[frame.frame_index][1], any_recipe)
        if decoder == "pyav":
            np.testing.assert_array_equal(frame.rgb_HWC, expected)
        else:
            assert difference(frame.rgb_HWC, expected) <= LARGEST_DECORD_DIFFERENCE


def test_neighbouring_frames_differ_by_more_than_is_allowed(any_video: Path) -> None:
    # Otherwise the test above could not tell one frame from the next.
    truth = decode_all(any_video)
    for (_, left), (_, right) in itertools.pairwise(truth):
        assert difference(left, right) > 5 * LARGEST_DECORD_DIFFERENCE


def test_frames_by_pyav_are_those_of_a_full_decode_for_every_stream(
    any_recipe: Any, any_video: Path
) -> None:
    truth = decode_all(any_video)
    frames, decoder = read(any_video, list(range(len(truth))), "pyav")
    assert decoder == "pyav"
    assert [frame.frame_index for frame in frames] == list(range(len(truth)))
    for frame, (_, picture) in zip(frames, truth, strict=True):
        np.testing.assert_array_equal(frame.rgb_HWC, shown(picture, any_recipe))


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_of_a_turned_video_are_upright(
    make_video: Make, recipe_type: type[Any], rotation: int, decoder: Decoder
) -> None:
    # Two decoders with their own FFmpeg agree which way is up.
    path = make_video(recipe_type(f"turned{rotation % 360}.mp4", rotation=rotation))
    (frame,), used = read(path, [5], decoder)
    assert used == decoder
    expected = np.rot90(decode_all(path)[5][1], k=rotation // 90 % 4)
    assert difference(frame.rgb_HWC, expected) <= LARGEST_DECORD_DIFFERENCE


def test_frames_turned_and_anamorphic_have_the_right_shape(
    make_video: Make, recipe_type: type[Any]
) -> None:
    # 96 x 64 of pixels 3/2 as wide as high is 144 x 64, turned 64 x 144: nine to four.
    recipe = recipe_type("both.mp4", rotation=90, aspect=Fraction(3, 2))
    (frame,), _ = read(make_video(recipe), [0])
    height, width = frame.rgb_HWC.shape[:2]
    assert height / width == pytest.approx(144 / 64, rel=0.02)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("width", [1080, 700, 854])
def test_frames_of_any_width_are_contiguous(
    make_video: Make, recipe_type: type[Any], width: int, decoder: Decoder
) -> None:
    # FFmpeg pads rows of such widths; MediaPipe would read the padding as pixels.
    recipe = recipe_type(f"w{width}.mp4", width=width, height=480, num_frames=3)
    path = make_video(recipe)
    frames, used = read(path, [0, 2], decoder)
    assert used == decoder
    for frame in frames:
        assert frame.rgb_HWC.shape == (480, width, 3)
        assert frame.rgb_HWC.flags.c_contiguous
        assert frame.rgb_HWC.dtype == np.uint8
        expected = decode_all(path)[frame.frame_index][1]
        assert difference(frame.rgb_HWC, expected) <= LARGEST_DECORD_DIFFERENCE


@pytest.mark.parametrize(
    ("values", "decoder"),
    [
        ({"name": "d1.mp4"}, "decord"),
        ({"name": "d2.mkv", "container": "matroska"}, "decord"),
        ({"name": "d3.mp4", "num_hidden": 7}, "pyav"),
        ({"name": "d4.ts", "container": "mpegts"}, "pyav"),
        ({"name": "d5.avi", "container": "avi", "codec": "mpeg4"}, "pyav"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_choose_decoder_decord_only_where_it_is_exact(
    make_video: Make, recipe_type: type[Any], values: dict[str, Any], decoder: Decoder
) -> None:
    pytest.importorskip("decord")
    path = make_video(recipe_type(**values))
    assert choose_decoder(probe_video(path)) == decoder


def test_frames_decord_cannot_open_come_from_pyav(make_video: Make, recipe_type: type[Any]) -> None:
    recipe = recipe_type("av1.mp4", codec="libsvtav1", options={"preset": "12"}, num_frames=10)
    try:
        path = make_video(recipe)
    except av.codec.codec.UnknownCodecError:
        pytest.skip("no AV1 encoder")
    frames, decoder = read(path, [0, 4, 9])
    assert decoder == "pyav"
    for frame in frames:
        np.testing.assert_array_equal(frame.rgb_HWC, decode_all(path)[frame.frame_index][1])


def damaged(path: Path, target: Path, start: float, end: float) -> Path:
    """A copy with part of its pictures overwritten."""
    content = bytearray(path.read_bytes())
    first, last = content.index(b"mdat") + 8, content.index(b"moov")
    size = last - first
    begin, stop = first + int(start * size), first + int(end * size)
    content[begin:stop] = np.random.default_rng(0).bytes(stop - begin)
    target.write_bytes(content)
    return target


def test_frames_of_a_video_damaged_inside_are_fewer_and_ascending(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    whole = make_video(recipe_type("long.mp4", num_frames=60, options={"g": "10", "crf": "10"}))
    path = damaged(whole, tmp_path / "a.mp4", 0.4, 0.6)
    plan = list(range(60))
    reader = FrameReader(path, probe_video(path), plan)
    frames = list(reader)
    indices = [frame.frame_index for frame in frames]
    assert indices == sorted(set(indices))
    assert set(indices) <= set(plan)
    assert len(frames) >= 20
    truth = decode_all(whole)
    for frame in frames[:20]:
        assert difference(frame.rgb_HWC, truth[frame.frame_index][1]) <= LARGEST_DECORD_DIFFERENCE


def test_frames_of_a_video_damaged_throughout_are_a_decode_error(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    whole = make_video(recipe_type("long.mp4", num_frames=60, options={"g": "10", "crf": "10"}))
    path = damaged(whole, tmp_path / "a.mp4", 0, 1)
    with pytest.raises(VideoError) as caught:
        read(path, [0, 20, 40])
    assert caught.value.status is Status.DECODE_ERROR
    assert caught.value.reason
