"""Rows <-> Parquet and CSV, always with the schema of a table, always written atomically.

In CSV text stays text: a spreadsheet runs a cell such as ``=cmd|…``. So an apostrophe goes before
what a spreadsheet would take for a formula, at the beginning of a cell and after a character that
some spreadsheets take for the end of one. The rules are OWASP's:
https://owasp.org/www-community/attacks/CSV_Injection. Where a cell has apostrophes at such a place
already, one more is put there: so taking one away gives the exact text back.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from reelcheck.errors import DamagedError, StoreError
from storage.atomic import atomic_path
from storage.checked.seals import NoSealError, SealError, open_sealed, seal
from storage.columns import R, Table

Row = dict[str, Any]
"""A row without a type: of JSON, or with columns of no table."""
_UNREADABLE = (SealError, NoSealError, OSError, pa.ArrowException)


_FORMULA = "[=+@\\-\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""What begins a formula, the wide forms of East Asian spreadsheets among it."""
_BEGIN = r"(?:^|(?<=[,;\t\r\n]))"
_ADDED = re.compile(rf"{_BEGIN}(?='*[^\S\t\r\n]*{_FORMULA})")
_REMOVED = re.compile(rf"{_BEGIN}'(?='*[^\S\t\r\n]*{_FORMULA})")


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]] | pa.Table,
    table: Table[Any],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write rows (missing keys become null) as Parquet; the same rows give the same bytes.

    Args:
        path: the file.
        rows: dictionaries, or an Arrow table with the same columns, which takes far less memory.
        table: kind of the table.
        metadata: texts that are stored in the file.
    """
    schema = table.schema.with_metadata({**table.schema.metadata, **(metadata or {})})
    if isinstance(rows, pa.Table):
        values = pa.table(rows.combine_chunks().columns, schema=schema)
    else:
        values = _to_arrow(rows, schema)
    values.validate(full=True)
    with atomic_path(path) as temporary:
        pq.write_table(values, temporary, compression="zstd")
        seal(temporary)


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], table: Table[Any]) -> None:
    """Write rows as CSV with the table's columns; null is an empty, unquoted cell.

    No text is a formula to a spreadsheet; ``read_csv`` gives the exact text back.
    """
    with atomic_path(path) as temporary:
        pyarrow.csv.write_csv(_to_arrow(map(shield_row, rows), table.schema), temporary)


def shield_text(text: str) -> str:
    """Make a text that no spreadsheet takes for a formula."""
    return _ADDED.sub("'", text)


def restore_text(text: str) -> str:
    """Undo ``shield_text``."""
    return _REMOVED.sub("", text)


def shield_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Shield the texts of a row; numbers stay numbers, whatever their sign."""
    return {k: shield_text(value) if isinstance(value, str) else value for k, value in row.items()}


def restore_row(row: Mapping[str, Any]) -> Any:
    """Undo ``shield_row``."""
    return {k: restore_text(value) if isinstance(value, str) else value for k, value in row.items()}


def require_whole(path: Path, table: Table[Any]) -> None:
    """Make sure that every byte of a table is as it was written, without reading its rows.

    Raises:
        StoreError: as ``read_table``.
    """
    try:
        with open_sealed(path) as file:
            _require_schema(path, file.schema_arrow, table.schema)
    except _UNREADABLE as error:
        raise _make_read_error(path, error) from error


def read_table(
    path: Path, table: Table[Any], *, columns: Collection[str] | None = None
) -> pa.Table:
    """Read a table as Arrow columns.

    Args:
        path: the file.
        table: kind of the table; the whole file must be of this kind, whichever columns are read.
        columns: names of the columns to read, which come in the table's order; None: all.

    Raises:
        StoreError: the file is missing, damaged, or holds another table or version.
    """
    try:
        with open_sealed(path, columns=columns) as file:
            _require_schema(path, file.schema_arrow, table.schema)
            return file.read([name for name in table.names if columns is None or name in columns])
    except _UNREADABLE as error:
        raise _make_read_error(path, error) from error


def read_rows(path: Path, table: Table[R], *, columns: Collection[str] | None = None) -> list[R]:
    """Read a table as rows; with ``columns``, rows have these keys only.

    A row of the manifest takes 27 kB, sixteen times as much as in an Arrow table: read only a few
    columns of a large store.

    Raises:
        StoreError: as ``read_table``.
    """
    rows: list[R] = read_table(path, table, columns=columns).to_pylist()
    return rows


def read_one_row(path: Path, table: Table[R], index: int) -> R | None:
    """Read the row at a position without holding many rows in memory; None: there are fewer.

    Raises:
        StoreError: as ``read_table``.
    """
    try:
        with open_sealed(path) as file:
            _require_schema(path, file.schema_arrow, table.schema)
            # By batches: one row needs no nested columns of 100,000 rows in memory.
            for batch in file.iter_batches(batch_size=1024):
                if index < batch.num_rows:
                    row: R
                    [row] = batch.slice(index, 1).to_pylist()
                    return row
                index -= batch.num_rows
    except _UNREADABLE as error:
        raise _make_read_error(path, error) from error
    return None


def keep_videos(table: pa.Table, video_ids: Collection[str]) -> pa.Table:
    """Keep the rows of some videos, in the order of the table."""
    return table.filter(pc.is_in(table["video_id"], value_set=pa.array(video_ids, pa.string())))


def read_csv(path: Path, table: Table[R]) -> list[R]:
    """Read the rows of a CSV that ``write_csv`` wrote.

    Raises:
        StoreError: the file is missing or damaged.
    """
    options = pyarrow.csv.ConvertOptions(
        column_types=table.schema,
        include_columns=table.names,
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=False,
    )
    try:
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        values = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options)
        rows: list[R] = list(map(restore_row, values.to_pylist()))
    except (OSError, pa.ArrowException) as error:
        raise _make_read_error(path, error) from error
    return rows


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts that are stored with a table.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        with open_sealed(path, columns=()) as file:
            metadata = file.schema_arrow.metadata or {}
    except _UNREADABLE as error:
        raise _make_read_error(path, error) from error
    return {key.decode(): value.decode() for key, value in metadata.items()}


def _to_arrow(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    rows = list(rows)
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _require_schema(path: Path, stored: pa.Schema, schema: pa.Schema) -> None:
    metadata = stored.metadata or {}
    same_kind = all(metadata.get(key) == value for key, value in schema.metadata.items())
    if not (same_kind and stored.equals(schema, check_metadata=False)):
        raise _make_kind_error(path)


def _make_kind_error(path: Path) -> StoreError:
    return StoreError(
        f"{path} is not the kind of table that this version of reelcheck writes there; "
        "make it again into a new folder"
    )


def _make_read_error(path: Path, error: Exception) -> StoreError:
    if isinstance(error, NoSealError):
        return _make_kind_error(path)
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{path} is missing; run the step that makes it again")
    return DamagedError(f"{path} cannot be read ({error}); delete it and run again")
