"""Crop sequences <-> the crop files of a shard.

- A crop file is one Arrow IPC file: one record batch per sequence, memory-mapped on reading. Raw
  uint8: lossless, and the cheapest random access of all formats measured (docs/decisions.md); or
  the same as zstd, which the reader need not be told.
- A shard has as many crop files as it takes to keep each of bounded size. A sequence is found by
  its part and row, which the sequence table holds.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from reelcheck.errors import StoreError
from reelcheck.records import RGB, CropSequence
from storage.atomic import atomic_path
from storage.layout import StoreLayout
from storage.tables import Row

MAX_PART_BYTES = 2**30
"""A crop file that has reached this size is followed by another."""
_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.string(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("side_pixels", pa.int32(), nullable=False),
        pa.field("crops_THWC", pa.large_binary(), nullable=False),
    ]
)


class CropWriter:
    """Append sequences to numbered crop files; use with ``with``.

    The same sequences in the same order give the same bytes. Each file appears when it is whole.

    Args:
        path_of: gives the path of a part by its number.
        compress: store zstd.
        max_part_bytes: size from which the next sequence begins a new part.
    """

    def __init__(
        self,
        path_of: Callable[[int], Path],
        *,
        compress: bool = False,
        max_part_bytes: int = MAX_PART_BYTES,
    ) -> None:
        self._path_of = path_of
        self._options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
        self._max_part_bytes = max_part_bytes
        self._open_part = ExitStack()
        self._part = 0
        self._row = 0

    def append(self, sequence: CropSequence) -> tuple[int, int]:
        """Write one sequence and give its part and its row in there."""
        if self._row == 0:
            path = self._open_part.enter_context(atomic_path(self._path_of(self._part)))
            self._sink = self._open_part.enter_context(pa.OSFile(str(path), "wb"))
            self._writer = self._open_part.enter_context(
                pa.ipc.new_file(self._sink, _SCHEMA, options=self._options)
            )
        place = (self._part, self._row)
        self._writer.write_batch(_to_batch(sequence))
        self._row += 1
        if self._sink.tell() >= self._max_part_bytes:
            self._open_part.close()
            self._part, self._row = self._part + 1, 0
        return place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_part.__exit__(exc_type, exc, traceback)


class CropReader:
    """Random access to the sequences of one crop file.

    Args:
        path: the crop file.

    Raises:
        StoreError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise self._damaged(error) from error

    def __len__(self) -> int:
        return int(self._file.num_record_batches)

    def read(self, row: int) -> RGB:
        """Crops of one sequence: (T, S, S, 3) uint8, read-only; not copied unless compressed.

        Raises:
            StoreError: this sequence is damaged or not there.
        """
        try:
            batch = self._file.get_batch(row)
            side = batch["side_pixels"][0].as_py()
            # The only value of its column; a scalar's as_buffer() would copy it.
            data = batch["crops_THWC"].buffers()[2]
            return np.frombuffer(data, np.uint8).reshape(-1, side, side, 3)
        except (OSError, ValueError, IndexError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"crops {self._path} cannot be read ({error}); delete the files of that shard "
            "and run preprocess again"
        )


def read_sequence(layout: StoreLayout, row: Row) -> CropSequence:
    """The crop sequence of a manifest row, with its crops.

    Raises:
        StoreError: the crops are missing or damaged.
    """
    lists = {name: tuple(row[name]) for name in _LISTS}
    return CropSequence(
        sequence_id=row["sequence_id"],
        video_id=row["video_id"],
        track_id=row["track_id"],
        crops_THWC=open_crops(layout.crops_path(row["shard"], row["part"])).read(row["row"]),
        **lists,
    )


@lru_cache(maxsize=256)
def open_crops(path: Path) -> CropReader:
    """A reader that is kept open."""
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


def _to_batch(sequence: CropSequence) -> pa.RecordBatch:
    num_frames, side, _, _ = sequence.crops_THWC.shape
    return pa.RecordBatch.from_arrays(
        [
            pa.array([sequence.sequence_id]),
            pa.array([num_frames], pa.int32()),
            pa.array([side], pa.int32()),
            pa.array([sequence.crops_THWC.tobytes()], pa.large_binary()),
        ],
        schema=_SCHEMA,
    )
