"""The training step: what it writes, when it does nothing, and what it starts from."""

import csv
import importlib.metadata
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.aggregation import video_logits
from models.calibration import calibrated_score
from models.dataset import CropDataset
from models.detector import Detector
from models.inference import score_sequences
from reelcheck.card import ModelCard
from reelcheck.config import DetectorSettings, TrainSettings, load_settings
from reelcheck.errors import MismatchError, StoreError, WeightsError
from storage.checkpoints import read_card, read_weights, weights_to_bytes
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import read_metadata, read_rows
from tasks.score import load_detector
from tasks.train import load_initial_weights, rows_by_split, train

Weights = dict[str, Tensor]
Save = Callable[[Weights, Path], None]


def with_changes(training: TrainSettings, **changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({**training.model_dump(), **changes})


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    videos = [*tiny.three_parts(), tiny.Clip(path="unlabelled.mp4", label=None)]
    return tiny.write_store(tmp_path_factory.mktemp("train"), videos)


@pytest.fixture(scope="module")
def model(layout: StoreLayout, tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> ModelLayout:
    folder = ModelLayout(tmp_path_factory.mktemp("model") / "new" / "model")
    train.fn(layout, folder, tiny.training, notes=["made up"])
    return folder


@pytest.fixture(scope="module")
def card(model: ModelLayout) -> ModelCard:
    return read_card(model)


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_training_writes_all_files_and_nothing_else(model: ModelLayout) -> None:
    names = {"model.safetensors", "card.json", "split.parquet", "log.csv"}
    assert set(files_of(model.path)) == names


def test_card_says_what_the_model_was_made_from(
    layout: StoreLayout, model: ModelLayout, card: ModelCard, tiny: Any
) -> None:
    assert card.model_id == sha256(model.weights_path.read_bytes()).hexdigest()[:12]
    assert card.training == tiny.training
    assert card.preprocessing_hash == layout.preprocessing_hash
    assert card.split_hash == read_metadata(layout.split_path)["split_hash"]
    assert card.num_videos == {
        "train": {"real": 4, "fake": 4},
        "val": {"real": 2, "fake": 2},
        "test": {"real": 3, "fake": 3},
    }
    assert card.notes == ("made up",)
    assert card.versions["torch"] == importlib.metadata.version("torch")
    assert read_rows(model.split_path, SPLIT) == read_rows(layout.split_path, SPLIT)
    assert read_metadata(model.split_path)["split_hash"] == card.split_hash


def test_log_has_one_row_per_epoch_and_shows_the_best(model: ModelLayout, card: ModelCard) -> None:
    with model.log_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    f1 = [float(row["val_f1"]) for row in rows]
    assert card.best_epoch == f1.index(max(f1))


def test_validation_metrics_are_those_of_the_weights_on_disk(
    layout: StoreLayout, model: ModelLayout, card: ModelCard
) -> None:
    rows = rows_by_split(
        read_rows(layout.manifest_path, MANIFEST), read_rows(layout.split_path, SPLIT)
    )["val"]
    detector = load_detector(model.path, card.model_id)
    logits = video_logits(score_sequences(detector, CropDataset(layout, rows)))
    label_of = {row["video_id"]: row["label"] for row in rows}
    errors = [
        (calibrated_score(logit, card.calibration) - label_of[video_id]) ** 2
        for video_id, logit in logits.items()
    ]
    assert card.validation["num_videos"] == len(errors) == 4
    assert card.validation["brier"] == pytest.approx(sum(errors) / 4, abs=1e-5)
    assert card.validation["auc"] == 1.0


def test_second_call_does_no_work(
    layout: StoreLayout, model: ModelLayout, card: ModelCard, tiny: Any
) -> None:
    before = files_of(model.path)
    assert train.fn(layout, model, tiny.training) == card
    assert files_of(model.path) == before


def test_unfinished_folder_is_trained_again_to_the_same_bytes(
    layout: StoreLayout, model: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    again = ModelLayout(tmp_path)
    again.weights_path.write_bytes(b"cut off")
    train.fn(layout, again, tiny.training, notes=["made up"])
    assert {name: data for name, (data, _) in files_of(tmp_path).items()} == {
        name: data for name, (data, _) in files_of(model.path).items()
    }


@pytest.mark.parametrize("change", ["seed=1", "max_epochs=4", "detector.depth=2"])
def test_folder_of_other_settings_is_refused_and_left_alone(
    layout: StoreLayout, model: ModelLayout, tiny: Any, change: str
) -> None:
    before = files_of(model.path)
    other = load_settings(TrainSettings, section="train", overrides=[change], base=tiny.training)
    with pytest.raises(MismatchError, match="other settings"):
        train.fn(layout, model, other)
    assert files_of(model.path) == before


def test_folder_of_another_split_is_refused(model: ModelLayout, tiny: Any, tmp_path: Path) -> None:
    videos = [*tiny.three_parts(), tiny.Clip(path="one_more.mp4", label=0)]
    with pytest.raises(MismatchError, match="another split"):
        train.fn(tiny.write_store(tmp_path, videos), model, tiny.training)


def test_store_without_a_split_is_refused(tiny: Any, tmp_path: Path) -> None:
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    layout.split_path.unlink()
    with pytest.raises(StoreError, match="split"):
        train.fn(layout, ModelLayout(tmp_path / "model"), tiny.training)
    assert not (tmp_path / "model").exists()


def test_only_videos_of_the_split_are_in_its_parts(layout: StoreLayout) -> None:
    manifest = read_rows(layout.manifest_path, MANIFEST)
    parts = rows_by_split(manifest, read_rows(layout.split_path, SPLIT))
    for part, rows in parts.items():
        assert rows
        assert all(row["path"].startswith(f"{part}/") for row in rows)
    assert sum(map(len, parts.values())) == len(manifest) - 1


def test_test_videos_influence_nothing(model: ModelLayout, tiny: Any, tmp_path: Path) -> None:
    videos = [
        tiny.Clip(**{**vars(clip), "pixels_from": "other pixels"}) if clip.part == "test" else clip
        for clip in [*tiny.three_parts(), tiny.Clip(path="unlabelled.mp4", label=None)]
    ]
    layout = tiny.write_store(tmp_path / "store", videos)
    card = train.fn(layout, ModelLayout(tmp_path / "model"), tiny.training)
    known = read_card(model)
    assert (card.model_id, card.calibration) == (known.model_id, known.calibration)


def test_training_starts_from_a_whole_checkpoint_folder(
    layout: StoreLayout, model: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    settings = with_changes(tiny.training, init_from=model.path, learning_rate=1e-12, max_epochs=1)
    again = ModelLayout(tmp_path / "again")
    card = train.fn(layout, again, settings)
    assert card.training.init_from == model.path
    start, end = read_weights(model.path), read_weights(again.path)
    assert start.keys() == end.keys()
    for name in start:
        # At this rate nothing moves; batch norms are frozen when training starts from weights.
        torch.testing.assert_close(end[name], start[name], atol=1e-6, rtol=0)
    for name in running_statistics(start):
        assert torch.equal(end[name], start[name])
    assert train.fn(layout, again, settings) == card


def test_batch_norms_move_from_a_checkpoint_when_asked_for(
    layout: StoreLayout, model: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    settings = with_changes(
        tiny.training,
        init_from=model.path,
        learning_rate=1e-12,
        max_epochs=1,
        freeze_batch_norm=False,
    )
    train.fn(layout, ModelLayout(tmp_path), settings)
    start, end = read_weights(model.path), read_weights(tmp_path)
    assert not any(torch.equal(end[name], start[name]) for name in running_statistics(start))


def running_statistics(weights: Weights) -> list[str]:
    names = [name for name in weights if name.endswith(("running_mean", "running_var"))]
    assert names
    return names


def save_safetensors(weights: Weights, path: Path) -> None:
    path.write_bytes(weights_to_bytes(weights))


def save_pth(weights: Weights, path: Path) -> None:
    torch.save(weights, path)


def save_nested(weights: Weights, path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, path)


def random_detector(settings: DetectorSettings, seed: int, **changes: Any) -> Detector:
    torch.manual_seed(seed)
    return Detector(settings.model_copy(update=changes))


@pytest.mark.parametrize(
    ("save", "suffix"), [(save_safetensors, "safetensors"), (save_pth, "pth"), (save_nested, "pt")]
)
def test_bare_backbone_weights_fill_the_backbone_only(
    tmp_path: Path, tiny: Any, save: Save, suffix: str
) -> None:
    given, detector = random_detector(tiny.detector, 1), random_detector(tiny.detector, 2)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    path = tmp_path / f"backbone.{suffix}"
    # A classifier that the detector does not have is left out.
    save({**given.backbone.state_dict(), "fc.weight": torch.zeros(2, 2)}, path)
    load_initial_weights(detector, read_weights(path), path)
    for name, tensor in detector.state_dict().items():
        expected = given.state_dict() if name.startswith("backbone.") else before
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_that_fit_nothing_are_refused(tmp_path: Path, tiny: Any, is_whole: bool) -> None:
    other = random_detector(tiny.detector, 1, feature_dim=32) if is_whole else torch.nn.Linear(2, 2)
    path = tmp_path / "other.safetensors"
    save_safetensors(other.state_dict(), path)
    with pytest.raises(WeightsError, match="fit neither") as caught:
        load_initial_weights(random_detector(tiny.detector, 2), read_weights(path), path)
    assert str(path) in str(caught.value)


def test_training_from_a_missing_file_is_refused_before_anything_is_written(
    layout: StoreLayout, tiny: Any, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="is not a file"):
        train.fn(
            layout,
            ModelLayout(tmp_path / "model"),
            with_changes(tiny.training, init_from=tmp_path / "nothing.pth"),
        )
    assert not (tmp_path / "model").exists()


def test_card_is_plain_json_that_reads_back_the_same(model: ModelLayout, card: ModelCard) -> None:
    loaded = json.loads(model.card_path.read_text(encoding="utf-8"))
    assert ModelCard.model_validate(loaded) == card
    assert loaded["aggregation"] == "worst_track_of_mean_sequence_logits"
