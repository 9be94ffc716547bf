"""Each page, drawn by Streamlit without a browser."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import page
from page.server import get_server
from reelcheck.page_config import PageSettings
from storage.checked.documents import write_document
from storage.checked.names import write_names
from storage.layout import ModelLayout, RegistryLayout
from storage.outputs import ScoreLayout
from storage.schemas import SCORES
from storage.tables import Row, write_table

SCRIPT = Path(page.__file__).parent / "app.py"
Open = Callable[..., AppTest]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A page under the given settings."""
    st.cache_resource.clear()
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def open_page(name: str = "check", **settings: Any) -> AppTest:
        given = PageSettings(**settings).model_dump_json()
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), given])
        script = f"from page.views.{name} import show\nshow()\n"
        test = AppTest.from_string(script, default_timeout=120).run()
        assert not test.exception
        return test

    yield open_page
    get_server().visits.close()
    st.cache_resource.clear()


def text_of(test: AppTest) -> str:
    kinds = (test.info, test.error, test.markdown, test.caption, test.success, test.get("html"))
    return "\n".join(str(getattr(each, "value", "")) for kind in kinds for each in kind)


def test_whole_site_is_drawn(
    monkeypatch: pytest.MonkeyPatch, opened: Open, model: ModelLayout
) -> None:
    given = PageSettings(models=(model.path,)).model_dump_json()
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), given])
    test = AppTest.from_file(SCRIPT, default_timeout=120).run()
    assert not test.exception
    assert test.title[0].value.startswith("Is the face")


def test_without_a_model_the_page_says_how_to_get_one(opened: Open) -> None:
    assert "reelcheck page --model" in text_of(opened())


def test_limits_are_told_before_anything_is_judged(opened: Open, model: ModelLayout) -> None:
    told = text_of(opened(models=(model.path,)))
    assert "What this cannot see" in told
    assert "no proof" in told


def test_champion_comes_first(opened: Open, model: ModelLayout, tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    for name in ("a", "b", "c"):
        tiny.save_model(registry.version(name).path)
    write_names(registry.champion_path, ["b"])
    test = opened(registry=tmp_path, models=(model.path,))
    options = test.selectbox(key="model").options
    assert options[0] == "b (in use)"
    assert options[-1] == model.path.name
    assert len(options) == 4


def test_paths_are_asked_for_only_where_they_are_allowed(opened: Open, model: ModelLayout) -> None:
    assert not opened(models=(model.path,)).text_input
    st.cache_resource.clear()
    assert opened(models=(model.path,), allow_paths=True).text_input


def test_unreadable_model_is_told(opened: Open, tmp_path: Path) -> None:
    assert "cannot be read" in text_of(opened(models=(tmp_path,)))


def test_runs_without_a_server_say_so(opened: Open) -> None:
    assert "No Prefect server is configured" in text_of(opened("runs"))


def test_gate_and_decision_of_a_registry_are_shown(opened: Open, tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    tiny.save_model(registry.version("v1").path)
    rules = [{"name": "AUC <b>", "value": 0.5, "limit": ">= 0.6", "passed": False}]
    gate = {"promoted": False, "reason": "AUC <b> is 0.5", "rules": rules}
    write_document(registry.version("v1").gate_path, gate)
    test = opened("runs", registry=tmp_path)
    assert "not promoted" in text_of(test)
    assert "<b> is 0.5" not in text_of(test)
    assert len(test.table) == 1


def test_results_are_listed_filtered_and_counted(opened: Open, tmp_path: Path) -> None:
    rows: list[Row] = [
        {
            "path": f"{n:03d}.mp4",
            "root": "/",
            "status": "ok" if n % 2 else "no_face",
            "score": n / 200 if n % 2 else None,
            "verdict": ("fake" if n > 100 else "real") if n % 2 else None,
            "quality_flags": [],
            "tracks": [],
            "segments": [],
            "frames": [],
            "model_id": "m",
            "preprocessing_hash": "p",
        }
        for n in range(200)
    ]
    write_table(ScoreLayout(tmp_path).parquet_path, rows, SCORES)
    test = opened("browse", results=(tmp_path,))
    assert "200 files" in text_of(test)
    assert len(test.dataframe[0].value) == 50
    test.text_input(key="find").set_value("19").run()
    assert "of 200 files" in text_of(test)
    test.slider(key="scores").set_value((0.9, 1.0)).run()
    expected = [row["path"] for row in rows if (row["score"] or 0) >= 0.9 and "19" in row["path"]]
    assert sorted(test.dataframe[0].value["file"]) == expected


def test_without_results_the_page_says_how_to_get_some(opened: Open, tmp_path: Path) -> None:
    assert "--results" in text_of(opened("browse"))
    st.cache_resource.clear()
    assert "holds no result table" in text_of(opened("browse", results=(tmp_path,)))
