"""A damaged answer is named, set aside and made again; no other is."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reelcheck.errors import DamagedError
from storage.outputs import ScoreLayout
from storage.schemas import SCORES
from storage.tables import Row, read_rows
from tasks.scoring.answers import read_answer, read_answers
from tasks.scoring.score import ScoreRequest, score_files

pytestmark = pytest.mark.usefixtures("face_model")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, request_of: Callable[..., ScoreRequest]
) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    score_files(request_of(out))
    return out


@pytest.fixture
def output(tmp_path: Path, finished: Path) -> ScoreLayout:
    return ScoreLayout(shutil.copytree(finished, tmp_path / "out"))


def list_answers(output: ScoreLayout) -> list[Path]:
    return sorted((output.path / "results").glob("*/*.json"))


def find_judged(output: ScoreLayout) -> list[Path]:
    return [p for p in list_answers(output) if json.loads(p.read_bytes())["status"] == "ok"]


def timeless(rows: list[Row]) -> list[Row]:
    """Rows without what the clock says."""
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]


def turn_verdict(path: Path) -> None:
    answer = json.loads(path.read_bytes())
    answer["verdict"] = "real" if answer["verdict"] == "fake" else "fake"
    path.write_text(json.dumps(answer), encoding="utf-8")


def test_damaged_answers_are_named_set_aside_and_made_again(
    output: ScoreLayout, request_of: Callable[..., ScoreRequest], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = timeless(read_rows(output.parquet_path, SCORES))
    edited, empty, pictureless, whole = find_judged(output)
    turn_verdict(edited)
    empty.write_bytes(b"")
    picture = output.evidence_path(pictureless.parent.name, pictureless.stem)
    picture.write_bytes(picture.read_bytes()[:-1])
    times = {path: path.stat().st_mtime_ns for path in list_answers(output)}
    with caplog.at_level(logging.WARNING):
        scored = score_files(request_of(output.path))
    assert scored.num_new == 3
    assert timeless(scored.rows) == timeless(read_rows(output.parquet_path, SCORES)) == wanted
    changed = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {edited, empty, pictureless}
    assert whole not in changed
    for path in changed:
        assert str(path) in caplog.text
        assert path.with_name(f"{path.name}.damaged").exists()
    assert score_files(request_of(output.path)).num_new == 0


def test_damaged_table_and_summary_of_the_last_run_end_no_run(
    output: ScoreLayout, request_of: Callable[..., ScoreRequest]
) -> None:
    wanted = read_rows(output.parquet_path, SCORES)
    for path in (output.parquet_path, output.summary_path):
        path.write_bytes(path.read_bytes()[:-20])
    scored = score_files(request_of(output.path))
    assert (scored.num_new, scored.rows) == (0, wanted)
    assert read_rows(output.parquet_path, SCORES) == wanted


def test_answer_for_another_video_is_no_answer(output: ScoreLayout) -> None:
    first, second, *_ = find_judged(output)
    shutil.copy(first, second)
    with pytest.raises(DamagedError, match="the answer for another video"):
        read_answer(output, second.parent.name, second.stem)


def test_answers_that_are_not_there_are_left_out(output: ScoreLayout) -> None:
    known, gone, *_ = find_judged(output)
    gone.unlink()
    found = read_answers(output, known.parent.name, [known.stem, gone.stem])
    assert [*found] == [known.stem]
    assert list((output.path / "results").rglob("*.damaged")) == []
