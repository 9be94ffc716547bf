"""Cross-validation: what lies in the folder of each fold, and the one model made of them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.data.dataset import CropDataset
from models.training.inference import score_sequences
from reelcheck.errors import MismatchError, TrainingError
from reelcheck.train_config import TrainSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LOG, MANIFEST, SPLIT, VALIDATION
from storage.tables import read_csv, read_metadata, read_rows, write_table
from storage.weights import read_weights
from tasks.checkpoints.runtimes import open_runtime
from tasks.checkpoints.torch_model import load_detector
from tasks.evaluation.evaluate import evaluate
from tasks.training.rows import group_by_split
from tasks.training.train import train

FOLDS = 3


@pytest.fixture(scope="module")
def settings(tiny: Any) -> TrainSettings:
    values = {**tiny.training.model_dump(), "folds": FOLDS, "phases": [{"max_epochs": 1}]}
    return TrainSettings.model_validate(values)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("folds"), tiny.three_parts())


@pytest.fixture(scope="module")
def model(
    layout: StoreLayout, settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> ModelLayout:
    folder = ModelLayout(tmp_path_factory.mktemp("model"))
    train(layout, folder, settings, notes=["made up"])
    return folder


def split_rows_of(layout: StoreLayout, model: ModelLayout, split: str) -> list[dict[str, Any]]:
    """Manifest rows of one split, as the table beside a model has it."""
    manifest = read_rows(layout.manifest_path, MANIFEST)
    return group_by_split(manifest, read_rows(model.split_path, SPLIT))[split]


def logits(model: ModelLayout, dataset: CropDataset) -> dict[str, float]:
    detector = load_detector(model.path, read_card(model).model_id)
    return {scored.sequence_id: scored.logit for scored in score_sequences(detector, dataset)}


def test_every_fold_is_a_whole_model(model: ModelLayout, settings: TrainSettings) -> None:
    assert sorted(path.name for path in (model.path / "folds").iterdir()) == ["0", "1", "2"]
    ids = set()
    for number in range(FOLDS):
        fold = model.fold(number)
        card = read_card(fold)
        assert (card.training, card.num_members) == (settings, 1)
        assert [phase.fold for phase in card.phases] == [number]
        assert sum(card.num_videos["val"].values()) == 4
        assert fold.report_path.exists()
        assert not fold.unfinished_dir.exists()
        ids.add(card.model_id)
    assert len(ids) == FOLDS


def test_folds_divide_train_and_val_videos_anew_and_leave_test_alone(
    layout: StoreLayout, model: ModelLayout
) -> None:
    parts = [read_rows(model.fold(number).split_path, SPLIT) for number in range(FOLDS)]
    stored = read_rows(layout.split_path, SPLIT)
    assert read_rows(model.split_path, SPLIT) == stored
    tested = {row["video_id"] for row in stored if row["split"] == "test"}
    validated = [row["video_id"] for fold in parts for row in fold if row["split"] == "val"]
    assert sorted(validated) == sorted({row["video_id"] for row in stored} - tested)
    for fold in parts:
        assert {row["video_id"] for row in fold if row["split"] == "test"} == tested


def test_ensemble_holds_the_weights_of_all_folds(model: ModelLayout) -> None:
    card = read_card(model)
    assert card.num_members == FOLDS
    assert [phase.fold for phase in card.phases] == [0, 1, 2]
    joined = read_weights(model.weights_path)
    for number in range(FOLDS):
        for name, tensor in read_weights(model.fold(number).weights_path).items():
            assert torch.equal(joined.pop(f"members.{number}.{name}"), tensor)
    assert not joined


def test_log_of_the_ensemble_is_that_of_all_folds(model: ModelLayout) -> None:
    rows = read_csv(model.log_path, LOG)
    assert [(row["fold"], row["epoch"]) for row in rows] == [(0, 0), (1, 0), (2, 0)]


def test_ensemble_is_measured_on_every_video_once_by_the_fold_that_had_not_seen_it(
    layout: StoreLayout, model: ModelLayout
) -> None:
    stored = read_rows(model.validation_path, VALIDATION)
    learned = split_rows_of(layout, model, "train") + split_rows_of(layout, model, "val")
    assert sorted(row["sequence_id"] for row in stored) == sorted(
        row["sequence_id"] for row in learned
    )
    assert read_card(model).validation["num_videos"] == len(learned) == 12
    for number in range(FOLDS):
        fold = model.fold(number)
        unseen = CropDataset(layout, split_rows_of(layout, fold, "val"))
        found = {row["sequence_id"]: row["logit"] for row in stored if row["fold"] == number}
        assert found == pytest.approx(logits(fold, unseen), abs=1e-5)


def test_logit_of_the_ensemble_is_the_mean_of_its_folds(
    layout: StoreLayout, model: ModelLayout
) -> None:
    dataset = CropDataset(layout, split_rows_of(layout, model, "test"))
    joined = logits(model, dataset)
    folds = [logits(model.fold(number), dataset) for number in range(FOLDS)]
    assert len({fold[next(iter(joined))] for fold in folds}) == FOLDS
    for sequence_id, logit in joined.items():
        mean = sum(fold[sequence_id] for fold in folds) / FOLDS
        assert logit == pytest.approx(mean, abs=1e-5)


def test_ensemble_can_be_evaluated_and_scored_with(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    # A copy: judging leaves ONNX files beside the checkpoint, and an evaluation its tables.
    model = ModelLayout(shutil.copytree(model.path, tmp_path / "copy"))
    found = evaluate(layout, model)
    assert (found["num_videos"], found["statuses"]) == (6, {"ok": 6})
    # All folds together have learned from every train and val video.
    for part in ("train", "val"):
        with pytest.raises(MismatchError, match="learned from"):
            evaluate(layout, model, split=part)
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    expected = logits(model, dataset)
    runtime = open_runtime(model)
    for item, row in zip(map(dataset.__getitem__, range(len(dataset))), dataset.rows, strict=True):
        features_TD = runtime.encode(item.frames_TCHW.permute(0, 2, 3, 1).contiguous().numpy())
        logit = runtime.classify(features_TD, item.seconds_T.numpy()).logit
        assert logit == pytest.approx(expected[row["sequence_id"]], abs=1e-5)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but events."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


def test_second_call_does_no_work(
    layout: StoreLayout, model: ModelLayout, settings: TrainSettings
) -> None:
    before = contents(model.path)
    times = {path: path.stat().st_mtime_ns for path in model.path.rglob("*")}
    assert train(layout, model, settings, notes=["made up"]) == read_card(model)
    assert contents(model.path) == before
    assert {path: path.stat().st_mtime_ns for path in model.path.rglob("*")} == times


def test_run_killed_after_two_folds_trains_the_third_only_and_ends_the_same(
    layout: StoreLayout, model: ModelLayout, settings: TrainSettings, tmp_path: Path
) -> None:
    again = ModelLayout(tmp_path)
    for number in (0, 1):
        for name, content in contents(model.fold(number).path).items():
            target = again.fold(number).path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    done = [again.fold(number).card_path.stat().st_mtime_ns for number in (0, 1)]
    train(layout, again, settings, notes=["made up"])
    assert [again.fold(number).card_path.stat().st_mtime_ns for number in (0, 1)] == done
    assert contents(again.path) == contents(model.path)


def test_fold_that_lacks_a_label_is_refused_before_another_is_trained(
    tiny: Any, tmp_path: Path, settings: TrainSettings
) -> None:
    # A real video, a fake and two pairs: three groups of each label, which are dealt so that the
    # second of three folds validates one label only.
    clips = tiny.clips(3)
    layout = tiny.write_store(tmp_path / "store", clips)
    component_of = {clip.video_id: name for clip, name in zip(clips, "abccdd", strict=True)}
    rows = [
        {**row, "component": component_of[row["video_id"]]}
        for row in read_rows(layout.split_path, SPLIT)
    ]
    write_table(layout.split_path, rows, SPLIT, metadata=read_metadata(layout.split_path))
    model = ModelLayout(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"the val split holds no (real|fake) video"):
        train(layout, model, settings)
    assert not model.path.exists()


def test_folds_in_the_folder_of_another_model_are_refused_before_any_is_trained(
    layout: StoreLayout, tiny: Any, settings: TrainSettings, tmp_path: Path
) -> None:
    model = ModelLayout(tmp_path)
    train(layout, model, TrainSettings.model_validate({**settings.model_dump(), "folds": None}))
    with pytest.raises(MismatchError, match="other settings"):
        train(layout, model, settings)
    assert not (tmp_path / "folds").exists()
