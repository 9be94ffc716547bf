"""Checksums inside a Parquet file: nothing of it is parsed before it is known to be as written.

Parquet itself has checksums of pages only: not of their headers, nor of the footer, which holds
schema, metadata and the place of everything. A seal lies between the last column chunk and the
footer, where readers of Parquet do not look, so that it stays a file for all of them:

    column chunks | seal | footer | length of the footer | PAR1

The seal: CRC-32 of each column chunk, row group by row group; their number; the letters SEAL;
CRC-32 of the seal up to there and of all that comes after it. Numbers are unsigned, of 4 bytes,
little-endian. A reader of some columns checks these columns only.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TAIL = struct.Struct("<I4s")
_MAGIC = b"PAR1"
_NUMBER = struct.Struct("<I")
_SEAL_END = struct.Struct("<I4sI")
"""Number of column chunks, mark of a seal, and the last checksum."""
_MARK = b"SEAL"
_PIECE_BYTES = 2**20


class SealError(ValueError):
    """The file is not as it was written."""


class NoSealError(ValueError):
    """The file has no seal: another program wrote it, or another version of this one."""


def seal(path: Path) -> None:
    """Add the seal to a Parquet file that has none."""
    with pa.OSFile(str(path)) as file:
        metadata = pq.read_metadata(file)
        chunks = [
            _compute_checksum(file, *_locate_chunk(metadata, group, column))
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        ]
        start, rest = _read_footer(file)
    listed = struct.pack(f"<{len(chunks) + 1}I", *chunks, len(chunks)) + _MARK
    with path.open("r+b") as target:
        target.seek(start)
        target.write(listed + _NUMBER.pack(zlib.crc32(rest, zlib.crc32(listed))) + rest)


@contextmanager
def open_sealed(path: Path, *, columns: Collection[str] | None = None) -> Iterator[pq.ParquetFile]:
    """Open a sealed Parquet file whose footer and columns are as they were written.

    Args:
        path: the file.
        columns: names of the columns that will be read; None: all.

    Raises:
        SealError: something is not as it was written.
        NoSealError: the file has no seal.
        OSError: the file cannot be read.
    """
    with pa.OSFile(str(path)) as file:
        checksums = _read_seal(file)
        with pq.ParquetFile(file) as parquet:
            _require_chunks(file, parquet.metadata, checksums, columns)
            yield parquet


def _read_seal(file: pa.NativeFile) -> tuple[int, ...]:
    """Read the checksums of the column chunks; all that is not in a chunk is checked."""
    start, rest = _read_footer(file)
    if start < _SEAL_END.size:
        raise NoSealError("it has no seal")
    end = _read(file, start - _SEAL_END.size, _SEAL_END.size)
    num_chunks, mark, known = _SEAL_END.unpack(end)
    if mark != _MARK:
        raise NoSealError("it has no seal")
    first = start - _SEAL_END.size - _NUMBER.size * num_chunks
    if first < len(_MAGIC):
        raise SealError("its seal is damaged")
    listed = _read(file, first, start - _NUMBER.size - first)
    if zlib.crc32(rest, zlib.crc32(listed)) != known:
        raise SealError("its footer or seal is not as it was written")
    return struct.unpack_from(f"<{num_chunks}I", listed)


def _require_chunks(
    file: pa.NativeFile,
    metadata: pq.FileMetaData,
    checksums: tuple[int, ...],
    columns: Collection[str] | None,
) -> None:
    if len(checksums) != metadata.num_row_groups * metadata.num_columns:
        raise SealError("its seal is one of another file")
    for index, checksum in enumerate(checksums):
        group, column = divmod(index, metadata.num_columns)
        # The parts of a nested column have paths that begin with its name.
        name = metadata.schema.column(column).path.partition(".")[0]
        if columns is None or name in columns:
            found = _compute_checksum(file, *_locate_chunk(metadata, group, column))
            if found != checksum:
                raise SealError(f"its column {name} is not as it was written")


def _locate_chunk(metadata: pq.FileMetaData, group: int, column: int) -> tuple[int, int]:
    """Locate a column chunk in the file: its first byte, and its number of bytes."""
    chunk = metadata.row_group(group).column(column)
    start = min(
        offset
        for offset in (chunk.dictionary_page_offset, chunk.data_page_offset)
        if offset is not None
    )
    return start, chunk.total_compressed_size


def _compute_checksum(file: pa.NativeFile, start: int, num_bytes: int) -> int:
    checksum = 0
    file.seek(start)
    while num_bytes > 0:
        piece = file.read(min(num_bytes, _PIECE_BYTES))
        if not piece:
            raise SealError("it has been cut")
        checksum = zlib.crc32(piece, checksum)
        num_bytes -= len(piece)
    return checksum


def _read_footer(file: pa.NativeFile) -> tuple[int, bytes]:
    """Read where the footer begins, and all from there to the file's end."""
    size = file.size()
    if size < _TAIL.size:
        raise SealError("it has been cut")
    length, magic = _TAIL.unpack(_read(file, size - _TAIL.size, _TAIL.size))
    start = size - _TAIL.size - length
    if magic != _MAGIC or start < len(_MAGIC):
        raise SealError("it has been cut, or is no Parquet file")
    return start, _read(file, start, size - start)


def _read(file: pa.NativeFile, start: int, num_bytes: int) -> bytes:
    file.seek(start)
    content: bytes = file.read(num_bytes)
    return content
