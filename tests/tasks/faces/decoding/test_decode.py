"""The frames asked for are the frames given, against a full decode with PyAV."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
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

from reelcheck.config import Decoder
from reelcheck.errors import VideoError
from reelcheck.records import Frame
from reelcheck.status import Status
from tasks.faces.decoding.decode import FrameReader, reads_exactly
from tasks.faces.decoding.plan import plan_frames
from tasks.faces.decoding.probe import probe_video

Make = Callable[[Any], Path]
Picture = NDArray[np.uint8]
SMALLEST_CHANGE = 10.0
"""Mean grey levels by which neighbouring pictures differ."""


def rgb_of(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


@lru_cache
def decode_all(path: Path) -> list[tuple[float | None, Picture]]:
    """Time and stored picture of every frame that FFmpeg gives when read from start to end."""
    with av.open(str(path)) as container:
        return [(frame.time, rgb_of(frame)) for frame in container.decode(video=0)]


def reader_of(path: Path, frames: Sequence[int], decoder: Decoder = "auto") -> FrameReader:
    probe = probe_video(path)
    return FrameReader(path, probe, plan_frames(probe, np.array(frames)), decoder=decoder)


def read(path: Path, frames: Sequence[int], decoder: Decoder = "auto") -> tuple[list[Frame], str]:
    reader = reader_of(path, frames, decoder)
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
    wanted = sorted(data.draw(everything))
    decoders: tuple[Decoder, ...] = ("auto", "decord", "pyav")
    decoder = data.draw(st.sampled_from(decoders))
    probe = probe_video(any_video)
    frames, used = read(any_video, wanted, decoder)
    assert used == "pyav" or (decoder != "pyav" and reads_exactly(probe))
    assert [frame.frame_index for frame in frames] == wanted
    assert [frame.pts_seconds for frame in frames] == [probe.pts_seconds[i] for i in wanted]
    for frame in frames:
        expected = shown(truth[frame.frame_index][1], any_recipe)
        np.testing.assert_array_equal(frame.rgb_HWC, expected)


def test_neighbouring_frames_differ(any_video: Path) -> None:
    # Otherwise the test above could not tell one frame from the next.
    truth = decode_all(any_video)
    for (_, left), (_, right) in itertools.pairwise(truth):
        assert difference(left, right) > SMALLEST_CHANGE


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
    np.testing.assert_array_equal(frame.rgb_HWC, expected)


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
        np.testing.assert_array_equal(frame.rgb_HWC, expected)


@pytest.mark.parametrize(
    ("values", "is_exact"),
    [
        ({"name": "d1.mp4"}, True),
        ({"name": "d2.mkv", "container": "matroska"}, False),
        ({"name": "d3.mp4", "num_hidden": 7}, False),
        ({"name": "d4.ts", "container": "mpegts"}, False),
        ({"name": "d5.avi", "container": "avi", "codec": "mpeg4"}, False),
        ({"name": "d6.mp4", "pixels": "yuv420p10le"}, False),
        ({"name": "d7.mp4", "pixels": "yuv444p", "height": 65}, False),
        ({"name": "d8.mp4", "options": {"x264-params": "interlaced=1"}}, False),
        ({"name": "d9.mp4", "aspect": Fraction(4, 3)}, False),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_reads_exactly_decord_only_where_it_does(
    make_video: Make, recipe_type: type[Any], values: dict[str, Any], is_exact: bool
) -> None:
    pytest.importorskip("decord")
    assert reads_exactly(probe_video(make_video(recipe_type(**values)))) == is_exact


def test_decord_reads_on_request_and_where_pyav_failed(
    make_video: Make, recipe_type: type[Any]
) -> None:
    pytest.importorskip("decord")
    path = make_video(recipe_type("without_b.mp4", options={"bf": "0", "g": "500"}))
    probe = probe_video(path)
    plan = plan_frames(probe, np.array([5, 20, 39]))
    used = {
        (decoder, is_retry): FrameReader(path, probe, plan, decoder=decoder, is_retry=is_retry)
        for decoder in ("auto", "decord", "pyav")
        for is_retry in (False, True)
    }
    assert all(len(list(reader)) == 3 for reader in used.values())
    assert {key for key, reader in used.items() if reader.decoder == "decord"} == {
        ("auto", True),
        ("decord", False),
        ("pyav", True),
    }
    # A second attempt cannot prove that nothing was damaged: PyAV died there.
    assert {key for key, reader in used.items() if reader.problem} == {
        ("auto", True),
        ("pyav", True),
    }


def test_num_packets_decoded_is_what_the_way_taken_costs(
    make_video: Make, recipe_type: type[Any]
) -> None:
    path = make_video(recipe_type("with_b.mp4", options={"bf": "3", "g": "500"}))
    by_plan, in_order = reader_of(path, [39], "pyav"), reader_of(path, [39], "decord")
    assert len(list(by_plan)) == len(list(in_order)) == 1
    assert by_plan.num_packets_decoded < 0.7 * in_order.num_packets_decoded


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


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("seed", range(8))
def test_frames_of_a_damaged_video_are_those_of_the_whole_one(
    make_video: Make, recipe_type: type[Any], tmp_path: Path, seed: int, decoder: Decoder
) -> None:
    # What a decoder makes up for lost data, and what is predicted from that, is never given.
    options = {"g": "15", "bf": "3", "crf": "10"}
    whole = make_video(recipe_type("plan_damage.mp4", num_frames=60, options=options))
    start = 0.1 + 0.1 * seed
    path = damaged(whole, tmp_path / "a.mp4", start, start + 0.02)
    reader = reader_of(path, range(60), decoder)
    frames = list(reader)
    assert reader.problem
    assert 20 <= len(frames) < 60
    truth = decode_all(whole)
    changes = [difference(frame.rgb_HWC, truth[frame.frame_index][1]) for frame in frames]
    # The last lines of the picture before the first error can be wrong and still be valid.
    assert sum(change > 0 for change in changes) <= 3
    assert max(changes) < 2


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("cabac", [0, 1])
def test_flipped_bits_are_told_by_either_decoder(
    make_video: Make, recipe_type: type[Any], tmp_path: Path, cabac: int, decoder: Decoder
) -> None:
    options = {"g": "12", "x264-params": f"cabac={cabac}"}
    size = {"width": 320, "height": 240, "num_frames": 36}
    whole = make_video(recipe_type(f"flips{cabac}.mp4", options=options, **size))
    content, truth = whole.read_bytes(), decode_all(whole)
    first, last = content.index(b"mdat") + 8, content.index(b"moov")
    rng = np.random.default_rng(cabac)
    num_silent = num_told = 0
    for _ in range(24):
        changed = bytearray(content)
        changed[rng.integers(first, last)] ^= 1 << rng.integers(8)
        path = tmp_path / "a.mp4"
        path.write_bytes(changed)
        reader = reader_of(path, range(36), decoder)
        with suppress(VideoError):
            frames = list(reader)
            changes = (difference(f.rgb_HWC, truth[f.frame_index][1]) for f in frames)
            num_silent += reader.problem is None and any(change > 2 for change in changes)
        num_told += reader.problem is not None
    # H.264 has no checksum: a few flipped bits give another valid stream.
    assert num_silent <= 3
    assert num_told >= 16


def test_frames_of_a_video_damaged_throughout_are_a_decode_error(
    make_video: Make, recipe_type: type[Any], tmp_path: Path
) -> None:
    whole = make_video(recipe_type("long.mp4", num_frames=60, options={"g": "10", "crf": "10"}))
    path = damaged(whole, tmp_path / "a.mp4", 0, 1)
    with pytest.raises(VideoError) as caught:
        read(path, [0, 20, 40])
    assert caught.value.status is Status.DECODE_ERROR
    assert caught.value.reason
