"""A table whose bytes have changed is refused, whatever the bytes are."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flipped_bits import flip_bits

from reelcheck.errors import DamagedError, StoreError
from storage.schemas import SPLIT
from storage.tables import read_metadata, read_rows, read_table, require_whole, write_table

ROWS: list[Any] = [
    {
        "video_id": f"v{number}",
        "component": f"c{number // 2}",
        "label": number % 2,
        "split": "train",
        "has_crops": True,
    }
    for number in range(30)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.parquet"
    write_table(path, ROWS, SPLIT, metadata={"split_hash": "abc"})
    return path


def test_every_flipped_bit_of_a_table_is_noticed_but_those_that_nobody_reads(path: Path) -> None:
    wanted = ROWS, read_metadata(path)
    silent = []
    for place in flip_bits(path):
        with suppress(StoreError):
            assert (read_rows(path, SPLIT), read_metadata(path)) == wanted
            silent.append(place)
    assert silent == [0, 1, 2, 3]  # the letters PAR1 at the beginning


def test_readers_of_a_column_need_that_column_only(path: Path) -> None:
    chunk = pq.read_metadata(path).row_group(0).column(SPLIT.names.index("component"))
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + 2] ^= 1
    path.write_bytes(content)
    assert read_table(path, SPLIT, columns=("label",)).num_rows == len(ROWS)
    assert read_metadata(path)["split_hash"] == "abc"
    for columns in (None, ("component",)):
        with pytest.raises(DamagedError, match="column component is not as it was written"):
            read_table(path, SPLIT, columns=columns)
    with pytest.raises(DamagedError):
        require_whole(path, SPLIT)


def test_a_table_of_another_program_is_none_of_ours(path: Path) -> None:
    pq.write_table(pq.read_table(path), path)
    with pytest.raises(StoreError, match="not the kind of table") as caught:
        read_rows(path, SPLIT)
    assert not isinstance(caught.value, DamagedError)  # it will not be set aside and made again


def test_two_sealed_tables_joined_are_none(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    write_table(other, ROWS[:3], SPLIT)
    path.write_bytes(path.read_bytes()[:-700] + other.read_bytes()[-700:])
    with pytest.raises(StoreError):
        read_rows(path, SPLIT)
