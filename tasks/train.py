"""Manifest + split -> a checkpoint folder."""

import importlib.metadata
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prefect import task

from models.aggregation import video_logits
from models.calibration import choose_aggregation, fit_calibration
from models.engine import node_rank
from models.metrics import video_metrics
from models.verdict import calibrated_score
from reelcheck.card import Aggregation, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError, SettingsError, TrainingError
from reelcheck.records import ScoredSequence
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LEARNED, LOG, MANIFEST, SPLIT, VALIDATION, VIDEOS
from storage.tables import Row, read_csv, read_metadata, read_rows, write_csv, write_table
from storage.weights import read_weights, weights_to_bytes
from tasks.links import fingerprints_of
from tasks.member import Trained, train_member
from tasks.parts import fold_splits, subset, training_parts
from tasks.report import TrainingResult, write_report
from tasks.split import count_splits, split_hash

_REALS_ONLY = (
    "Trained and validated on real videos and their self-blends: no labelled fake was ever shown, "
    "though the counts of videos name them."
)
_CARD_SECONDS = 900.0
"""What the first machine may take from its last epoch to the card."""
_HPARAMS = shutil.ignore_patterns("hparams.yaml")
"""Always empty: the settings are in the card."""
_VERSIONED = ("torch", "timm", "lightning", "torchvision", "mediapipe", "av", "decord", "numpy")


@task(name="train")
def train(
    layout: StoreLayout,
    model: ModelLayout,
    settings: TrainSettings,
    *,
    engine: EngineSettings | None = None,
    notes: Sequence[str] = (),
    num_train_videos: int | None = None,
) -> ModelCard:
    """Train on a store's train part, choose on its val part, write the checkpoint folder.

    A folder that already holds the model of exactly this run is left as it is; one that holds a
    part of it is finished.

    Args:
        layout: the store.
        model: folder for the checkpoint.
        settings: the run.
        engine: how to use the machine; None: the defaults.
        notes: lines for the card.
        num_train_videos: learn from about so many videos of the train part.

    Raises:
        StoreError: no split, or a damaged store.
        SettingsError: more folds than groups, or more devices than sequences in a batch.
        TrainingError: the data cannot be learned from, or the loss is no number any more.
        MismatchError: the folder holds another model.
        WeightsError: the weights to start from cannot be had.
    """
    engine = engine or EngineSettings()
    node_rank(engine)  # before anything is read
    if settings.batch_size % engine.world_size:
        nodes = f" on each of num_nodes = {engine.num_nodes}" if engine.num_nodes > 1 else ""
        raise SettingsError(
            f"batch_size = {settings.batch_size} cannot be shared by num_devices = "
            f"{engine.num_devices}{nodes}; give a multiple of {engine.world_size}"
        )
    split_rows = read_rows(layout.split_path, SPLIT)
    if num_train_videos is not None:
        split_rows = subset(split_rows, num_videos=num_train_videos, seed=settings.seed)
    run = _Run(
        layout=layout,
        settings=settings,
        engine=engine,
        notes=tuple(notes),
        manifest=read_rows(layout.manifest_path, MANIFEST),
        split_hash=read_metadata(layout.split_path)["split_hash"],
    )
    if settings.folds is None:
        return _train_one(run, model, split_rows)
    if (done := _finished(run, model, split_rows)) is not None:
        return done
    folds = fold_splits(split_rows, folds=settings.folds, seed=settings.seed)
    for fold_rows in folds:
        # All of them before the first is trained: what is wrong with the last is told at once.
        training_parts(run.manifest, fold_rows, settings)
    for number, fold_rows in enumerate(folds):
        _train_one(run, model.fold(number), fold_rows, fold=number)
    return _join_folds(run, model, split_rows)


@dataclass(frozen=True)
class _Run:
    """What all detectors of a run have in common."""

    layout: StoreLayout
    settings: TrainSettings
    engine: EngineSettings
    notes: tuple[str, ...]
    manifest: list[Row]
    split_hash: str


def _train_one(
    run: _Run, model: ModelLayout, split_rows: Sequence[Row], *, fold: int | None = None
) -> ModelCard:
    """Train one detector and write its folder, unless it is there."""
    if (done := _finished(run, model, split_rows)) is not None:
        return done
    trained = train_member(
        run.layout,
        model,
        training_parts(run.manifest, split_rows, run.settings),
        run.settings,
        run.engine,
        fingerprint=_fingerprint(run, split_rows),
        fold=fold,
    )
    return _write(run, model, split_rows, trained)


def _join_folds(run: _Run, model: ModelLayout, split_rows: Sequence[Row]) -> ModelCard:
    """One model of all folds; a video's logit on validation is that of the fold without it."""
    folds = [model.fold(number) for number in range(run.settings.folds or 0)]
    weights = {
        f"members.{number}.{name}": tensor
        for number, fold in enumerate(folds)
        for name, tensor in read_weights(fold.weights_path).items()
    }
    joined = Trained(
        weights=weights,
        phases=tuple(phase for fold in folds for phase in read_card(fold).phases),
        log=[row for fold in folds for row in read_csv(fold.log_path, LOG)],
        validation=[row for fold in folds for row in read_rows(fold.validation_path, VALIDATION)],
        num_members=len(folds),
    )
    return _write(run, model, split_rows, joined)


def _write(run: _Run, model: ModelLayout, split_rows: Sequence[Row], trained: Trained) -> ModelCard:
    """Write everything of a checkpoint folder, the card last; the first machine does."""
    if node_rank(run.engine):
        return _awaited(model)
    data = weights_to_bytes(trained.weights)
    videos = _validation_videos(trained.validation)
    calibration = fit_calibration(videos.logits, videos.labels, run.settings)
    scores = np.array([calibrated_score(logit, calibration) for logit in videos.logits])
    stored = run.layout.settings_path.read_bytes()
    card = ModelCard(
        model_id=sha256(data).hexdigest()[:12],
        detector=run.settings.detector,
        num_members=trained.num_members,
        training=run.settings,
        preprocessing=PreprocessSettings.model_validate_json(stored),
        preprocessing_hash=run.layout.preprocessing_hash,
        split_hash=run.split_hash,
        calibration=calibration,
        aggregation=videos.aggregation,
        phases=trained.phases,
        num_videos=count_splits(split_rows),
        validation=video_metrics(scores, videos.labels, calibration),
        versions=_versions(),
        notes=(*run.notes, *((_REALS_ONLY,) if run.settings.self_blend == 1 else ())),
    )
    write_csv(model.log_path, trained.log, LOG)
    write_table(model.split_path, split_rows, SPLIT, metadata={"split_hash": run.split_hash})
    write_table(model.validation_path, trained.validation, VALIDATION)
    write_table(model.learned_path, _learned_rows(run, split_rows), LEARNED)
    logs: dict[int, list[Row]] = defaultdict(list)
    for row in trained.log:
        logs[row["fold"] or 0].append(row)
    write_report(
        model,
        TrainingResult(
            card=card,
            log_rows_by_fold=logs,
            scores=scores,
            labels=videos.labels,
            folds=videos.folds,
        ),
    )
    save_checkpoint(model, data, card)
    for events in model.unfinished_dir.glob("*/tensorboard"):
        target = model.tensorboard_dir / events.parent.name
        shutil.copytree(events, target, ignore=_HPARAMS, dirs_exist_ok=True)
    if run.engine.num_nodes == 1:  # else another machine may be reading in there
        shutil.rmtree(model.unfinished_dir, ignore_errors=True)
    return card


def _awaited(model: ModelLayout) -> ModelCard:
    """The card that the first machine writes when it has done the same as this one.

    Raises:
        TrainingError: it does not come.
    """
    deadline = time.monotonic() + _CARD_SECONDS
    while not model.card_path.exists():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"the first machine has written no {model.card_path} in {_CARD_SECONDS:g} seconds; "
                "all machines must share that folder"
            )
        time.sleep(1)
    return read_card(model)


def _learned_rows(run: _Run, split_rows: Sequence[Row]) -> list[Row]:
    """By which an evaluation knows what was learned from, and copies of it in other stores."""
    videos = read_rows(run.layout.videos_path, VIDEOS, columns=("video_id", "fingerprints"))
    frames, faces = fingerprints_of(videos, run.manifest)
    start = run.settings.init_from
    earlier = ModelLayout(start if start and start.is_dir() else (start or Path()).parent)
    is_known = start is not None and earlier.learned_path.exists()
    before = read_rows(earlier.learned_path, LEARNED) if is_known else []
    own = [
        {
            "video_id": row["video_id"],
            "component": row["component"],
            "frames": frames.get(row["video_id"], []),
            "faces": faces.get(row["video_id"], []),
        }
        for row in split_rows
        if row["split"] in {"train", "val"}
    ]
    # A chain of models, each begun with the one before, must not name each video once for each.
    again = {(row["video_id"], row["component"]) for row in own}
    return [row for row in before if (row["video_id"], row["component"]) not in again] + own


def _finished(run: _Run, model: ModelLayout, split_rows: Sequence[Row]) -> ModelCard | None:
    if not model.card_path.exists():
        return None
    card = read_card(model)
    wanted = (run.settings, run.layout.preprocessing_hash)
    is_same_run = (card.training, card.preprocessing_hash) == wanted
    if is_same_run and read_rows(model.split_path, SPLIT) == list(split_rows):
        return card
    raise MismatchError(
        f"{model.path} holds model {card.model_id}, trained with other settings or another split; "
        "give another --out folder, or delete that one"
    )


def _fingerprint(run: _Run, split_rows: Sequence[Row]) -> str:
    """All that decides which weights come out, apart from the code."""
    return json.dumps(
        {
            "settings": run.settings.model_dump(mode="json"),
            "preprocessing": run.layout.preprocessing_hash,
            "split": split_hash(split_rows),
        },
        indent=2,
    )


@dataclass(frozen=True, eq=False)
class _ValidationVideos:
    """V videos that training chose by."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    aggregation: Aggregation
    """That gives these logits."""


def _validation_videos(validation: Sequence[Row]) -> _ValidationVideos:
    names = [field.name for field in fields(ScoredSequence)]
    sequences = [ScoredSequence(**{n: row[n] for n in names}) for row in validation]
    first = {row["video_id"]: row for row in validation}
    labels = {video_id: row["label"] for video_id, row in first.items()}
    aggregation = choose_aggregation(sequences, labels)
    logits = video_logits(sequences, aggregation)
    return _ValidationVideos(
        logits=np.array(list(logits.values())),
        labels=np.array([labels[video_id] for video_id in logits]),
        folds=np.array([first[video_id]["fold"] or 0 for video_id in logits]),
        aggregation=aggregation,
    )


def _versions() -> dict[str, str]:
    installed = {dist.name.lower() for dist in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in _VERSIONED if name in installed}
