"""Crop sequences <-> shard files.

- A shard is one Arrow IPC file: raw uint8, one record batch per sequence, memory-mapped on reading.
  Lossless, and the cheapest random access of all formats measured (docs/decisions.md).
- A sequence is found by its row number, which the sequence table holds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelcheck.errors import StoreError
from reelcheck.records import RGB, CropSequence
from storage.atomic import atomic_path

_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.string(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("side_pixels", pa.int32(), nullable=False),
        pa.field("crops_THWC", pa.large_binary(), nullable=False),
    ]
)


def write_crops(path: Path, sequences: Sequence[CropSequence]) -> None:
    """Write sequences in the given order, atomically; row i is ``sequences[i]``."""
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
    ):
        for sequence in sequences:
            writer.write_batch(_to_batch(sequence))


class CropReader:
    """Random access to the sequences of one shard file.

    Args:
        path: the shard file.

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
        """Crops of one sequence: (T, S, S, 3) uint8, read-only, not copied.

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
