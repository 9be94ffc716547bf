"""Rows as types -> Arrow schemas, so that files and type checker know the same columns.

A table's row is a ``TypedDict`` whose fields are ``Annotated`` with their meaning:
``label: Annotated[int, "1 fake, 0 real"]``. Its Arrow schema, with the meaning as each field's
``description``, is made from these.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pyarrow as pa

SCHEMA_VERSION = "7"
"""Increase it with every change of columns or of their meaning; readers refuse other versions."""
R = TypeVar("R", bound=Mapping[str, object])
_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
}


@dataclass(frozen=True, eq=False)
class Table(Generic[R]):
    """One kind of table: its name, and the type of its rows."""

    name: str
    row: type[R]

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema, with name and version of the table as metadata.

        The metadata ``pandas`` lets pandas read integers with nulls as integers, not as floats.
        """
        fields = list(_make_fields(self.row))
        metadata = {
            "reelcheck_table": self.name,
            "reelcheck_schema_version": SCHEMA_VERSION,
            "pandas": json.dumps(_describe_for_pandas(fields)),
        }
        return pa.schema(fields, metadata=metadata)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        names: list[str] = self.schema.names
        return names

    def complete(self, values: Mapping[str, Any]) -> R:
        """Make a row of all columns, null where ``values`` has no such key; drop other keys."""
        row: Any = {name: values.get(name) for name in self.names}
        return row  # type: ignore[no-any-return]


def _make_fields(row: type) -> Iterator[pa.Field]:
    for name, annotated in get_type_hints(row, include_extras=True).items():
        hint, notes = _split_annotation(annotated)
        description = next((note for note in notes if isinstance(note, str)), None)
        yield pa.field(
            name,
            _find_arrow_type(annotated),
            nullable=get_origin(hint) is UnionType and NoneType in get_args(hint),
            metadata=description and {"description": description},
        )


def _split_annotation(hint: Any) -> tuple[Any, list[Any]]:
    """Split an ``Annotated`` type into the type and its notes."""
    if get_origin(hint) is not Annotated:
        return hint, []
    inner, *notes = get_args(hint)
    return inner, notes


def _find_arrow_type(annotated: Any) -> pa.DataType:
    hint, notes = _split_annotation(annotated)
    for note in notes:
        if isinstance(note, pa.DataType):
            return note
    if get_origin(hint) is UnionType:
        [hint] = set(get_args(hint)) - {NoneType}
        return _find_arrow_type(hint)
    if get_origin(hint) is list:
        [element] = get_args(hint)
        return pa.list_(_find_arrow_type(element))
    if is_typeddict(hint):
        return pa.struct([field.with_nullable(nullable=True) for field in _make_fields(hint)])
    return _TYPES[hint]


def _describe_for_pandas(fields: list[pa.Field]) -> dict[str, Any]:
    nullable = [field.name for field in fields if field.nullable and field.type == pa.int64()]
    return {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": "int64",
                "numpy_type": "Int64",
                "metadata": None,
            }
            for name in nullable
        ],
    }
