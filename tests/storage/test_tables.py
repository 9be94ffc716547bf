"""Rows to Parquet and back, and what is refused on reading."""

import csv
import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import StoreError
from reelcheck.records import VideoResult
from storage import schemas
from storage.checked.seals import seal
from storage.columns import SCHEMA_VERSION, Table
from storage.schemas import (
    EVALUATED,
    LABEL_COLUMNS,
    LEARNED,
    LOG,
    MANIFEST,
    NORMALISED,
    SCORES,
    SCORES_CSV,
    SEQUENCES,
    SPLIT,
    VALIDATION,
    VIDEO_RESULTS,
    VIDEOS,
)
from storage.tables import (
    read_csv,
    read_metadata,
    read_rows,
    read_table,
    restore_text,
    write_csv,
    write_table,
)

ALL_TABLES: dict[str, Table[Any]] = {
    "video_results": VIDEO_RESULTS,
    "sequences": SEQUENCES,
    "videos": VIDEOS,
    "manifest": MANIFEST,
    "split": SPLIT,
    "log": LOG,
    "validation": VALIDATION,
    "scores": SCORES,
    "scores_csv": SCORES_CSV,
    "evaluated": EVALUATED,
    "learned": LEARNED,
    "normalised": NORMALISED,
}
LOGIT_ROW = {
    "sequence_id": "s",
    "video_id": "v",
    "track_id": 0,
    "num_frames": 3,
    "logit": 0.5,
    "label": 1,
    "fold": None,
}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that an Arrow type holds exactly."""
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        return st.lists(values_of(kind.value_type), min_size=size, max_size=size)
    if pa.types.is_list(kind):
        return st.lists(values_of(kind.value_type), max_size=2)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    if pa.types.is_string(kind):
        return TEXT
    return simple_values_of(kind)


def simple_values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_binary(kind):
        return st.binary(max_size=40)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_int64(kind):
        return st.integers(-(2**63), 2**63 - 1)
    return st.floats(allow_nan=False, width=32 if pa.types.is_float32(kind) else 64)


def rows_of(table: Table[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    columns = {
        field.name: st.none() | values_of(field.type) if field.nullable else values_of(field.type)
        for field in table.schema
    }
    return st.lists(st.fixed_dictionaries(columns), max_size=5)


def test_tables_known_to_these_tests_are_all_there_are() -> None:
    tables = [value for _, value in inspect.getmembers(schemas) if isinstance(value, Table)]
    assert {table.name: table for table in tables} == ALL_TABLES
    assert len(tables) == len(ALL_TABLES)
    for name, table in ALL_TABLES.items():
        assert table.schema.metadata[b"reelcheck_table"].decode() == name


@pytest.mark.parametrize("name", sorted(ALL_TABLES))
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_table_rows_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    table = ALL_TABLES[name]
    rows = data.draw(rows_of(table))
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    write_table(path, rows, table)
    assert read_rows(path, table) == rows
    assert pq.read_table(path).to_pylist() == rows
    before = path.read_bytes()
    write_table(path, (dict(reversed(row.items())) for row in rows), table)
    assert path.read_bytes() == before


def test_schemas_of_results_have_the_fields_of_the_record_in_its_order() -> None:
    wanted = [field.name for field in fields(VideoResult)]
    assert VIDEO_RESULTS.names == [n for n in wanted if n not in {"sequences", "stage_seconds"}]


def test_evaluated_videos_have_the_columns_of_scores_and_those_of_labels() -> None:
    assert EVALUATED.names[: len(SCORES.names)] == SCORES.names
    own = {"component", "face_pixels"}
    assert set(EVALUATED.names) == {*SCORES.names, *LABEL_COLUMNS, *own}
    assert len(set(EVALUATED.names)) == len(EVALUATED.names)


def test_write_table_missing_keys_become_null_and_others_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [{"video_id": "v", "status": "ok", "unknown": 1}], VIDEO_RESULTS)
    (row,) = pq.read_table(path).to_pylist()
    assert list(row) == VIDEO_RESULTS.names
    assert {key for key, value in row.items() if value is not None} == {"video_id", "status"}


@pytest.mark.parametrize(
    "row",
    [{**LOGIT_ROW, "logit": None}, {**LOGIT_ROW, "logit": "x"}, {**LOGIT_ROW, "video_id": 3}],
    ids=["null where none may be", "text for a number", "number for text"],
)
def test_write_table_wrong_value_raises_and_leaves_old_file(
    tmp_path: Path, row: Mapping[str, Any]
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [LOGIT_ROW], VALIDATION)
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(path, [row], VALIDATION)
    assert read_rows(path, VALIDATION) == [LOGIT_ROW]
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_given_is_stored_beside_table_name_and_version(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [], SPLIT, metadata={"split_hash": "abc"})
    assert (
        read_metadata(path).items()
        >= {
            "split_hash": "abc",
            "reelcheck_table": "split",
            "reelcheck_schema_version": SCHEMA_VERSION,
        }.items()
    )


@pytest.mark.parametrize("name", sorted(set(ALL_TABLES) - {"videos"}))
def test_read_table_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [], ALL_TABLES[name])
    with pytest.raises(StoreError, match=r"t\.parquet is not the kind of table"):
        read_table(path, VIDEOS)


def rewrite(path: Path, schema: pa.Schema) -> None:
    """Give a table another schema."""
    columns = pq.read_table(path).columns
    changed = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.table(changed, schema=schema), path)
    seal(path)


def test_read_table_column_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [LOGIT_ROW], VALIDATION)
    schema = VALIDATION.schema
    position = schema.get_field_index("logit")
    rewrite(path, schema.set(position, pa.field("logit", pa.float32(), nullable=False)))
    with pytest.raises(StoreError, match="not the kind of table"):
        read_table(path, VALIDATION)


@pytest.mark.parametrize(
    ("key", "value"), [("reelcheck_schema_version", "1"), ("reelcheck_table", "something_else")]
)
def test_read_table_of_another_version_or_name_is_refused(
    tmp_path: Path, key: str, value: str
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [LOGIT_ROW], VALIDATION)
    rewrite(path, VALIDATION.schema)
    assert read_rows(path, VALIDATION) == [LOGIT_ROW]
    metadata = {**VALIDATION.schema.metadata, key.encode(): value.encode()}
    rewrite(path, VALIDATION.schema.with_metadata(metadata))
    with pytest.raises(StoreError, match="not the kind of table"):
        read_table(path, VALIDATION)


def test_read_table_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"t\.parquet is missing"):
        read_table(tmp_path / "t.parquet", VALIDATION)


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_read_table_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    write_table(path, [{**LOGIT_ROW, "track_id": number} for number in range(20)], VALIDATION)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreError, match=r"t\.parquet cannot be read"):
        read_rows(path, VALIDATION)


@pytest.mark.parametrize("content", [b"junk", b"PAR1" + b"\x00" * 100 + b"PAR1"])
def test_read_table_of_junk_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot be read|not the kind of table"):
        read_table(path, VALIDATION)


def test_read_table_with_a_damaged_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    numbers = np.random.default_rng(0).normal(size=200).tolist()
    write_table(path, [{**LOGIT_ROW, "logit": number} for number in numbers], VALIDATION)
    content = bytearray(path.read_bytes())
    place = content.index(np.float64(numbers[100]).tobytes())  # random numbers do not compress
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError):
        read_rows(path, VALIDATION)


@pytest.mark.parametrize("content", [None, b"junk"], ids=["missing", "damaged"])
def test_read_metadata_without_a_table_raises_store_error(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "t.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError):
        read_metadata(path)


def test_tables_in_a_folder_named_like_a_partition_get_no_extra_column(tmp_path: Path) -> None:
    path = tmp_path / "run=3" / "t.parquet"
    write_table(path, [LOGIT_ROW], VALIDATION)
    assert read_rows(path, VALIDATION) == [LOGIT_ROW]


CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))


@settings(deadline=None, max_examples=40)
@given(paths=st.lists(CELLS, max_size=5), score=st.none() | st.floats(0, 1))
def test_write_csv_is_read_by_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], score: float | None
) -> None:
    file = tmp_path_factory.mktemp("csv") / "scores.csv"
    fixed = {"status": "ok", "root": "/r", "model_id": "m", "preprocessing_hash": "h"}
    write_csv(file, [{"path": path, "score": score, **fixed} for path in paths], SCORES_CSV)
    with file.open(encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    assert header == SCORES_CSV.names
    assert [restore_text(row[header.index("path")]) for row in rows] == paths
    scores = {row[header.index("score")] for row in rows}
    assert scores <= {""} if score is None else {float(text) for text in scores} <= {score}


def test_write_csv_null_is_an_empty_unquoted_cell(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    fixed = {"root": "/r", "model_id": "m", "preprocessing_hash": "h"}
    write_csv(file, [{"path": "a.mp4", "status": "no_face", **fixed}], SCORES_CSV)
    line = file.read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith('"a.mp4",,"no_face",,,,')
    assert line.endswith(',,"m","h"')


@settings(deadline=None, max_examples=40)
@given(rows=rows_of(LOG))
def test_read_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    write_csv(path, rows, LOG)
    assert read_csv(path, LOG) == rows


@pytest.mark.parametrize(
    "content",
    [None, b"", b"fold,phase\n0,1\n", b"\xff\xfe\x00"],
    ids=["missing", "empty", "other columns", "no text"],
)
def test_read_csv_of_something_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"log\.csv"):
        read_csv(path, LOG)


def test_read_csv_with_text_for_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    row = dict.fromkeys(LOG.names, 1)
    write_csv(path, [{**row, "is_best": True}], LOG)
    path.write_text(path.read_text(encoding="utf-8").replace("true", "maybe"), encoding="utf-8")
    with pytest.raises(StoreError, match=r"log\.csv cannot be read"):
        read_csv(path, LOG)
