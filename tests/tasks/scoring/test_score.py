"""Folders of files -> result tables: one row each, the same every time, and nothing done twice."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reelcheck.config import RunSettings, ScoreSettings
from storage.checked.documents import read_document
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.outputs import ScoreLayout
from storage.schemas import SCORES, SCORES_CSV
from storage.tables import Row, read_rows
from tasks.scoring.score import Scored, ScoreRequest, score_files
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

pytestmark = pytest.mark.usefixtures("face_model")

HEAVY = {"torch", "timm", "prefect", "mediapipe", "decord", "lightning", "matplotlib", "sklearn"}
Times = ("demux_seconds", "decode_seconds", "detect_seconds", "crop_seconds", "model_seconds")


@dataclass(frozen=True)
class Done:
    """A finished run."""

    output: ScoreLayout
    scored: Scored
    told: list[tuple[str, Row]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, request_of: Callable[..., ScoreRequest]) -> Done:
    out = tmp_path_factory.mktemp("scores") / "out"
    told: list[tuple[str, Row]] = []
    scored = score_files(request_of(out), on_row=lambda path, row: told.append((path, row)))
    return Done(ScoreLayout(out), scored, told)


def timeless(rows: list[Row]) -> list[Row]:
    """Rows without what the clock says."""
    return [{key: value for key, value in row.items() if key not in Times} for row in rows]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_file_has_one_row_and_only_judged_faces_a_score(done: Done, inbox: Path) -> None:
    rows = read_rows(done.output.parquet_path, SCORES)
    assert rows == done.scored.rows
    found = sorted(path for path in inbox.rglob("*") if path.is_file() or path.is_symlink())
    assert [row["path"] for row in rows] == sorted(p.relative_to(inbox).as_posix() for p in found)
    statuses = {row["path"]: row["status"] for row in rows}
    assert {path for path, status in statuses.items() if status == "ok"} == {
        *(f"clip {number}.mp4" for number in range(4)),
        "a folder/söme cöpy.mp4",
    }
    assert statuses["ramp.mp4"] == "no_face"
    assert statuses["gone.mp4"] == "unreadable"
    assert {statuses["empty.mp4"], statuses["notes.mp4"]} == {"unsupported"}
    for row in rows:
        is_ok = row["status"] == "ok"
        judged = (row["score"], row["logit"], row["verdict"], row["num_frames_used"])
        assert [value is not None for value in judged] == [is_ok] * 4
        assert bool(row["tracks"]) == bool(row["segments"]) == bool(row["frames"]) == is_ok
        assert is_ok or row["reason"]


def test_copies_of_one_content_have_one_prediction(done: Done) -> None:
    rows = {row["path"]: row for row in done.scored.rows}
    own = {"path", "mtime_ns", "ctime_ns"}
    first, copy = rows["clip 0.mp4"], rows["a folder/söme cöpy.mp4"]
    assert {k: v for k, v in first.items() if k not in own} == {
        k: v for k, v in copy.items() if k not in own
    }
    # Told once: the content was judged once.
    assert sorted(path for path, _ in done.told if path in rows) == sorted(p for p, _ in done.told)
    assert len(done.told) == len({row["video_id"] for row in done.scored.rows} - {None})


def test_csv_holds_the_flat_columns_of_the_table(done: Done) -> None:
    with done.output.csv_path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert list(cells[0]) == SCORES_CSV.names
    for row, cell in zip(done.scored.rows, cells, strict=True):
        for name in ("path", "status", "reason", "verdict"):
            assert cell[name] == (row[name] or "")
        for name in ("score", "logit", "duration_seconds"):
            assert (float(cell[name]) if cell[name] else None) == row[name]
        assert cell["quality_flags"] == " ".join(row["quality_flags"])


def test_evidence_is_marked_and_drawn(done: Done) -> None:
    import cv2

    for row in done.scored.rows:
        if row["status"] != "ok":
            assert row["evidence_path"] is None
            continue
        marked = [frame for frame in row["frames"] if frame["is_evidence"]]
        assert len(marked) == ScoreSettings().num_evidence_frames
        picture = cv2.imread(str(done.output.path / row["evidence_path"]))
        assert picture.shape[1] == 112 * len(marked)
        assert picture.shape[0] == (112 if row["verdict"] == "real" else 224)


def test_each_of_the_four_worst_people_has_own_evidence(tmp_path: Path, model: ModelLayout) -> None:
    import cv2

    clips = [
        render_frames(identity_seed=n, clip_seed=n, kind="real", num_frames=24, height=192)
        for n in range(6)
    ]
    video = tmp_path / "six.mp4"
    pictures = [
        np.vstack([np.hstack(six[:3]), np.hstack(six[3:])]) for six in zip(*clips, strict=True)
    ]
    write_h264(video, pictures, fps=25, crf=20)
    request = ScoreRequest(
        sources=(str(video),),
        model=model.path,
        out=tmp_path / "out",
        score_settings=ScoreSettings(heat_maps=False, num_evidence_frames=2),
    )
    [row] = score_files(request).rows
    shown = row["tracks"][:4]
    assert len(row["tracks"]) == 6
    assert {f["track_id"] for f in row["frames"] if f["is_evidence"]} == {
        track["track_id"] for track in shown
    }
    drawn = cv2.imread(str(request.out / row["evidence_path"])).astype(float)
    assert drawn.shape == (4 * 112, 2 * 112, 3)
    for place, track in enumerate(shown):
        own = [f for f in row["frames"] if f["track_id"] == track["track_id"]]
        best = sorted((f["score"] for f in own), reverse=True)[:2]
        marked = [f for f in own if f["is_evidence"]]
        assert sorted((f["score"] for f in marked), reverse=True) == best
        face = drawn[112 * place + 28 : 112 * place + 84, 28:84].mean(axis=(0, 1))
        frame = pictures[marked[0]["frame_index"]][..., ::-1]
        differs = []
        for each in row["tracks"]:
            x, y = (np.array(each["box_xyxy"]).reshape(2, 2).mean(axis=0)).astype(int)
            half = int(each["face_pixels"] * 0.3)
            around = frame[y - half : y + half, x - half : x + half].mean(axis=(0, 1))
            differs.append(np.abs(around - face).max())
        # The picture of this person shows this face, not another of the same video.
        assert int(np.argmin(differs)) == place


def test_summary_counts_the_rows(done: Done) -> None:
    summary = read_document(done.output.summary_path)
    assert summary == done.scored.summary
    assert summary["num_files"] == sum(summary["statuses"].values()) == 10
    assert sum(summary["verdicts"].values()) == summary["statuses"]["ok"] == 5
    assert summary["num_new"] == len(done.told)
    assert 0 < sum(summary["stage_seconds"].values()) <= summary["cpu_seconds"]


def test_second_run_scores_nothing_and_leaves_the_same_bytes(
    done: Done, request_of: Callable[..., ScoreRequest]
) -> None:
    before = contents(done.output.path)
    told: list[str] = []
    again = score_files(request_of(done.output.path), on_row=lambda path, row: told.append(path))
    # A broken link says nothing of a video, but it is no content either.
    assert told == []
    assert (again.rows, again.summary) == (done.scored.rows, done.scored.summary)
    assert (again.num_new, done.scored.num_new) == (0, len(done.told))
    assert contents(done.output.path) == before


def test_scores_depend_on_neither_order_nor_workers_nor_batches(
    done: Done, request_of: Callable[..., ScoreRequest], inbox: Path, tmp_path: Path
) -> None:
    others = {
        "one worker, one video per shard": {"run": RunSettings(num_workers=1, shard_size=1)},
        "other order": {
            "sources": tuple(sorted((str(path) for path in inbox.glob("*")), reverse=True))
        },
    }
    for name, changes in others.items():
        rows = score_files(request_of(tmp_path / name, **changes)).rows
        found = {row["video_id"]: row["logit"] for row in rows if row["video_id"]}
        for row in done.scored.rows:
            if row["video_id"]:
                assert found[row["video_id"]] == row["logit"], name


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_engines_agree(
    done: Done, request_of: Callable[..., ScoreRequest], tmp_path: Path, engine: str
) -> None:
    scored = score_files(request_of(tmp_path, score_settings=ScoreSettings(engine=engine)))
    assert scored.summary["engine"] == engine
    for row, other in zip(done.scored.rows, scored.rows, strict=True):
        assert (row["path"], row["verdict"]) == (other["path"], other["verdict"])
        if row["logit"] is not None:
            assert other["logit"] == pytest.approx(row["logit"], abs=1e-5)


def test_new_files_only_are_scored_and_another_model_scores_all(
    done: Done,
    request_of: Callable[..., ScoreRequest],
    inbox: Path,
    other_random_model: Path,
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    request = request_of(out, sources=(str(source),))
    shutil.copy(inbox / "clip 0.mp4", source)
    score_files(request)
    shutil.copy(inbox / "clip 1.mp4", source)
    told: list[str] = []
    rows = score_files(request, on_row=lambda path, row: told.append(path)).rows
    assert told == ["clip 1.mp4"]
    expected = {row["path"]: row["logit"] for row in done.scored.rows}
    assert {row["path"]: row["logit"] for row in rows} == {
        p: expected[p] for p in expected if p in {"clip 0.mp4", "clip 1.mp4"}
    }
    told.clear()
    request = replace(request, model=other_random_model)
    rows = score_files(request, on_row=lambda path, _: told.append(path)).rows
    assert sorted(told) == ["clip 0.mp4", "clip 1.mp4"]
    other = read_card(ModelLayout(other_random_model))
    assert {row["model_id"] for row in rows} == {other.model_id}
    assert all(row["logit"] != expected[row["path"]] for row in rows)


def test_failed_videos_are_tried_again_when_asked_for(
    request_of: Callable[..., ScoreRequest], inbox: Path, tmp_path: Path
) -> None:
    request = request_of(tmp_path, sources=(str(inbox / "cut.mp4"), str(inbox / "ramp.mp4")))
    statuses = [row["status"] for row in score_files(request).rows]
    assert statuses == ["decode_error", "no_face"]
    told: list[str] = []
    score_files(request, on_row=lambda path, _: told.append(path))
    assert told == []
    score_files(replace(request, retry_failed=True), on_row=lambda path, _: told.append(path))
    assert told == ["cut.mp4"]


def test_scoring_on_a_cpu_imports_no_heavy_library(
    done: Done, model: ModelLayout, inbox: Path, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from tasks.scoring.score import *\n"
        "if __name__ == '__main__':\n"
        "    request = ScoreRequest(sources=(sys.argv[1],), model=Path(sys.argv[2]),"
        " out=Path(sys.argv[3]))\n"
        "    rows = score_files(request).rows\n"
        f"    print(rows[0]['status'], sorted({HEAVY} & sys.modules.keys()))\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    arguments = [inbox / "clip 0.mp4", model.path, tmp_path / "out"]
    result = subprocess.run(
        [sys.executable, path, *arguments], capture_output=True, text=True, check=False
    )
    assert result.stdout == "ok []\n", result.stderr


KILLED = """
import os
import signal
import sys
from pathlib import Path

from tasks.scoring.score import ScoreRequest, score_files

source, model, out, moment = sys.argv[1:]
num_writes = 0


def on_event(event, arguments):
    global num_writes
    if event == "os.rename" and str(arguments[0]).startswith(out):
        num_writes += 1
        if num_writes == int(moment):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(on_event)
    score_files(ScoreRequest(sources=(source,), model=Path(model), out=Path(out)))
"""


def test_runs_killed_at_any_moment_end_like_one_that_was_not(
    done: Done, request_of: Callable[..., ScoreRequest], inbox: Path, tmp_path: Path
) -> None:
    script, out = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(KILLED, encoding="utf-8")
    request = request_of(out)
    # Writes are counted anew by each run; the last moment lies between the tables.
    for moment in (2, 5, 8):
        arguments = [inbox, request.model, out, str(moment)]
        result = subprocess.run([sys.executable, script, *arguments], check=False)
        assert result.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (out / "results").glob("*/*.json")}
    assert len(kept) > 0
    rows = score_files(request).rows
    assert timeless(rows) == timeless(done.scored.rows)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list(out.rglob("*.tmp"))


def test_golden_score(
    request_of: Callable[..., ScoreRequest], face_video: Path, tmp_path: Path
) -> None:
    """Known weights on a known video: a change of this number is a change of every score."""
    [row] = score_files(request_of(tmp_path, sources=(str(face_video),))).rows
    assert row["num_frames_used"] == 12
    assert row["logit"] == pytest.approx(-0.53988, abs=1e-3)


def test_table_says_its_schema_version(done: Done) -> None:
    schema = pq.read_schema(done.output.parquet_path)
    assert schema.equals(SCORES.schema)
    assert schema.metadata.items() >= SCORES.schema.metadata.items()
    predictions = list((done.output.path / "results").glob("*/*.json"))
    assert len(predictions) == len(done.told)
    version = SCORES.schema.metadata[b"reelcheck_schema_version"].decode()
    for path in predictions:
        prediction = json.loads(path.read_text(encoding="utf-8"))
        assert prediction["schema_version"] == version
        assert set(prediction) - {"schema_version", "evidence_sha256", "checksum"} <= set(
            SCORES.names
        )
        logits = [track["logit"] for track in prediction["tracks"]]
        assert logits == sorted(logits, reverse=True)
        assert np.isfinite(logits).all()
