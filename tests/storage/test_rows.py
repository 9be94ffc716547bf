"""Row types and Arrow schemas agree: names, order, types, nulls; every column has a meaning."""

import inspect
import typing
from typing import Annotated, Any

import pyarrow as pa
import pytest

from storage import rows, schemas
from storage.columns import Table

TABLES = [value for _, value in inspect.getmembers(schemas) if isinstance(value, Table)]
SCALARS = {
    pa.string(): str,
    pa.int64(): int,
    pa.float64(): float,
    pa.float32(): float,
    pa.bool_(): bool,
    pa.binary(): bytes,
}
SEQUENCE_COLUMNS = """
sequence_id: string not null
video_id: string not null
track_id: int64 not null
shard: string not null
crop_file: int64 not null
crop_row: int64 not null
num_frames: int64 not null
frame_indices: list<item: int64> not null
pts_seconds: list<item: double> not null
boxes_xyxy: list<item: fixed_size_list<item: float>[4]> not null
confidences: list<item: float> not null
sharpness: list<item: float> not null
brightness: list<item: float> not null
keypoints_xy: list<item: fixed_size_list<item: float>[12]> not null
fingerprints: list<item: binary> not null
face_pixels: double not null
"""
LOG_COLUMNS = """
fold: int64
phase: int64 not null
epoch: int64 not null
step: int64 not null
learning_rate: double not null
train_loss: double not null
train_accuracy: double not null
train_f1: double not null
val_loss: double not null
val_accuracy: double not null
val_f1: double not null
val_auc: double not null
is_best: bool not null
"""


def without_notes(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def may_be_none(hint: Any) -> bool:
    return type(None) in typing.get_args(without_notes(hint))


def agrees(kind: pa.DataType, hint: Any) -> bool:
    """Whether all values of an Arrow type are values of a Python type, and the other way round."""
    hint = without_notes(hint)
    if may_be_none(hint):
        [hint] = [each for each in typing.get_args(hint) if each is not type(None)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return typing.get_origin(hint) is list and agrees(kind.value_type, typing.get_args(hint)[0])
    if pa.types.is_struct(kind):
        hints = typing.get_type_hints(hint, include_extras=True)
        return [field.name for field in kind] == list(hints) and all(
            agrees(field.type, hints[field.name]) for field in kind
        )
    return SCALARS[kind] is hint


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_are_the_keys_of_the_row_with_their_types(table: Table[Any]) -> None:
    hints = typing.get_type_hints(table.row, include_extras=True)
    assert table.names == table.schema.names == list(hints)
    for field in table.schema:
        assert agrees(field.type, hints[field.name]), field
        assert field.nullable == may_be_none(hints[field.name]), field


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_has_a_description_inside_the_file_too(table: Table[Any]) -> None:
    fields = list(table.schema)
    while fields:
        field = fields.pop()
        assert field.metadata[b"description"].decode().strip(), field
        inner = field.type.value_type if pa.types.is_list(field.type) else field.type
        fields += list(inner) if pa.types.is_struct(inner) else []


@pytest.mark.parametrize(
    ("table", "columns"),
    [(schemas.SEQUENCES, SEQUENCE_COLUMNS), (schemas.LOG, LOG_COLUMNS)],
    ids=["sequences", "log"],
)
def test_schema_is_the_one_that_is_written_here(table: Table[Any], columns: str) -> None:
    described = [
        f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"
        for field in table.schema
    ]
    assert described == columns.split("\n")[1:-1]


def test_agreement_is_not_trivial() -> None:
    hint = Annotated[list[rows.FrameRow], "frames"]
    frame = pa.struct([(name, pa.float64()) for name in rows.FrameRow.__annotations__])
    assert not agrees(pa.list_(frame), hint)
    assert not agrees(pa.int64(), float)
    assert agrees(pa.float32(), Annotated[float | None, "x"])


def test_complete_fills_up_and_drops() -> None:
    row = schemas.SPLIT.complete({"label": 1, "video_id": "v", "other": 0})
    assert list(row.items()) == [
        ("video_id", "v"),
        ("component", None),
        ("label", 1),
        ("split", None),
        ("has_crops", None),
    ]
