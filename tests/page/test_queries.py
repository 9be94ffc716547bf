"""Arrow's answers about a result table against plain Python's."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from page import queries
from page.queries import Live, Wanted
from reelcheck.errors import StoreError
from storage.checked.documents import write_document
from storage.outputs import ScoreLayout
from storage.schemas import SCORES, VIDEOS
from storage.tables import Row, write_table

VERDICTS = {"fake": 0.7, "inconclusive": 0.3, "real": 0.0}


def scored(path: str, score: float | None, status: str = "no_face") -> Row:
    verdict = next((v for v, low in VERDICTS.items() if score is not None and score >= low), None)
    return {
        "path": path,
        "root": "/videos",
        "status": "ok" if score is not None else status,
        "score": score,
        "verdict": verdict,
        "quality_flags": [],
        "tracks": [],
        "segments": [],
        "frames": [],
        "model_id": "m",
        "preprocessing_hash": "p",
        "duration_seconds": 1.0,
        "num_faces": 1,
    }


def write(folder: Path, rows: list[Row]) -> ScoreLayout:
    output = ScoreLayout(folder)
    write_table(output.parquet_path, rows, SCORES)
    return output


def in_memory(rows: list[Row]) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in queries.COLUMNS}
    schema = pa.schema([SCORES.schema.field(name) for name in queries.COLUMNS])
    table = pa.Table.from_pydict(columns, schema=schema)
    return table.append_column("row", pa.array(range(len(rows)), pa.int64()))


tables = st.lists(
    st.builds(
        scored,
        st.text("abÄé%_.*[ ", max_size=4),
        st.none() | st.floats(0, 1) | st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]),
        st.sampled_from(["no_face", "timeout"]),
    ),
    max_size=12,
)
questions = st.builds(
    Wanted,
    verdicts=st.lists(st.sampled_from(list(VERDICTS)), unique=True).map(tuple),
    statuses=st.lists(st.sampled_from(["ok", "no_face"]), unique=True).map(tuple),
    lowest=st.sampled_from([0.0, 0.3]),
    highest=st.sampled_from([0.7, 1.0]),
    text=st.text("aB%.*", max_size=2),
    sort=st.sampled_from(list(queries.SORTS)),
)


def is_wanted(row: Row, wanted: Wanted) -> bool:
    is_all = (wanted.lowest, wanted.highest) == (0.0, 1.0)
    inside = row["score"] is not None and wanted.lowest <= row["score"] <= wanted.highest
    return (
        (not wanted.verdicts or row["verdict"] in wanted.verdicts)
        and (not wanted.statuses or row["status"] in wanted.statuses)
        and (is_all or inside)
        and wanted.text.lower() in row["path"].lower()
    )


@settings(deadline=None)
@given(rows=tables, wanted=questions)
def test_filters_and_order_are_those_that_were_asked_for(rows: list[Row], wanted: Wanted) -> None:
    found = queries.select_files(in_memory(rows), wanted).to_pylist()
    assert sorted(row["row"] for row in found) == [
        n for n, row in enumerate(rows) if is_wanted(row, wanted)
    ]
    column, order = queries.SORTS[wanted.sort]
    values = [row[column] for row in found]
    known = [value for value in values if value is not None]
    assert values[: len(known)] == known  # what has none comes last
    if column != "path":
        assert known == sorted(known, reverse=order == "descending")


@settings(deadline=None)
@given(rows=tables)
def test_histogram_and_counts_hold_every_score_once(rows: list[Row]) -> None:
    table = in_memory(rows)
    bins = queries.count_by_score(table)
    expected: list[dict[str, int]] = [{} for _ in range(queries.NUM_BINS)]
    for row in rows:
        if row["score"] is not None:
            place = min(int(row["score"] * queries.NUM_BINS), queries.NUM_BINS - 1)
            expected[place][row["verdict"]] = expected[place].get(row["verdict"], 0) + 1
    assert bins == expected
    statuses = [row["status"] for row in rows]
    assert queries.count_values(table, "status") == {s: statuses.count(s) for s in set(statuses)}


@settings(deadline=None)
@given(num_rows=st.integers(0, 300))
def test_pages_hold_every_row_once_in_order(num_rows: int) -> None:
    table = pa.table({"row": list(range(num_rows))})
    pages = range(1, queries.count_pages(table) + 1)
    assert [n for p in pages for n in queries.take_page(table, p)["row"].to_pylist()] == list(
        range(num_rows)
    )


def test_opened_row_is_the_whole_row_of_that_place(tmp_path: Path) -> None:
    rows = [
        scored(f"{n}.mp4", n / 3000) | {"quality_flags": ["dark"] * (n % 2)} for n in range(3000)
    ]
    output = write(tmp_path, rows)
    table = queries.load_table(output.parquet_path)
    for place in (0, 1023, 1024, 2999):
        row = queries.read_full_row(output, table, place)
        assert {name: row[name] for name in rows[place]} == rows[place]
        assert set(row) == set(SCORES.names)


def test_table_that_was_written_again_is_not_mistaken_for_the_old(tmp_path: Path) -> None:
    output = write(tmp_path, [scored("a", 0.5), scored("b", 0.5)])
    table = queries.load_table(output.parquet_path)
    write(tmp_path, [scored("b", 0.5)])
    for place in (0, 1):
        with pytest.raises(StoreError, match="written again"):
            queries.read_full_row(output, table, place)


def test_what_is_no_result_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(StoreError, match="is missing"):
        queries.load_table(path)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(StoreError, match="cannot be read"):
        queries.load_table(path)
    write_table(path, [], VIDEOS)
    with pytest.raises(StoreError, match="not the kind of table that this version"):
        queries.load_table(path)


def test_predictions_of_a_run_are_read_once_as_they_come(tmp_path: Path) -> None:
    output = ScoreLayout(tmp_path)
    assert queries.find_newest_results(output) is None

    def answer(video_id: str, **values: Any) -> None:
        path = output.result_path("key", video_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, {"status": "ok", "verdict": None, **values})

    answer("a" * 64, verdict="fake", score=0.9)
    answer("b" * 64, status="no_face")
    folder = queries.find_newest_results(output)
    assert folder is not None
    (folder / ".c.json.1234.tmp").write_text("half a fi", encoding="utf-8")
    live = Live.of(folder)
    assert live.read(max_files=1)
    assert live.verdicts == {"fake": 1}
    assert not live.read()
    assert live.verdicts == {"fake": 1, "no_face": 1}
    answer("c" * 64, verdict="fake", score=0.8)
    assert not live.read(num_last=2)
    assert live.verdicts == {"fake": 2, "no_face": 1}
    assert [row["video_id"] for row in live.last] == ["c" * 64, "b" * 64]
