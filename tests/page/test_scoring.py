"""The page's number is the batch run's number."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from page.scoring import CheckScorer
from page.visits import Check, Model, Stage
from reelcheck.errors import MismatchError, StoreError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.schemas import SCORES
from tasks.scoring.score import ScoreRequest, score_files

OF_THE_RUN = {
    "path",
    "root",
    "mtime_ns",
    "ctime_ns",
    *(f"{s}_seconds" for s in ("demux", "decode", "detect", "crop", "model")),
}
"""What may differ: where a file lay, and how long it took."""


def check_of(path: Path, model: ModelLayout, folder: Path) -> Check:
    chosen = Model("model", model.path, read_card(model))
    return Check(name=path.name, source=str(path), is_upload=True, model=chosen, folder=folder)


KINDS = ("face", "people", "faceless", "corrupt", "empty", "program")


@pytest.fixture(scope="module")
def batch_rows(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, Path],
    model: ModelLayout,
    face_model: Path,
) -> dict[str, Any]:
    """What one batch run of all files says of each, by its name."""
    sources = tuple(str(files[kind]) for kind in KINDS)
    out = tmp_path_factory.mktemp("batch") / "out"
    rows = score_files(ScoreRequest(sources=sources, model=model.path, out=out)).rows
    return {Path(row["path"]).name: row for row in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_equals_that_of_the_batch_run(
    kind: str,
    files: dict[str, Path],
    model: ModelLayout,
    batch_rows: dict[str, Any],
    tmp_path: Path,
) -> None:
    upload = tmp_path / "file"
    upload.write_bytes(files[kind].read_bytes())
    stages: list[Stage] = []
    row = CheckScorer(timeout_seconds=300)(check_of(upload, model, tmp_path / "own"), stages.append)
    expected = batch_rows[files[kind].name]
    differs = {name for name in SCORES.names if row[name] != expected[name]}
    assert differs <= OF_THE_RUN | {"evidence_path"}
    assert stages == [Stage.LOOKING, Stage.JUDGING][: 2 if row["status"] == "ok" else 1]
    assert (row["score"] is None) == (row["status"] != "ok")


def test_model_stays_loaded_until_others_come(
    model: ModelLayout, picture_model: ModelLayout, tmp_path: Path
) -> None:
    scorer = CheckScorer(timeout_seconds=300)
    checks = [check_of(tmp_path / "a", each, tmp_path) for each in (model, picture_model, model)]
    loaded = [scorer.load_runtime(check) for check in checks]
    assert loaded[0] is loaded[2]
    assert loaded[0] is not loaded[1]


def test_model_that_was_replaced_is_not_used(
    model: ModelLayout, picture_model: ModelLayout, tmp_path: Path
) -> None:
    check = check_of(tmp_path / "a", model, tmp_path / "own")
    check.model = Model("model", picture_model.path, check.model.card)
    with pytest.raises(MismatchError, match="replaced by another"):
        CheckScorer(timeout_seconds=300).load_runtime(check)


def test_missing_file_is_named(model: ModelLayout, tmp_path: Path) -> None:
    from reelcheck.errors import SourceError

    with pytest.raises(SourceError, match="does not exist"):
        CheckScorer(timeout_seconds=300)(
            check_of(tmp_path / "gone", model, tmp_path / "own"), lambda stage: None
        )


def test_missing_model_is_named(model: ModelLayout, tmp_path: Path) -> None:
    check = check_of(tmp_path / "a", model, tmp_path / "own")
    check.model = Model("gone", tmp_path / "gone", check.model.card)
    with pytest.raises(StoreError, match="holds no model"):
        CheckScorer(timeout_seconds=300)(check, lambda stage: None)


def test_pages_are_drawn_without_torch_prefect_and_decoders() -> None:
    heavy = {
        "torch",
        "timm",
        "prefect",
        "sklearn",
        "mediapipe",
        "decord",
        "av",
        "openvino",
        "altair",
    }
    script = (
        "import sys, page.views.check, page.views.own_model, page.views.browse, page.views.runs\n"
        f"print(*sorted({heavy} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_what_judges_on_a_cpu_imports_neither_torch_nor_prefect() -> None:
    script = (
        "import sys, page.scoring, tasks.scoring.score, tasks.checkpoints.runtimes\n"
        "print(*sorted({'torch', 'prefect'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_decode_processes_that_import_the_script_import_nothing_with_it() -> None:
    import page

    script = Path(page.__file__).parent / "app.py"
    code = (
        f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='__mp_main__')\n"
        "print('streamlit' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
