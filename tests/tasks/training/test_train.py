"""The training step: what it writes, when it does nothing, and what it refuses."""

import csv
import importlib.metadata
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.data.dataset import CropDataset
from models.metrics.aggregation import AGGREGATIONS, aggregate_videos
from models.metrics.verdict import calibrate_score
from models.training.inference import score_sequences
from reelcheck.card import ModelCard
from reelcheck.errors import (
    MismatchError,
    ReelcheckError,
    SettingsError,
    StoreError,
    TrainingError,
)
from reelcheck.settings import load_settings
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.checkpoints import read_card
from storage.layout import SUMS, ModelLayout, StoreLayout
from storage.schemas import LOG, MANIFEST, SPLIT, VALIDATION, VIDEOS
from storage.tables import read_csv, read_metadata, read_rows, write_table
from tasks.checkpoints.torch_model import load_detector
from tasks.splits.split import split_store
from tasks.training.rows import group_by_split
from tasks.training.train import train


def with_changes(training: TrainSettings, *changes: str) -> TrainSettings:
    """The settings after ``--set`` for each of the changes."""
    return load_settings(TrainSettings, section="train", overrides=changes, base=training)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    videos = [*tiny.three_parts(), tiny.Clip(path="unlabelled.mp4", label=None)]
    return tiny.write_store(tmp_path_factory.mktemp("train"), videos)


@pytest.fixture(scope="module")
def model(layout: StoreLayout, tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> ModelLayout:
    folder = ModelLayout(tmp_path_factory.mktemp("model") / "new" / "model")
    train(layout, folder, tiny.training, notes=["made up"])
    return folder


@pytest.fixture(scope="module")
def card(model: ModelLayout) -> ModelCard:
    return read_card(model)


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file, by its path in the folder; of events the folder alone."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


def test_training_writes_all_files_and_leaves_nothing_else(model: ModelLayout) -> None:
    pictures = {f"plots/{name}.png" for name in ("curves", "confusion", "roc", "precision_recall")}
    tables = {"split.parquet", "log.csv", "validation.parquet", "classification.json"}
    tables |= {"learned.parquet", SUMS}
    model_files = {"model.safetensors", "card.json", "report.md"}
    assert set(files_of(model.path)) == {*model_files, *tables, *pictures}


def test_report_is_of_this_model_and_shows_its_pictures(
    model: ModelLayout, card: ModelCard
) -> None:
    text = model.report_path.read_text(encoding="utf-8")
    assert card.model_id in text
    assert "made up" in text
    assert all(f"(plots/{path.name})" in text for path in model.plots_dir.iterdir())
    loaded = json.loads(model.classification_path.read_text(encoding="utf-8"))
    assert loaded["threshold"] == card.calibration.threshold
    confusion = loaded["pooled"]["confusion"]
    assert [sum(confusion[label].values()) for label in ("real", "fake")] == [2, 2]


def test_card_says_what_the_model_was_made_from(
    layout: StoreLayout, model: ModelLayout, card: ModelCard, tiny: Any
) -> None:
    assert card.weights_sha256 == sha256(model.weights_path.read_bytes()).hexdigest()
    assert (card.training, card.detector) == (tiny.training, tiny.detector)
    assert (card.num_members, card.source) == (1, None)
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
        cells = list(csv.DictReader(file))
    assert list(cells[0]) == LOG.names
    rows = read_csv(model.log_path, LOG)
    assert [(row["fold"], row["phase"], row["epoch"]) for row in rows] == [
        (None, 1, epoch) for epoch in range(3)
    ]
    f1 = [row["val_f1"] for row in rows]
    (phase,) = card.phases
    assert (phase.num_epochs, phase.best_epoch) == (3, f1.index(max(f1)))
    # The last epoch that was the best so far is the best of all.
    assert [row["epoch"] for row in rows if row["is_best"]][-1] == phase.best_epoch


def test_validation_metrics_are_those_of_the_weights_on_disk(
    layout: StoreLayout, model: ModelLayout, card: ModelCard
) -> None:
    rows = group_by_split(
        read_rows(layout.manifest_path, MANIFEST), read_rows(layout.split_path, SPLIT)
    )["val"]
    detector = load_detector(model.path, card.model_id)
    logits = aggregate_videos(score_sequences(detector, CropDataset(layout, rows)), AGGREGATIONS[0])
    label_of = {row["video_id"]: row["label"] for row in rows}
    errors = [
        (calibrate_score(logit, card.calibration) - label_of[video_id]) ** 2
        for video_id, logit in logits.items()
    ]
    assert card.validation["num_videos"] == len(errors) == 4
    assert card.validation["brier"] == pytest.approx(sum(errors) / 4, abs=1e-5)
    auc = roc_auc_score(list(map(label_of.get, logits)), list(logits.values()))
    assert card.validation["auc"] == pytest.approx(auc)


def test_validation_table_holds_the_logits_of_the_weights_on_disk(
    layout: StoreLayout, model: ModelLayout, card: ModelCard
) -> None:
    rows = group_by_split(
        read_rows(layout.manifest_path, MANIFEST), read_rows(layout.split_path, SPLIT)
    )["val"]
    detector = load_detector(model.path, card.model_id)
    scored = {s.sequence_id: s.logit for s in score_sequences(detector, CropDataset(layout, rows))}
    stored = read_rows(model.validation_path, VALIDATION)
    assert [row["fold"] for row in stored] == [None] * 4
    assert {row["video_id"]: row["label"] for row in stored} == {
        row["video_id"]: row["label"] for row in rows
    }
    found = {row["sequence_id"]: row["logit"] for row in stored}
    assert found == pytest.approx(scored, abs=1e-5)


def test_second_call_does_no_work(
    layout: StoreLayout, model: ModelLayout, card: ModelCard, tiny: Any
) -> None:
    before = files_of(model.path)
    assert train(layout, model, tiny.training) == card
    assert files_of(model.path) == before


def test_unfinished_folder_is_trained_again_to_the_same_bytes(
    layout: StoreLayout, model: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    again = ModelLayout(tmp_path)
    again.weights_path.write_bytes(b"cut off")
    train(layout, again, tiny.training, notes=["made up"])
    assert {name: data for name, (data, _) in files_of(tmp_path).items()} == {
        name: data for name, (data, _) in files_of(model.path).items()
    }


def test_another_seed_gives_another_model(
    layout: StoreLayout, card: ModelCard, tiny: Any, tmp_path: Path
) -> None:
    other = train(layout, ModelLayout(tmp_path), with_changes(tiny.training, "seed=1"))
    assert other.model_id != card.model_id


@pytest.mark.parametrize(
    "change", ["seed=1", "phases.0.max_epochs=4", "detector.transformer.depth=2", "folds=2"]
)
def test_folder_of_other_settings_is_refused_and_left_alone(
    layout: StoreLayout, model: ModelLayout, tiny: Any, change: str
) -> None:
    before = files_of(model.path)
    with pytest.raises(MismatchError, match="other settings"):
        train(layout, model, with_changes(tiny.training, change))
    assert files_of(model.path) == before


def test_folder_of_another_split_is_refused(model: ModelLayout, tiny: Any, tmp_path: Path) -> None:
    videos = [*tiny.three_parts(), tiny.Clip(path="one_more.mp4", label=0)]
    with pytest.raises(MismatchError, match="another split"):
        train(tiny.write_store(tmp_path, videos), model, tiny.training)


def test_store_without_a_split_is_refused(tiny: Any, tmp_path: Path) -> None:
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    layout.split_path.unlink()
    with pytest.raises(StoreError, match="split"):
        train(layout, ModelLayout(tmp_path / "model"), tiny.training)
    assert not (tmp_path / "model").exists()


def test_test_videos_influence_nothing(model: ModelLayout, tiny: Any, tmp_path: Path) -> None:
    videos = [
        tiny.Clip(**{**vars(clip), "pixels_from": "other pixels"}) if clip.part == "test" else clip
        for clip in [*tiny.three_parts(), tiny.Clip(path="unlabelled.mp4", label=None)]
    ]
    layout = tiny.write_store(tmp_path / "store", videos)
    card = train(layout, ModelLayout(tmp_path / "model"), tiny.training)
    known = read_card(model)
    assert (card.weights_sha256, card.calibration) == (known.weights_sha256, known.calibration)


def test_labels_of_given_test_videos_change_nothing_that_is_learned_or_fitted(
    tiny: Any, tmp_path: Path
) -> None:
    clips = tiny.three_parts()
    cards, weights = [], []
    for name, is_changed in (("as they are", False), ("by chance", True)):
        known = [
            replace(clip, label=place // 2 % 2) if is_changed and clip.part == "test" else clip
            for place, clip in enumerate(clips)
        ]
        layout = tiny.write_store(tmp_path / name / "store", clips)
        tiny.write_tables(layout, known)
        layout.split_path.unlink()
        # What the column ``split`` of a labels table gives.
        part_of = {clip.path: clip.part for clip in clips}
        files = read_rows(layout.videos_path, VIDEOS)
        given = [{**file, "split": part_of[file["path"]]} for file in files]
        write_table(layout.videos_path, given, VIDEOS)
        split_store(layout, None)
        model = ModelLayout(tmp_path / name / "model")
        cards.append(train(layout, model, tiny.training))
        weights.append(model.weights_path.read_bytes())
    one, other = cards
    assert one.split_hash != other.split_hash
    assert sha256(weights[0]).hexdigest() == sha256(weights[1]).hexdigest()
    assert (one.calibration, one.aggregation) == (other.calibration, other.aggregation)
    assert one.validation == other.validation


def test_card_is_plain_json_that_reads_back_the_same(model: ModelLayout, card: ModelCard) -> None:
    loaded = json.loads(model.card_path.read_text(encoding="utf-8"))
    assert loaded["model_id"] == card.model_id
    assert read_card(model) == card
    assert loaded["aggregation"] == "worst_track_of_mean_sequence_logits"


def test_part_of_the_train_videos_is_learned_from_when_asked_for(
    layout: StoreLayout, model: ModelLayout, card: ModelCard, tiny: Any, tmp_path: Path
) -> None:
    settings = with_changes(tiny.training, "phases.0.max_epochs=1")
    part = ModelLayout(tmp_path)
    found = train(layout, part, settings, num_train_videos=4)
    assert found.num_videos == {**card.num_videos, "train": {"real": 2, "fake": 2}}
    kept = {row["video_id"] for row in read_rows(part.split_path, SPLIT)}
    known = read_rows(model.split_path, SPLIT)
    assert len(kept) == len(known) - 4
    assert {row["video_id"] for row in known if row["split"] != "train"} < kept
    assert train(layout, part, settings, num_train_videos=4) == found
    with pytest.raises(MismatchError, match="another split"):
        train(layout, part, settings, num_train_videos=6)


def test_videos_that_are_left_out_are_not_read(tiny: Any, tmp_path: Path) -> None:
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts(), shard_size=1)
    settings = with_changes(tiny.training, "phases.0.max_epochs=1")
    card = train(layout, ModelLayout(tmp_path / "first"), settings, num_train_videos=4)
    rows = read_rows(ModelLayout(tmp_path / "first").split_path, SPLIT)
    used = {row["video_id"] for row in rows if row["split"] != "test"}
    cut_off(layout, without=used)
    again = train(layout, ModelLayout(tmp_path / "again"), settings, num_train_videos=4)
    assert again == card


def cut_off(layout: StoreLayout, *, without: set[str]) -> None:
    """Make the crops of all videos but these unreadable; each video has its own shard."""
    for row in read_rows(layout.manifest_path, MANIFEST):
        if row["video_id"] not in without:
            path = layout.crops_path(row["shard"], row["crop_file"])
            # Another file, not a shorter one: what is mapped into memory must not shrink.
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content[:64])


@pytest.mark.parametrize("part", ["train", "val"])
def test_damaged_crops_are_a_store_error_that_names_the_file(
    tiny: Any, tmp_path: Path, part: str
) -> None:
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts(), shard_size=1)
    spoiled = next(
        row
        for row in read_rows(layout.manifest_path, MANIFEST)
        if row["path"] == f"{part}/fake_1.mp4"
    )
    everything = {row["video_id"] for row in read_rows(layout.manifest_path, MANIFEST)}
    cut_off(layout, without=everything - {spoiled["video_id"]})
    model = ModelLayout(tmp_path / "model")
    with pytest.raises(StoreError, match="run preprocess again") as caught:
        train(layout, model, tiny.training)
    assert f"{spoiled['shard']}.0.arrow" in str(caught.value)
    assert not model.card_path.exists()


def test_compiling_a_backbone_of_which_layers_are_taken_is_refused(
    layout: StoreLayout, tiny: Any, tmp_path: Path
) -> None:
    settings = with_changes(tiny.training, "detector.feature_layers=[1]")
    with pytest.raises(SettingsError, match="compile = true"):
        train(layout, ModelLayout(tmp_path), settings, engine=EngineSettings(compile=True))


@pytest.mark.parametrize(
    ("changes", "error", "part"),
    [
        (["folds=7"], SettingsError, "only 6 independent groups of"),
        (["batch_size=9"], SettingsError, "batch_size = 9 cannot be shared by num_devices = 2"),
        (["detector.backbone=resnet0"], SettingsError, "resnet0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    layout: StoreLayout,
    tiny: Any,
    tmp_path: Path,
    changes: list[str],
    error: type[ReelcheckError],
    part: str,
) -> None:
    settings = with_changes(tiny.training, *changes)
    with pytest.raises(error, match=part) as caught:
        train(layout, ModelLayout(tmp_path), settings, engine=EngineSettings(num_devices=2))
    assert "\n" not in str(caught.value)
    assert not ModelLayout(tmp_path).card_path.exists()


@pytest.mark.parametrize("num_steps", [1, 3])
def test_loss_that_is_no_number_ends_training_and_says_what_to_do(
    layout: StoreLayout, tiny: Any, tmp_path: Path, num_steps: int
) -> None:
    settings = with_changes(
        tiny.training,
        "phases.0.learning_rate=1e30",
        "phases.0.max_epochs=1",
        "clip_norm=none",
        "schedule=constant",
        f"batch_size={8 // num_steps}",
    )
    model = ModelLayout(tmp_path)
    # After a single step it is validation that meets it.
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in .*give a lower .*rate"):
        train(layout, model, settings)
    assert not model.card_path.exists()
    # What was advised can be done in the same folder.
    sane = with_changes(settings, "phases.0.learning_rate=1e-3", "clip_norm=1")
    assert train(layout, model, sane).training == sane


def test_event_files_of_every_phase_outlive_the_run(model: ModelLayout) -> None:
    events = list(model.tensorboard_dir.rglob("*"))
    assert [path.name for path in events if path.is_dir()] == ["phase1"]
    [file] = [path for path in events if path.is_file()]
    loaded = EventAccumulator(str(file)).Reload()
    assert {"val_f1", "val_auc", "train_loss"} <= set(loaded.Tags()["scalars"])
    assert len(loaded.Scalars("val_f1")) == 3
