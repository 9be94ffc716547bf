"""Held-out metrics: against scikit-learn, and only on what the model has not seen."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from models.aggregation import AGGREGATIONS
from models.batching import collate
from models.dataset import CropDataset
from models.detector import Detector
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError, StoreError
from reelcheck.train_config import DetectorSettings, TrainSettings
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows, write_table
from storage.weights import weights_to_bytes
from tasks.evaluate import evaluate

WriteModel = Callable[[Path, StoreLayout], ModelLayout]
CALIBRATION = Calibration(temperature=1.5, threshold=0.5, real_below=0.4, fake_from=0.6)


@pytest.fixture
def videos(tiny: Any) -> list[Any]:
    """Fakes by two generators in the test part, and faces of which there are two."""
    test = [
        tiny.Clip(
            path=f"test/{place}.mp4",
            label=place % 2,
            part="test",
            num_tracks=1 + place % 3,
            generator=("swap", "mouth")[place % 4 // 2] if place % 2 else None,
        )
        for place in range(10)
    ]
    return [*(clip for clip in tiny.three_parts() if clip.part != "test"), *test]


@pytest.fixture
def write_model(tiny: Any) -> WriteModel:
    """Random weights with the store's split as the one that they were trained with."""
    torch.manual_seed(0)
    weights = weights_to_bytes(Detector(tiny.detector).state_dict())

    def write(folder: Path, layout: StoreLayout) -> ModelLayout:
        card = ModelCard(
            model_id=sha256(weights).hexdigest()[:12],
            detector=tiny.detector,
            training=TrainSettings(detector=tiny.detector),
            preprocessing=tiny.preprocessing,
            preprocessing_hash=layout.preprocessing_hash,
            split_hash=read_metadata(layout.split_path)["split_hash"],
            calibration=CALIBRATION,
            aggregation=AGGREGATIONS[0],
            num_videos={},
            validation={},
            versions={},
        )
        model = ModelLayout(folder)
        save_checkpoint(model, weights, card)
        shutil.copy(layout.split_path, model.split_path)
        return model

    return write


@pytest.fixture
def layout(tmp_path: Path, tiny: Any, videos: list[Any]) -> StoreLayout:
    return tiny.write_store(tmp_path / "store", videos)


@pytest.fixture
def model(tmp_path: Path, layout: StoreLayout, write_model: WriteModel) -> ModelLayout:
    return write_model(tmp_path / "model", layout)


def scores_one_by_one(
    layout: StoreLayout, settings: DetectorSettings, tested: Sequence[Any]
) -> np.ndarray:
    """Score of each video by the plain rule, without any of the code under test."""
    torch.manual_seed(0)
    detector = Detector(settings).eval()
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    logits: dict[str, list[float]] = {}
    for index, row in enumerate(dataset.rows):
        with torch.no_grad():
            logit = detector(collate([dataset[index]])).logits_B.item()
        logits.setdefault(row["video_id"], []).append(logit)
    return expit(np.array([max(logits[clip.video_id]) for clip in tested]) / 1.5)


def test_metrics_equal_scikit_learn_on_the_test_part(
    layout: StoreLayout, model: ModelLayout, tiny: Any, videos: list[Any]
) -> None:
    metrics = evaluate.fn(layout, model)
    tested = [clip for clip in videos if clip.part == "test"]
    scores = scores_one_by_one(layout, tiny.detector, tested)
    labels = np.array([clip.label for clip in tested])
    assert (metrics["num_videos"], metrics["num_fake"], metrics["num_model_error"]) == (10, 5, 0)
    expected = {
        "auc": roc_auc_score(labels, scores),
        "accuracy": accuracy_score(labels, scores >= 0.5),
        "log_loss": log_loss(labels, scores),
    }
    for generator in ("swap", "mouth"):
        chosen = np.array([clip.generator in (None, generator) for clip in tested])
        expected[f"auc_{generator}"] = roc_auc_score(labels[chosen], scores[chosen])
    found = {name: metrics[name] for name in expected}
    assert found == pytest.approx(expected, abs=1e-5)
    assert (metrics["store_labelled"], metrics["store_scorable"]) == (22, 22)


def test_metrics_are_written_with_the_model_they_belong_to(
    layout: StoreLayout, model: ModelLayout
) -> None:
    metrics = evaluate.fn(layout, model)
    assert json.loads(model.evaluation_path.read_text(encoding="utf-8")) == metrics
    assert metrics["part"] == "test"
    assert metrics["model_id"] == sha256(model.weights_path.read_bytes()).hexdigest()[:12]
    assert metrics["split_hash"] == read_metadata(layout.split_path)["split_hash"]


def test_second_call_measures_nothing(layout: StoreLayout, model: ModelLayout) -> None:
    metrics = evaluate.fn(layout, model)
    before = model.evaluation_path.read_bytes()
    for shard in layout.done_shards():
        layout.crops_path(shard, 0).unlink()
    assert evaluate.fn(layout, model) == metrics
    assert model.evaluation_path.read_bytes() == before


def test_second_call_counts_the_store_anew(layout: StoreLayout, model: ModelLayout) -> None:
    first = evaluate.fn(layout, model)
    rows = read_rows(layout.videos_path, VIDEOS)
    faceless = {**rows[0], "path": "train/ramp.mp4", "status": "no_face"}
    unlabelled = {**rows[0], "path": "unlabelled.mp4", "label": None}
    write_table(layout.videos_path, [*rows, faceless, unlabelled], VIDEOS)
    second = evaluate.fn(layout, model)
    assert (first["store_labelled"], first["store_scorable"]) == (22, 22)
    assert second == {**first, "store_labelled": 23}
    assert json.loads(model.evaluation_path.read_text(encoding="utf-8")) == second


def test_video_without_a_finite_logit_is_counted_and_left_out(
    tmp_path: Path, tiny: Any, videos: list[Any], write_model: WriteModel
) -> None:
    spoiled = [
        # A time stamp that is no number makes a logit that is none.
        tiny.Clip(**{**vars(clip), "first_second": math.nan}) if clip.path == "test/3.mp4" else clip
        for clip in videos
    ]
    layout = tiny.write_store(tmp_path / "store", spoiled)
    metrics = evaluate.fn(layout, write_model(tmp_path / "model", layout))
    tested = [clip for clip in spoiled if clip.part == "test" and clip.path != "test/3.mp4"]
    labels = np.array([clip.label for clip in tested])
    scores = scores_one_by_one(layout, tiny.detector, tested)
    assert (metrics["num_model_error"], metrics["num_videos"], metrics["num_fake"]) == (1, 9, 4)
    expected = {
        "auc": roc_auc_score(labels, scores),
        "accuracy": accuracy_score(labels, scores >= 0.5),
        "log_loss": log_loss(labels, scores),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_metrics_of_an_earlier_split_are_not_reused(
    layout: StoreLayout, model: ModelLayout, tiny: Any, videos: list[Any]
) -> None:
    first = evaluate.fn(layout, model)
    tiny.write_tables(layout, videos[:-2])
    second = evaluate.fn(layout, model)
    assert (first["num_videos"], second["num_videos"]) == (10, 8)
    assert first["split_hash"] != second["split_hash"]


@pytest.mark.parametrize("part", ["train", "val"])
def test_parts_that_the_model_learned_from_are_refused(
    layout: StoreLayout, model: ModelLayout, part: str
) -> None:
    with pytest.raises(MismatchError, match="learned from"):
        evaluate.fn(layout, model, part=part)
    assert not model.evaluation_path.exists()


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_imported_weights_may_be_measured_on_every_part(
    layout: StoreLayout, model: ModelLayout, part: str
) -> None:
    imported = {"training": None, "split_hash": None}
    card = read_card(model).model_copy(update=imported)
    save_checkpoint(model, model.weights_path.read_bytes(), card)
    model.split_path.unlink()
    rows = read_rows(layout.split_path, SPLIT)
    expected = sum(row["split"] == part for row in rows)
    assert evaluate.fn(layout, model, part=part)["num_videos"] == expected


@pytest.mark.parametrize("learned_in", ["train", "val"])
def test_test_part_is_refused_when_one_of_its_videos_was_learned_from(
    tmp_path: Path,
    tiny: Any,
    layout: StoreLayout,
    videos: list[Any],
    write_model: WriteModel,
    learned_in: str,
) -> None:
    moved = [
        tiny.Clip(**{**vars(clip), "part": learned_in}) if clip.path == "test/3.mp4" else clip
        for clip in videos
    ]
    model = write_model(tmp_path / "model", tiny.write_store(tmp_path / "earlier", moved))
    with pytest.raises(MismatchError, match="1 of these videos"):
        evaluate.fn(layout, model)


def test_other_preprocessing_is_refused(
    tmp_path: Path, tiny: Any, model: ModelLayout, videos: list[Any]
) -> None:
    other = PreprocessSettings.model_validate({**tiny.preprocessing.model_dump(), "margin": 1.5})
    layout = tiny.write_store(tmp_path / "other", videos, settings=other)
    with pytest.raises(MismatchError, match=layout.preprocessing_hash):
        evaluate.fn(layout, model)


def test_empty_part_is_refused(
    tmp_path: Path, tiny: Any, videos: list[Any], write_model: WriteModel
) -> None:
    layout = tiny.write_store(tmp_path, [clip for clip in videos if clip.part != "test"])
    with pytest.raises(StoreError, match="test part"):
        evaluate.fn(layout, write_model(tmp_path / "model", layout))


def test_auc_is_none_when_the_part_has_one_label(
    tmp_path: Path, tiny: Any, videos: list[Any], write_model: WriteModel
) -> None:
    only_real = [clip for clip in videos if clip.part != "test" or not clip.label]
    layout = tiny.write_store(tmp_path, only_real)
    metrics = evaluate.fn(layout, write_model(tmp_path / "model", layout))
    assert (metrics["num_videos"], metrics["auc"], metrics["f1"]) == (5, None, None)
