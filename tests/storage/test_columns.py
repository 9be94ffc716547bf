"""Tables read in part and written whole: the same values, and all is still checked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import StoreError
from storage.schemas import LEARNED, SPLIT
from storage.tables import keep_videos, read_rows, read_table, write_table

ROWS = [
    {
        "video_id": f"v{number}",
        "component": "c",
        "label": number % 2,
        "split": "train",
        "has_crops": True,
    }
    for number in range(20)
]


@settings(deadline=None)
@given(wanted=st.sets(st.sampled_from(SPLIT.names), min_size=1))
def test_chosen_columns_are_those_of_the_whole_table(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[str]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    write_table(path, ROWS, SPLIT)
    chosen = [{name: row[name] for name in wanted} for row in ROWS]
    assert read_rows(path, SPLIT, columns=wanted) == chosen
    assert read_table(path, SPLIT, columns=wanted).column_names == [
        name for name in SPLIT.names if name in wanted
    ]


def test_column_of_lists_is_read_with_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frames = [[b"a" * 32, b"b" * 32], []]
    rows = [
        {"video_id": "v", "component": "c", "frames": own, "faces": [b"c" * 32]} for own in frames
    ]
    write_table(path, rows, LEARNED)
    assert read_rows(path, LEARNED, columns=["frames"]) == [{"frames": own} for own in frames]


def test_table_with_another_column_is_refused_though_that_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.Table.from_pylist(ROWS, schema=SPLIT.schema)
    position = SPLIT.schema.get_field_index("label")
    field = pa.field("label", pa.int32(), nullable=False)
    pq.write_table(table.set_column(position, field, table["label"].cast(field.type)), path)
    with pytest.raises(StoreError, match="not the kind of table"):
        read_table(path, SPLIT, columns=["video_id"])


@given(wanted=st.lists(st.sampled_from([row["video_id"] for row in ROWS] + ["other"])))
def test_only_rows_of_the_named_videos_are_left_in_their_order(wanted: list[str]) -> None:
    table = pa.Table.from_pylist(ROWS, schema=SPLIT.schema)
    assert keep_videos(table, wanted).to_pylist() == [
        row for row in ROWS if row["video_id"] in wanted
    ]


@settings(deadline=None)
@given(cut=st.integers(0, len(ROWS)))
def test_table_is_written_as_its_rows_are(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "rows", ROWS, SPLIT)
    # In two pieces, as it comes from two files, and without the schema's metadata.
    whole = pa.Table.from_pylist(ROWS, schema=SPLIT.schema.remove_metadata())
    write_table(folder / "table", pa.concat_tables([whole[:cut], whole[cut:]]), SPLIT)
    assert (folder / "table").read_bytes() == (folder / "rows").read_bytes()


def test_table_with_a_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    table = pa.table({field.name: pa.nulls(3, field.type) for field in SPLIT.schema})
    with pytest.raises(pa.ArrowInvalid):
        write_table(tmp_path / "t.parquet", table, SPLIT)
    assert list(tmp_path.iterdir()) == []
