"""Rows <-> Parquet, always through one of the schemas, always atomically."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from reelcheck.errors import StoreError
from storage.atomic import atomic_path

Row = dict[str, Any]


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]] | pa.Table,
    schema: pa.Schema,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write rows (missing keys become null) as Parquet; the same rows give the same bytes.

    Args:
        path: the file.
        rows: dictionaries, or a table with the schema's columns, which takes far less memory.
        schema: of the table.
        metadata: text that is stored with it.
    """
    if metadata:
        schema = schema.with_metadata({**schema.metadata, **metadata})
    if isinstance(rows, pa.Table):
        table = pa.table(rows.combine_chunks().columns, schema=schema)
    else:
        table = _to_table(rows, schema)
    table.validate(full=True)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as CSV with the schema's columns; null is an empty, unquoted cell."""
    with atomic_path(path) as temporary:
        pyarrow.csv.write_csv(_to_table(rows, schema), temporary)


def read_table(
    path: Path, schema: pa.Schema, *, columns: Collection[str] | None = None
) -> pa.Table:
    """Read a table written with ``schema``.

    Args:
        path: the file.
        schema: of the whole table, whatever is read of it.
        columns: names of those that are wanted, given in the table's order; None: all.

    Raises:
        StoreError: the file is missing, damaged, or holds another table or version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _require_schema(path, file.schema_arrow, schema)
            return file.read([name for name in schema.names if columns is None or name in columns])
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def read_rows(
    path: Path, schema: pa.Schema, *, columns: Collection[str] | None = None
) -> list[Row]:
    """Like ``read_table``, as a list of dictionaries.

    A row of the manifest takes 27 kB so, sixteen times as much as in a table: of a large store
    read few columns.
    """
    rows: list[Row] = read_table(path, schema, columns=columns).to_pylist()
    return rows


def only_videos(table: pa.Table, video_ids: Collection[str]) -> pa.Table:
    """The rows of some videos, in their order."""
    return table.filter(pc.is_in(table["video_id"], value_set=pa.array(video_ids, pa.string())))


def read_csv(path: Path, schema: pa.Schema) -> list[Row]:
    """Rows of a CSV written with ``schema``.

    Raises:
        StoreError: the file is missing or damaged.
    """
    options = pyarrow.csv.ConvertOptions(
        column_types=schema, include_columns=schema.names, strings_can_be_null=True
    )
    try:
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options)
        rows: list[Row] = table.to_pylist()
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise _unreadable(path, error) from error
    return rows


def read_metadata(path: Path) -> dict[str, str]:
    """The text metadata stored with a table.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error
    return {key.decode(): value.decode() for key, value in metadata.items()}


def _to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    rows = list(rows)
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _require_schema(path: Path, found: pa.Schema, schema: pa.Schema) -> None:
    stored = found.metadata or {}
    same_kind = all(stored.get(key) == value for key, value in schema.metadata.items())
    if not (same_kind and found.equals(schema, check_metadata=False)):
        raise StoreError(
            f"{path} is not the kind of table that this version of reelcheck writes there; "
            "make it again into a new folder"
        )


def _unreadable(path: Path, error: Exception) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{path} is missing; run the step that makes it again")
    return StoreError(f"{path} cannot be read ({error}); delete it and run again")
