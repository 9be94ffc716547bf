"""A spreadsheet runs no cell of a CSV, and the exact text can be had back."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.schemas import NORMALISED
from storage.tables import read_csv, restore_text, shield_text, write_csv

HOSTILE = st.text("=+-@'\"\t\r\n\x0b ;,a1\u00a0\uff1d", max_size=12)
TEXT = HOSTILE | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IS_FORMULA = re.compile(r"\s*[=+\-@\uff0b\uff0d\uff1d\uff20]")


@given(TEXT)
def test_no_part_of_a_cell_begins_a_formula(text: str) -> None:
    shielded = shield_text(text)
    # A spreadsheet of another country ends cells at other characters.
    assert not any(map(IS_FORMULA.match, re.split("[,;\t\r\n]", shielded)))
    assert shielded[:1] not in {"\t", "\r", "\n"}
    assert restore_text(shielded) == text


@pytest.mark.parametrize("text", ["a.mp4", "it's", "'", "a-b=c.mp4", "1+1", "x;y", ""])
def test_harmless_cells_stay(text: str) -> None:
    assert shield_text(text) == text


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXT | st.sampled_from(["", "NA", "null", "nan", "#N/A"]), min_size=1, max_size=4))
def test_csv_gives_the_exact_text_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "normalised.csv"
    rows = [NORMALISED.complete({"path": text, "reason": text, "status": "ok"}) for text in texts]
    write_csv(path, rows, NORMALISED)
    assert read_csv(path, NORMALISED) == rows
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert not IS_FORMULA.match(row["path"])


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    row = NORMALISED.complete({"path": "-0.5", "status": "ok", "mtime_ns": -5})
    write_csv(tmp_path / "x.csv", [row], NORMALISED)
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        [cells] = csv.DictReader(file)
    assert (cells["path"], cells["mtime_ns"]) == ("'-0.5", "-5")
