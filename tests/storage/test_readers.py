"""Every table opens in other programs without options, with the same values."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import schemas
from storage.columns import Table
from storage.tables import write_table

TABLES = [value for _, value in inspect.getmembers(schemas) if isinstance(value, Table)]
Rows = list[dict[str, Any]]
SCALARS: dict[pa.DataType, list[Any]] = {
    # The large one is not a number of float64: a reader that goes through floats changes it.
    pa.int64(): [2**53 + 1, -(2**63), 0],
    pa.float64(): [0.1, -1e300, 5e-324],
    pa.float32(): [0.5, -(2.0**100), 1.5],
    pa.bool_(): [True, False, True],
    pa.string(): ["ä,\n\"'", "", "s3://b/\N{GREEK SMALL LETTER ALPHA}"],
    pa.binary(): [b"\0\xff", b"", bytes(32)],
}


def value_of(kind: pa.DataType, number: int) -> Any:
    """The value that row ``number`` has in a column of this type."""
    if pa.types.is_fixed_size_list(kind):
        return [value_of(kind.value_type, number + n) for n in range(kind.list_size)]
    if pa.types.is_list(kind):
        return [value_of(kind.value_type, number + n) for n in range(number % 3)]
    if pa.types.is_struct(kind):
        return {field.name: value_of(field.type, number) for field in kind}
    return SCALARS[kind][number % 3]


def rows_of(table: Table[Any]) -> Rows:
    """Rows without nulls, one with all nulls that may be, and some with nulls here and there."""
    rows = [{f.name: value_of(f.type, number) for f in table.schema} for number in range(6)]
    nullable = [field.name for field in table.schema if field.nullable]
    rows[3] |= dict.fromkeys(nullable)
    rows[4] |= dict.fromkeys(nullable[::2])
    rows[5] |= dict.fromkeys(nullable[1::2])
    return rows


def plain(value: Any) -> Any:
    """The value with Python's own types; pandas' missing values are None."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return bytes(value) if isinstance(value, bytearray) else value


def read_with_pandas(path: Path) -> Rows:
    return [dict(row) for row in pd.read_parquet(path).astype(object).to_dict("records")]


def read_with_polars(path: Path) -> Rows:
    return pl.read_parquet(path).to_dicts()


def read_with_duckdb(path: Path) -> Rows:
    with duckdb.connect() as connection:
        found = connection.execute("select * from read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def read_with_pyarrow(path: Path) -> Rows:
    rows: Rows = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize(
    "read", [read_with_pandas, read_with_polars, read_with_duckdb, read_with_pyarrow]
)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_table_has_the_same_values_in_another_reader(
    tmp_path: Path, table: Table[Any], read: Callable[[Path], Rows]
) -> None:
    path, rows = tmp_path / "t.parquet", rows_of(table)
    write_table(path, rows, table)
    read_rows = [{name: plain(value) for name, value in row.items()} for row in read(path)]
    assert [list(row) for row in read_rows] == [table.names] * len(rows)
    assert read_rows == rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_empty_table_opens_with_its_columns(tmp_path: Path, table: Table[Any]) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [], table)
    assert list(pd.read_parquet(path).columns) == table.names
    assert pl.read_parquet(path).columns == table.names
    assert duckdb.read_parquet(str(path)).columns == table.names


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_integers_stay_integers_in_pandas(tmp_path: Path, table: Table[Any]) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, rows_of(table), table)
    frame = pd.read_parquet(path)
    for field in table.schema:
        if field.type == pa.int64():
            assert str(frame[field.name].dtype) == ("Int64" if field.nullable else "int64")
