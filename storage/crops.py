"""Crop sequences <-> crop files of a shard.

- A crop file is one Arrow IPC file: one record batch per sequence, memory-mapped on reading. Raw
  uint8: lossless, and the cheapest random access of all formats measured (docs/decisions.md); or
  the same compressed with zstd, which the reader sees by itself.
- Each batch carries a CRC-32 of its sequence and of its place in the file (3 GB/s), which is
  checked whenever the sequence is read: a flipped bit is no other picture.
- A shard has as many crop files as it takes to keep each of bounded size. The sequence table holds
  the number of a sequence's file and its row in there.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from reelcheck.errors import DamagedError
from reelcheck.records import RGB, CropSequence
from storage.atomic import atomic_path
from storage.layout import StoreLayout
from storage.rows import SequenceRow
from storage.schemas import SEQUENCES

MAX_FILE_BYTES = 2**30
"""A crop file that has reached this size is followed by another."""
_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.string(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("side_pixels", pa.int32(), nullable=False),
        pa.field("crops_THWC", pa.large_binary(), nullable=False),
        pa.field("checksum", pa.uint32(), nullable=False),
    ]
)


class CropWriter:
    """Append sequences to numbered crop files; use it with ``with``.

    The same sequences in the same order give the same bytes. Each file appears when it is whole.

    Args:
        path_of: gives the path of a crop file by its number.
        compress: store zstd.
        max_file_bytes: size from which the next sequence begins a new file.
    """

    def __init__(
        self,
        path_of: Callable[[int], Path],
        *,
        compress: bool = False,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._path_of = path_of
        self._options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
        self._max_file_bytes = max_file_bytes
        self._open_file = ExitStack()
        self._number = 0
        self._row = 0

    def append(self, sequence: CropSequence) -> tuple[int, int]:
        """Write one sequence; return the number of its file, and its row in there."""
        if self._row == 0:
            path = self._open_file.enter_context(atomic_path(self._path_of(self._number)))
            self._sink = self._open_file.enter_context(pa.OSFile(str(path), "wb"))
            self._writer = self._open_file.enter_context(
                pa.ipc.new_file(self._sink, _SCHEMA, options=self._options)
            )
        file_and_row = (self._number, self._row)
        self._writer.write_batch(_to_batch(sequence, self._row))
        self._row += 1
        if self._sink.tell() >= self._max_file_bytes:
            self._open_file.close()
            self._number, self._row = self._number + 1, 0
        return file_and_row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_file.__exit__(exc_type, exc, traceback)


class CropReader:
    """Random access to the sequences of one crop file.

    Args:
        path: the crop file.

    Raises:
        DamagedError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        if not self._file.schema.equals(_SCHEMA):
            raise self._damaged("its columns are not those of crops")

    def __len__(self) -> int:
        return int(self._file.num_record_batches)

    def read(self, row: int, *, sequence_id: str) -> RGB:
        """Read the crops of one sequence: (T, S, S, 3) uint8, read-only, copied only if compressed.

        Args:
            row: place of the sequence in the file.
            sequence_id: its id.

        Raises:
            DamagedError: this sequence is not there, or not as it was written.
        """
        try:
            batch = self._file.get_batch(row)
            batch.validate(full=True)
            # The only value of its column; a scalar's as_buffer() would copy it.
            data = batch["crops_THWC"].buffers()[2]
            stored = {name: batch[name][0].as_py() for name in _SMALL_COLUMNS}
            checksum = _compute_checksum(stored, row, data)
            if checksum != stored["checksum"] or stored["sequence_id"] != sequence_id:
                raise self._damaged(f"sequence {sequence_id} is not as it was written")
            shape = (stored["num_frames"], *[stored["side_pixels"]] * 2, 3)
            return np.frombuffer(data, np.uint8).reshape(shape)
        except (OSError, ValueError, LookupError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def _damaged(self, reason: Exception | str) -> DamagedError:
        return DamagedError(
            f"crops {self._path} cannot be read ({reason}); delete the files of that shard "
            "and run preprocess again"
        )


def row_of_sequence(
    sequence: CropSequence, *, shard: str, crop_file: int, crop_row: int
) -> SequenceRow:
    """Make the row of a sequence that ``CropWriter`` has written.

    Args:
        sequence: with or without its crops.
        shard: name of the shard.
        crop_file: number of the crop file.
        crop_row: index of the sequence in that file.
    """
    sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in sequence.boxes_xyxy]
    lists = {name: list(getattr(sequence, name)) for name in _LISTS}
    return SEQUENCES.complete(
        {
            **vars(sequence),
            **lists,
            "shard": shard,
            "crop_file": crop_file,
            "crop_row": crop_row,
            "num_frames": sequence.num_frames,
            "face_pixels": float(np.median(sides)),
        }
    )


def read_sequence(layout: StoreLayout, row: SequenceRow) -> CropSequence:
    """Read the crop sequence of a row, with its crops.

    Raises:
        DamagedError: the crops are missing or damaged.
    """
    values: Mapping[str, Any] = row
    lists = {name: tuple(values[name]) for name in _LISTS}
    crops = open_crops(layout.crops_path(row["shard"], row["crop_file"]))
    return CropSequence(
        sequence_id=row["sequence_id"],
        video_id=row["video_id"],
        track_id=row["track_id"],
        crops_THWC=crops.read(row["crop_row"], sequence_id=row["sequence_id"]),
        **lists,
    )


@lru_cache(maxsize=256)
def open_crops(path: Path) -> CropReader:
    """Open a crop file, or take the reader that is still open."""
    return CropReader(path)


_LISTS = (
    "frame_indices",
    "pts_seconds",
    "boxes_xyxy",
    "confidences",
    "sharpness",
    "brightness",
    "keypoints_xy",
    "fingerprints",
)


_SMALL_COLUMNS = ("sequence_id", "num_frames", "side_pixels", "checksum")


def _to_batch(sequence: CropSequence, row: int) -> pa.RecordBatch:
    num_frames, side, _, _ = sequence.crops_THWC.shape
    data = sequence.crops_THWC.tobytes()
    values = {
        "sequence_id": sequence.sequence_id,
        "num_frames": num_frames,
        "side_pixels": side,
        "crops_THWC": data,
    }
    values["checksum"] = _compute_checksum(values, row, data)
    return pa.RecordBatch.from_pylist([values], schema=_SCHEMA)


def _compute_checksum(values: Mapping[str, Any], row: int, data: bytes | pa.Buffer) -> int:
    """Compute the CRC-32 of a sequence's crops, its id, its shape and its place in the file."""
    described = [values["sequence_id"], values["num_frames"], values["side_pixels"], row]
    return zlib.crc32(data, zlib.crc32(json.dumps(described).encode()))
