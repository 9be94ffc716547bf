"""Every example works: the scripts run, and the loaders take the files."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from reelcheck.config import (
    GateSettings,
    PreprocessSettings,
    RunSettings,
    ScoreSettings,
    SplitSettings,
)
from reelcheck.settings import Settings, load_settings
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.schemas import LABEL_COLUMNS, SCORES
from storage.tables import write_table
from tasks.intake.labels import read_labels

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(name: str, *arguments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(script, run_name="__main__")


@pytest.fixture(scope="module")
def model(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights; the first test that scores adds the ONNX files."""
    path: Path = tiny.save_model(tmp_path_factory.mktemp("example") / "model").path
    return path


def test_one_video_is_scored(
    model: Path,
    face_video: Path,
    face_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_example("extract_one_video.py", face_video, model, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert "face.mp4: h264, 24 frames" in printed
    assert "faces: 1" in printed
    assert "status: ok" in printed
    assert "score: 0." in printed


def test_video_without_a_face_gets_no_score(
    model: Path,
    faceless_video: Path,
    face_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_example("extract_one_video.py", faceless_video, model, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert "status: no_face" in printed
    assert "score" not in printed


def score_row(path: str, score: float | None, verdict: str | None) -> dict[str, Any]:
    empty = dict.fromkeys(SCORES.names)
    lists: dict[str, Any] = {n: [] for n in ("quality_flags", "tracks", "segments", "frames")}
    status = "no_face" if score is None else "ok"
    known = {"path": path, "status": status, "score": score, "verdict": verdict}
    named = {"root": "/videos", "model_id": "model", "preprocessing_hash": "hash"}
    return empty | lists | known | named


def test_scores_are_plotted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        score_row("a.mp4", 0.9, "fake"),
        score_row("b.mp4", 0.1, "real"),
        score_row("c.mp4", None, None),
    ]
    table, picture = tmp_path / "scores.parquet", tmp_path / "scores.png"
    write_table(table, rows, SCORES)
    run_example("plot_scores.py", table, picture, monkeypatch=monkeypatch)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "no_face    1" in capsys.readouterr().out


def test_labels_table_is_accepted() -> None:
    rows = read_labels(EXAMPLES / "labels.csv")
    assert {row["label"] for row in rows.values()} == {0, 1}
    sources = {row["source"] for row in rows.values()} - {None}
    assert sources
    assert sources <= rows.keys()
    assert all(row.keys() <= set(LABEL_COLUMNS) for row in rows.values())


@pytest.mark.parametrize(
    ("section", "cls"),
    [
        ("preprocess", PreprocessSettings),
        ("run", RunSettings),
        ("split", SplitSettings),
        ("train", TrainSettings),
        ("engine", EngineSettings),
        ("score", ScoreSettings),
        ("gate", GateSettings),
    ],
)
def test_settings_file_is_accepted_and_changes_something(section: str, cls: type[Settings]) -> None:
    loaded = load_settings(cls, section=section, config_path=EXAMPLES / "config.toml")
    assert loaded != cls()
