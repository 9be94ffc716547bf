"""Queries of a result table, by Arrow: no loop over rows, whatever their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from reelcheck.errors import StoreError
from storage.checked.documents import read_document
from storage.outputs import ScoreLayout
from storage.rows import PredictionRow, ScoreRow
from storage.schemas import SCORES
from storage.tables import read_one_row, read_table

COLUMNS = (
    "path",
    "verdict",
    "score",
    "status",
    "reason",
    "num_faces",
    "duration_seconds",
    "codec",
    "quality_flags",
    "video_id",
    "model_id",
    "evidence_path",
)
"""Columns kept in memory; the others are read for the file that is opened."""
NUM_BINS = 20
PAGE_SIZE = 50
SORTS = {
    "Highest score first": ("score", "descending"),
    "Lowest score first": ("score", "ascending"),
    "Name": ("path", "ascending"),
    "Longest first": ("duration_seconds", "descending"),
    "Most faces first": ("num_faces", "descending"),
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Filters and order that a reader has chosen; empty: everything."""

    verdicts: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    lowest: float = 0.0
    highest: float = 1.0
    text: str = ""
    sort: str = next(iter(SORTS))


def load_table(path: Path) -> pa.Table:
    """Load the columns above, and ``row``: each file's position in the table.

    Raises:
        StoreError: the table is missing, damaged or of another version.
    """
    table = read_table(path, SCORES, columns=COLUMNS)
    return table.append_column("row", pa.array(range(table.num_rows), pa.int64()))


def select_files(table: pa.Table, wanted: Wanted) -> pa.Table:
    """Select the files that are wanted, in order; files without a value come last."""
    masks = []
    if wanted.verdicts:
        masks.append(pc.is_in(table["verdict"], pa.array(wanted.verdicts)))
    if wanted.statuses:
        masks.append(pc.is_in(table["status"], pa.array(wanted.statuses)))
    if (wanted.lowest, wanted.highest) != (0.0, 1.0):
        score = table["score"]
        is_low, is_high = pc.less(score, wanted.lowest), pc.greater(score, wanted.highest)
        masks.append(pc.fill_null(pc.invert(pc.or_(is_low, is_high)), fill_value=False))
    if wanted.text:
        masks.append(pc.match_substring(table["path"], wanted.text, ignore_case=True))
    if masks:
        table = table.filter(reduce(pc.and_, masks))
    column, order = SORTS[wanted.sort]
    return table.sort_by([(column, order), ("path", "ascending")])


def count_values(table: pa.Table, column: str) -> dict[str, int]:
    """Count how often each value occurs, the most frequent first; null does not count."""
    counted = pc.value_counts(table[column].combine_chunks())
    pairs = [
        (value.as_py(), number.as_py()) for value, number in zip(*counted.flatten(), strict=True)
    ]
    return dict(sorted(((v, n) for v, n in pairs if v is not None), key=lambda p: (-p[1], p[0])))


def count_by_score(table: pa.Table) -> list[dict[str, int]]:
    """Count files per verdict in each of ``NUM_BINS`` equal bins from 0 to 1."""
    scored = table.filter(pc.is_valid(table["score"]))
    bin_index = pc.min_element_wise(pc.floor(pc.multiply(scored["score"], NUM_BINS)), NUM_BINS - 1)
    groups = (
        pa.table({"bin": pc.cast(bin_index, pa.int64()), "verdict": scored["verdict"]})
        .group_by(["bin", "verdict"])
        .aggregate([([], "count_all")])
    )
    bins: list[dict[str, int]] = [{} for _ in range(NUM_BINS)]
    for group in groups.to_pylist():  # at most three per bin
        bins[group["bin"]][group["verdict"]] = group["count_all"]
    return bins


def take_page(table: pa.Table, page: int) -> pa.Table:
    """Take one page of rows, counted from 1."""
    return table.slice((page - 1) * PAGE_SIZE, PAGE_SIZE)


def count_pages(table: pa.Table) -> int:
    """Count the pages of a table; at least one."""
    return max(1, -(-int(table.num_rows) // PAGE_SIZE))


def read_full_row(output: ScoreLayout, table: pa.Table, index: int) -> ScoreRow:
    """Read all columns of one file.

    Args:
        output: the run's folder.
        table: as ``load_table`` gives it.
        index: ``row`` of the file.

    Raises:
        StoreError: the table has changed since.
    """
    row = read_one_row(output.parquet_path, SCORES, index)
    if row is None or row["path"] != table["path"][index].as_py():
        raise StoreError("the table was written again; open the file again")
    return row


@dataclass
class Live:
    """The predictions so far of a run that is still working, read a few at a time."""

    results_dir: Path
    known: set[str]
    verdicts: dict[str, int]
    last: list[PredictionRow]

    @classmethod
    def of(cls, results_dir: Path) -> "Live":
        """Begin with nothing read."""
        return cls(results_dir, set(), {}, [])

    def read(self, *, max_files: int = 500, num_last: int = 8) -> bool:
        """Read new predictions; return whether there are more."""
        try:
            names = {path.name for path in self.results_dir.glob("[!.]*.json")} - self.known
        except OSError:
            return False
        rows: list[PredictionRow] = []
        for name in sorted(names)[:max_files]:
            self.known.add(name)
            try:
                row = cast("PredictionRow", read_document(self.results_dir / name))
            except StoreError:
                continue  # damaged: the run that finds it makes it again
            kind = row["verdict"] or row["status"]
            self.verdicts[kind] = self.verdicts.get(kind, 0) + 1
            rows.append({**row, "video_id": name.removesuffix(".json")})
        self.last = (rows[::-1] + self.last)[:num_last]
        return len(names) > max_files


def find_newest_results(output: ScoreLayout) -> Path | None:
    """Find the folder of predictions that was written to last."""
    folders: Sequence[Path] = [p for p in (output.path / "results").glob("*") if p.is_dir()]
    return max(folders, key=lambda path: path.stat().st_mtime_ns, default=None)
