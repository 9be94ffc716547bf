"""The whole pipeline once, on rendered faces with tiny settings, and what a second run does."""

import csv
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from flows.evaluate import evaluate
from flows.preprocess import preprocess
from flows.score import score
from flows.split import split_store
from flows.train import train
from models.data.dataset import CropDataset
from models.metrics.evaluation import evaluate_table
from models.training.inference import score_sequences
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.errors import MismatchError
from reelcheck.recipes import load_recipe
from reelcheck.settings import load_settings
from reelcheck.train_config import TrainSettings
from storage.layout import ModelLayout, StoreLayout, find_preprocessed
from storage.outputs import EvaluationLayout, ScoreLayout
from storage.rows import ScoreRow
from storage.schemas import EVALUATED, MANIFEST, SCORES, SPLIT, VIDEOS
from storage.tables import read_rows
from tasks.checkpoints.torch_model import load_detector
from tasks.evaluation.predictions import make_score_table
from tasks.scoring.score import Scored

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "face_model")]

Command = Callable[..., Any]
"""Runs of the command line, which give exit code, stdout and stderr."""
RUN = RunSettings(num_workers=2, shard_size=12)
TRAINING = load_settings(
    TrainSettings,
    section="train",
    overrides=["phases.0.max_epochs=2"],
    base=load_recipe("b3-transformer-fast").train,
)
BAD_FILES = ("bad/empty.mp4", "bad/text.mp4", "bad/ramp.mp4")


@dataclass(frozen=True)
class Pipeline:
    """Where the one run of everything left its results, and what its flows returned."""

    source: Path
    labels: Path
    store: Path
    model: Path
    inbox: Path
    out: Path
    counts: dict[str, int]
    splits: dict[str, dict[str, int]]
    card: ModelCard
    metrics: dict[str, Any]
    scored: Scored

    @property
    def rows(self) -> list[ScoreRow]:
        return self.scored.rows

    @property
    def layout(self) -> StoreLayout:
        return find_preprocessed(self.store)


@pytest.fixture(scope="module")
def pipeline(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: None,
    face_model: Path,
    synthetic_dataset: Path,
    faceless_video: Path,
) -> Pipeline:
    folder = tmp_path_factory.mktemp("pipeline")
    source, labels = synthetic_dataset / "videos", synthetic_dataset / "labels.csv"
    store, model, inbox, out = (folder / name for name in ("store", "model", "inbox", "scores"))
    counts = dict(preprocess(source, store, labels=labels, run=RUN).counts)
    splits = split_store(store)
    card = train(store, model, settings=TRAINING, notes=("rendered",))
    metrics = evaluate(store, model)
    fill_inbox(inbox, source, find_preprocessed(store), faceless_video)
    scored = score(inbox, model, out, run=RUN)
    return Pipeline(source, labels, store, model, inbox, out, counts, splits, card, metrics, scored)


def fill_inbox(inbox: Path, source: Path, layout: StoreLayout, faceless_video: Path) -> None:
    """Copies of the test part's videos, and files that every real folder has."""
    (inbox / "bad").mkdir(parents=True)
    tested = {r["video_id"] for r in read_rows(layout.split_path, SPLIT) if r["split"] == "test"}
    for row in read_rows(layout.videos_path, VIDEOS):
        if row["video_id"] in tested:
            shutil.copy(source / row["path"], inbox / row["path"].replace("/", "_"))
    (inbox / "bad" / "empty.mp4").touch()
    (inbox / "bad" / "text.mp4").write_text("This is not a video.\n", encoding="utf-8")
    shutil.copy(faceless_video, inbox / "bad" / "ramp.mp4")


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the one that says how long the last run took."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "summary.json"
    }


def mtimes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_every_video_gives_crops_and_a_split(pipeline: Pipeline) -> None:
    assert pipeline.counts == {"ok": 24}
    assert sum(count for counts in pipeline.splits.values() for count in counts.values()) == 24
    assert all(count > 0 for counts in pipeline.splits.values() for count in counts.values())
    rows = read_rows(pipeline.layout.manifest_path, MANIFEST)
    with pipeline.labels.open(encoding="utf-8", newline="") as file:
        truth = {row["path"]: row["label"] for row in csv.DictReader(file)}
    names = {0: "real", 1: "fake"}
    assert {row["path"]: names[row["label"]] for row in rows} == truth


def test_second_preprocessing_makes_no_shard_and_the_same_bytes(pipeline: Pipeline) -> None:
    before, times = contents(pipeline.layout.path), mtimes(pipeline.layout.shards_dir)
    again = preprocess(pipeline.source, pipeline.store, labels=pipeline.labels, run=RUN)
    assert again.counts == pipeline.counts
    assert (again.num_videos, again.num_videos_before) == (0, 24)
    assert contents(pipeline.layout.path) == before
    assert mtimes(pipeline.layout.shards_dir) == times
    assert len(pipeline.layout.done_shards()) == 2


def test_interrupted_preprocessing_redoes_the_unfinished_shard_only(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(pipeline.store, store)
    layout = find_preprocessed(store)
    kept, lost = layout.done_shards()
    layout.shard_videos_path(lost).unlink()
    layout.manifest_path.unlink()
    times = mtimes(layout.shards_dir)
    left = layout.shards_dir / f".{lost}.0.arrow.0123.tmp"
    left.write_bytes(b"a crash leaves this")
    again = preprocess(pipeline.source, store, labels=pipeline.labels, run=RUN)
    assert (again.num_videos, again.num_videos_before) == (12, 12)
    after = mtimes(layout.shards_dir)
    assert {name for name in times if name.startswith(kept)} == {
        name for name in times if times[name] == after[name]
    }
    assert contents(store) == contents(pipeline.store)


def test_second_training_and_evaluation_do_no_work(pipeline: Pipeline) -> None:
    before, times = contents(pipeline.model), mtimes(pipeline.model)
    settings = {"settings": TRAINING, "notes": ("rendered",)}
    assert train(pipeline.store, pipeline.model, **settings) == pipeline.card
    assert evaluate(pipeline.store, pipeline.model) == pipeline.metrics
    assert (contents(pipeline.model), mtimes(pipeline.model)) == (before, times)
    assert split_store(pipeline.store) == pipeline.splits


def test_every_file_has_a_row_and_bad_files_no_score(pipeline: Pipeline) -> None:
    files = sorted(name for name in contents(pipeline.inbox))
    by_path = {
        row["path"]: row for row in read_rows(ScoreLayout(pipeline.out).parquet_path, SCORES)
    }
    assert sorted(by_path) == files == sorted(row["path"] for row in pipeline.rows)
    for path in BAD_FILES:
        row = by_path.pop(path)
        assert (row["score"], row["verdict"], row["logit"]) == (None, None, None)
        assert row["status"] == ("no_face" if path == "bad/ramp.mp4" else "unsupported")
        assert row["reason"]
    assert by_path
    for row in by_path.values():
        assert row["status"] == "ok"
        assert 0 <= row["score"] <= 1
        assert row["verdict"] in {"real", "fake", "inconclusive"}
        assert row["model_id"] == pipeline.card.model_id


def test_scores_of_new_copies_equal_those_of_the_training_store(pipeline: Pipeline) -> None:
    dataset = CropDataset(pipeline.layout, read_rows(pipeline.layout.manifest_path, MANIFEST))
    detector = load_detector(pipeline.model, pipeline.card.model_id)
    known: dict[str, list[float]] = {}
    for sequence in score_sequences(detector, dataset):
        known.setdefault(sequence.video_id, []).append(sequence.logit)
    scored = [row for row in pipeline.rows if row["status"] == "ok"]
    for row in scored:
        [logit] = known[row["video_id"]]
        assert row["logit"] == pytest.approx(logit, abs=1e-5)
    labels = [row["path"].startswith("fake") for row in scored]
    auc = roc_auc_score(labels, [row["score"] for row in scored])
    assert pipeline.metrics["metrics"]["auc"] == pytest.approx(auc, abs=1e-6)


def test_evaluation_and_scoring_of_the_same_videos_say_the_same_to_the_last_bit(
    pipeline: Pipeline,
) -> None:
    output = ModelLayout(pipeline.model).evaluation("test", pipeline.metrics["split_hash"])
    evaluated = read_rows(output.videos_path, EVALUATED)
    scored = {row["video_id"]: row for row in pipeline.rows if row["status"] == "ok"}
    assert [row["video_id"] for row in evaluated] == sorted(scored)
    for row in evaluated:
        other = scored[row["video_id"]]
        for name in ("logit", "score", "verdict", "num_frames_used", "quality_flags"):
            assert row[name] == other[name], name
        # Boxes and brightness of a track are of float32 in a store; they decide nothing.
        tracks = [(track["track_id"], track["logit"], track["score"]) for track in row["tracks"]]
        assert tracks == [(t["track_id"], t["logit"], t["score"]) for t in other["tracks"]]
        assert row["segments"] == other["segments"]
        frames = [(frame["frame_index"], frame["score"]) for frame in row["frames"]]
        assert frames == [(frame["frame_index"], frame["score"]) for frame in other["frames"]]
    # And so do the figures that come of it.
    known = {row["video_id"]: row for row in evaluated}
    rows = [{**known[name], **row} for name, row in scored.items()]
    found = evaluate_table(make_score_table(rows), pipeline.card.calibration)
    assert {name: pipeline.metrics[name] for name in found} == found


KILLED = """
import os
import signal
import sys
from pathlib import Path

from reelcheck.config import RunSettings
from reelcheck.perturbations import parse_perturbations
from storage.layout import ModelLayout, find_preprocessed
from tasks.evaluation.evaluate import evaluate

store, model, out = map(Path, sys.argv[1:])


def on_event(event, arguments):
    if event == "os.rename" and Path(arguments[1]).name == "blur-3.parquet":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(on_event)
    evaluate(
        find_preprocessed(store),
        ModelLayout(model),
        out=out,
        perturbations=parse_perturbations(["remux", "blur 3"]),
        run=RunSettings(num_workers=2),
    )
"""


@pytest.mark.slow
def test_killed_robustness_run_goes_on_with_what_is_missing(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    script, output = tmp_path / "killed.py", EvaluationLayout(tmp_path / "out")
    script.write_text(KILLED, encoding="utf-8")
    arguments = [sys.executable, script, pipeline.store, pipeline.model, output.path]
    killed = subprocess.run(arguments, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    remuxed, blurred = (output.perturbed_path(name) for name in ("remux", "blur 3"))
    assert (remuxed.exists(), blurred.exists(), output.evaluation_path.exists()) == (
        True,
        False,
        False,
    )
    times = {path: path.stat().st_mtime_ns for path in (remuxed, output.videos_path)}
    arguments = (pipeline.store, pipeline.model)
    found = evaluate(*arguments, out=output.path, perturb=("remux", "blur 3"), run=RUN)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    rows = {row["name"]: row for row in found["robustness"]}
    # The store's crops and those of the repacked files are the same to the last bit.
    assert (rows["remux"]["largest_logit_change"], rows["remux"]["coverage"]) == (0.0, 1.0)
    assert rows["blur 3"]["largest_logit_change"] > 0
    assert {name: found[name] for name in pipeline.metrics if name != "robustness"} == {
        name: value for name, value in pipeline.metrics.items() if name != "robustness"
    }
    times = {path: path.stat().st_mtime_ns for path in (remuxed, blurred, output.videos_path)}
    again = evaluate(*arguments, out=output.path, perturb=("remux", "blur 3"), run=RUN)
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_command_line_shows_figures_and_robustness_and_where_they_lie(
    pipeline: Pipeline, reelcheck: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("evaluate", pipeline.store, "--model", pipeline.model, "--out", out)
    result = reelcheck(*arguments, "--perturb", "remux", "--report", "--workers", 2)
    assert result.exit_code == 0, result.stderr
    for title in ("Held-out figures", "Compared with", "Robustness"):
        assert title in result.stdout
    lines = result.stdout.splitlines()
    assert f"figures: {out / 'evaluation.json'}" in lines
    assert f"page: {out / 'report.html'}" in lines
    output = EvaluationLayout(out)
    assert output.robustness_path.exists()
    assert "rendered" in output.model_card_path.read_text(encoding="utf-8")
    refused = reelcheck(*arguments, "--perturb", "sepia")
    assert refused.exit_code == 2
    assert "unknown perturbation 'sepia'" in refused.stderr


def test_second_scoring_gives_the_same_bytes(pipeline: Pipeline) -> None:
    before = contents(pipeline.out)
    again = score(pipeline.inbox, pipeline.model, pipeline.out, run=RUN)
    assert (again.rows, again.summary) == (pipeline.rows, pipeline.scored.summary)
    assert (pipeline.scored.num_new > 0, again.num_new) == (True, 0)
    assert contents(pipeline.out) == before


def test_one_file_can_be_scored(pipeline: Pipeline, tmp_path: Path) -> None:
    row = next(row for row in pipeline.rows if row["status"] == "ok")
    [alone] = score(pipeline.inbox / row["path"], pipeline.model, tmp_path, run=RUN).rows
    assert alone["path"] == row["path"]
    assert alone["logit"] == pytest.approx(row["logit"], abs=1e-5)


def test_scoring_with_other_preprocessing_is_refused_and_the_setting_named(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    other = pipeline.card.preprocessing.model_copy(update={"margin": 1.5})
    with pytest.raises(MismatchError, match=r"margin: 1\.3 != 1\.5"):
        score(pipeline.inbox, pipeline.model, tmp_path / "out", settings=other, run=RUN)
    assert not (tmp_path / "out").exists()


def test_command_line_refuses_other_preprocessing_with_exit_code_3(
    pipeline: Pipeline, reelcheck: Command, tmp_path: Path
) -> None:
    arguments = ("score", pipeline.inbox, "--model", pipeline.model, "--out", tmp_path / "out")
    result = reelcheck(*arguments, "--set", "margin=1.5")
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr
    assert "margin" in result.stderr


def test_command_line_prints_every_row_and_the_notes(
    pipeline: Pipeline, reelcheck: Command
) -> None:
    result = reelcheck(
        "score", pipeline.inbox, "--model", pipeline.model, "--out", pipeline.out, "--workers", 2
    )
    assert result.exit_code == 0
    assert "rendered" in result.stdout
    for row in pipeline.rows:
        assert row["path"][:12] in result.stdout
    assert "scores.csv" in result.stdout


def test_command_line_prints_file_names_with_brackets_whole(
    pipeline: Pipeline, reelcheck: Command, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip [abc].mp4").touch()
    result = reelcheck(
        "score", tmp_path / "in", "--model", pipeline.model, "--out", tmp_path / "out"
    )
    assert result.exit_code == 0
    assert "clip [abc].mp4" in result.stdout
