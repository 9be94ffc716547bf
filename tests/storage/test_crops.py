"""Crop sequences to shard files and back, byte for byte."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flipped_bits import flip_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import DamagedError, StoreError
from reelcheck.records import CropSequence
from storage.crops import CropReader, CropWriter, read_sequence, row_of_sequence
from storage.layout import StoreLayout
from storage.schemas import SEQUENCES
from storage.tables import read_rows, write_table

SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 24)), min_size=1, max_size=6)


def make_sequences(sizes: Sequence[tuple[int, int]], seed: int = 0) -> list[CropSequence]:
    """Random pictures of (number of frames, side)."""
    generator = np.random.default_rng(seed)
    return [
        CropSequence(
            sequence_id=f"s{number}",
            video_id="v",
            track_id=0,
            crops_THWC=generator.integers(0, 256, (frames, side, side, 3), np.uint8),
            frame_indices=tuple(range(frames)),
            pts_seconds=(0.0,) * frames,
            boxes_xyxy=((0.0, 0.0, 1.0, 1.0),) * frames,
            confidences=(1.0,) * frames,
            sharpness=(100.0,) * frames,
            brightness=(120.0,) * frames,
            keypoints_xy=(),
        )
        for number, (frames, side) in enumerate(sizes)
    ]


def write_crops(path: Path, sequences: Sequence[CropSequence], *, compress: bool = False) -> None:
    """All into one file; row i is ``sequences[i]``."""
    with CropWriter(
        lambda number: path.with_name(f"{path.name}{number or ''}"), compress=compress
    ) as w:
        positions = [w.append(sequence) for sequence in sequences]
    assert positions == [(0, row) for row in range(len(sequences))]


@settings(deadline=None, max_examples=40)
@given(compress=st.booleans(), sizes=SIZES, data=st.data())
def test_crops_are_read_back_exactly_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    compress: bool,
    sizes: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    sequences = make_sequences(sizes, seed=len(sizes))
    path = tmp_path_factory.mktemp("crops") / "shard.arrow"
    write_crops(path, sequences, compress=compress)
    reader = CropReader(path)
    assert len(reader) == len(sequences)
    for row in data.draw(st.lists(st.sampled_from(range(len(sizes))), max_size=10)):
        crops = reader.read(row, sequence_id=f"s{row}")
        assert crops.dtype == np.uint8
        np.testing.assert_array_equal(crops, sequences[row].crops_THWC, strict=True)


@pytest.mark.parametrize("compress", [False, True])
def test_crops_same_sequences_give_same_bytes(tmp_path: Path, compress: bool) -> None:
    for name in ("a", "b"):
        write_crops(tmp_path / name, make_sequences([(3, 8), (2, 5)]), compress=compress)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_crops_compressed_take_less_room(tmp_path: Path) -> None:
    (noise,) = make_sequences([(4, 64)])
    flat = replace(noise, crops_THWC=np.zeros_like(noise.crops_THWC))
    for name, compress in (("raw", False), ("zstd", True)):
        write_crops(tmp_path / name, [flat], compress=compress)
    assert (tmp_path / "zstd").stat().st_size < (tmp_path / "raw").stat().st_size / 10


def test_crops_from_a_view_are_written_as_seen(tmp_path: Path) -> None:
    (sequence,) = make_sequences([(4, 6)])
    turned = replace(sequence, crops_THWC=sequence.crops_THWC[::-1, :, ::-1])
    write_crops(tmp_path / "c", [turned])
    np.testing.assert_array_equal(
        CropReader(tmp_path / "c").read(0, sequence_id="s0"), turned.crops_THWC
    )


def test_crops_none_at_all_leave_no_file(tmp_path: Path) -> None:
    write_crops(tmp_path / "c", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compress", [False, True])
def test_crops_files_are_bounded_and_every_sequence_is_where_it_was_said(
    tmp_path: Path, compress: bool
) -> None:
    sequences = make_sequences([(2, 20), (3, 20), (1, 20), (30, 20), (1, 20), (1, 20), (2, 20)])
    limit = 3_000
    with CropWriter(
        lambda number: tmp_path / str(number), compress=compress, max_file_bytes=limit
    ) as writer:
        positions = [writer.append(sequence) for sequence in sequences]
    assert positions == sorted(set(positions))
    assert len({number for number, _ in positions}) in range(3, len(sequences))
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number, _ in positions}
    largest = max(sequence.crops_THWC.nbytes for sequence in sequences)
    assert all(path.stat().st_size < limit + largest + 2000 for path in tmp_path.iterdir())
    for sequence, (number, row) in zip(sequences, positions, strict=True):
        crops = CropReader(tmp_path / str(number)).read(row, sequence_id=sequence.sequence_id)
        np.testing.assert_array_equal(crops, sequence.crops_THWC, strict=True)


def test_crops_last_sequence_that_fills_its_file_begins_no_empty_one(tmp_path: Path) -> None:
    with CropWriter(lambda number: tmp_path / str(number), max_file_bytes=1) as writer:
        positions = [writer.append(sequence) for sequence in make_sequences([(1, 8), (1, 8)])]
    assert positions == [(0, 0), (1, 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def stop_after(sequences: Sequence[CropSequence], path_of: Callable[[int], Path]) -> None:
    with CropWriter(path_of, max_file_bytes=1000) as writer:
        for sequence in sequences:
            writer.append(sequence)
        raise KeyboardInterrupt


def test_crops_stopped_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop_after(make_sequences([(5, 10), (1, 8)]), lambda number: tmp_path / str(number))
    (path,) = tmp_path.iterdir()
    assert path.name == "0"
    assert len(CropReader(path)) == 1


def test_crops_cannot_be_changed_by_the_reader(tmp_path: Path) -> None:
    write_crops(tmp_path / "c", make_sequences([(1, 4)]))
    crops = CropReader(tmp_path / "c").read(0, sequence_id="s0")
    with pytest.raises(ValueError, match="read-only"):
        crops[0, 0, 0, 0] = 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_crops_are_not_copied_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mapped.arrow"
    write_crops(path, make_sequences([(30, 112)]))
    reader = CropReader(path)
    crops = reader.read(0, sequence_id="s0")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    (mapped,) = (line.split()[0] for line in maps if line.endswith(str(path)))
    start, end = (int(address, 16) for address in mapped.split("-"))
    assert start <= crops.ctypes.data < end


def test_crops_stay_valid_after_the_file_is_replaced(tmp_path: Path) -> None:
    first, second = make_sequences([(2, 8)], seed=1), make_sequences([(2, 8)], seed=2)
    write_crops(tmp_path / "c", first)
    crops = CropReader(tmp_path / "c").read(0, sequence_id="s0")
    write_crops(tmp_path / "c", second)
    np.testing.assert_array_equal(crops, first[0].crops_THWC)
    np.testing.assert_array_equal(
        CropReader(tmp_path / "c").read(0, sequence_id="s0"), second[0].crops_THWC
    )


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_crops_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("crops") / "shard.arrow"
    write_crops(path, make_sequences([(3, 8), (2, 5)]))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreError, match=r"shard\.arrow cannot be read"):
        CropReader(path)


def test_crops_file_missing_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.arrow cannot be read"):
        CropReader(tmp_path / "none.arrow")


def test_crops_damaged_batch_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_crops(path, make_sequences([(3, 8)]))
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xff\xff\xff", content.index(b"\xff\xff\xff\xff") + 4)
    content[start : start + 64] = bytes(64)
    path.write_bytes(content)
    reader = CropReader(path)
    with pytest.raises(StoreError):
        reader.read(0, sequence_id="s0")


def test_sequence_comes_back_from_its_row_and_its_crops(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path)
    (made,) = make_sequences([(3, 8)])
    points = tuple(tuple(float(n) for n in range(12)) for _ in range(3))
    sequence = replace(made, keypoints_xy=points, fingerprints=(b"a" * 32, b"b" * 32))
    write_crops(layout.crops_path("s", 0), [sequence])
    row = row_of_sequence(sequence, shard="s", crop_file=0, crop_row=0)
    assert (row["num_frames"], row["face_pixels"]) == (3, 1.0)
    write_table(tmp_path / "t.parquet", [row], SEQUENCES)
    (stored,) = read_rows(tmp_path / "t.parquet", SEQUENCES)
    again = read_sequence(layout, stored)
    np.testing.assert_array_equal(again.crops_THWC, sequence.crops_THWC)
    assert row_of_sequence(again, shard="s", crop_file=0, crop_row=0) == {
        **row,
        "boxes_xyxy": [list(box) for box in sequence.boxes_xyxy],
        "keypoints_xy": [list(point) for point in points],
    }


@pytest.mark.parametrize("compress", [False, True])
def test_crops_no_flipped_bit_gives_other_pictures(tmp_path: Path, *, compress: bool) -> None:
    path = tmp_path / "c"
    sequences = make_sequences([(2, 8), (2, 8), (1, 8)])
    write_crops(path, sequences, compress=compress)
    num_silent = 0
    for place in flip_bits(path, num_flips=600):
        row = place % len(sequences)
        with suppress(DamagedError):
            crops = CropReader(path).read(row, sequence_id=f"s{row}")
            np.testing.assert_array_equal(crops, sequences[row].crops_THWC, strict=True)
            num_silent += 1
    assert num_silent < 500  # in other sequences, and in padding


def test_crops_every_flipped_bit_of_the_pixels_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c"
    (sequence,) = make_sequences([(2, 8)])
    write_crops(path, [sequence])
    start = path.read_bytes().index(sequence.crops_THWC.tobytes())
    for place in flip_bits(path):
        if start <= place < start + sequence.crops_THWC.nbytes:
            with pytest.raises(DamagedError, match="s0 is not as it was written"):
                CropReader(path).read(0, sequence_id="s0")


def test_crops_of_another_sequence_are_refused(tmp_path: Path) -> None:
    write_crops(tmp_path / "c", make_sequences([(1, 4), (1, 4)]))
    with pytest.raises(DamagedError, match="s1 is not as it was written"):
        CropReader(tmp_path / "c").read(0, sequence_id="s1")
