"""Manifest + split -> a checkpoint folder."""

import importlib.metadata
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.metrics.aggregation import aggregate_videos
from models.metrics.calibration import choose_aggregation, fit_calibration
from models.metrics.metrics import compute_metrics
from models.metrics.verdict import calibrate_score
from models.network.detector import join_members
from models.training.engine import describe_devices, read_node_rank
from reelcheck.card import Aggregation, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError, SettingsError, TrainingError
from reelcheck.records import ScoredSequence
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.checked.settings import read_preprocessing
from storage.checked.sums import write_sums
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.rows import LearnedRow, LogRow, ManifestRow, SplitRow, ValidationRow
from storage.schemas import LEARNED, LOG, MANIFEST, SPLIT, VALIDATION, VIDEOS
from storage.tables import read_csv, read_rows, write_csv, write_table
from storage.weights import read_model_weights, weights_to_bytes
from tasks.splits.split import count_splits
from tasks.splits.stored import hash_split
from tasks.splits.ties import group_fingerprints
from tasks.training.features import has_fixed_features
from tasks.training.member import Trained, train_member
from tasks.training.report import TrainingResult, write_report
from tasks.training.rows import choose_training_rows, make_fold_splits, take_subset
from tasks.training.start import InitialWeights, find_initial_weights

_REALS_ONLY = (
    "Trained and validated on real videos and their self-blends: no labelled fake was ever shown, "
    "though the counts of videos name them."
)
_CARD_SECONDS = 900.0
"""Longest time that the first machine may take from its last epoch to the card."""
_HPARAMS = shutil.ignore_patterns("hparams.yaml")
"""A file that is always empty: the settings are in the card."""
_VERSIONED = ("torch", "timm", "lightning", "torchvision", "mediapipe", "av", "decord", "numpy")


def train(
    layout: StoreLayout,
    model: ModelLayout,
    settings: TrainSettings,
    *,
    engine: EngineSettings | None = None,
    notes: Sequence[str] = (),
    num_train_videos: int | None = None,
) -> ModelCard:
    """Train on a store's train split, choose on its val split, write the checkpoint folder.

    A folder that already holds the model of exactly this run is left as it is; an unfinished one is
    finished.

    Args:
        layout: the store.
        model: folder for the checkpoint.
        settings: settings of the run.
        engine: how to use the machine; None: the defaults.
        notes: lines for the card.
        num_train_videos: learn from about this number of train videos; None: from all.

    Raises:
        StoreError: no split, or a store that is damaged or was changed.
        SettingsError: more folds than groups, more devices than sequences in a batch, or a
            backbone that cannot be compiled.
        TrainingError: the data cannot be learned from, or the loss is no number any more.
        MismatchError: the folder holds another model.
        WeightsError: the weights to start from cannot be had.
    """
    engine = engine or EngineSettings()
    read_node_rank(engine)  # before anything is read
    if settings.batch_size % engine.world_size:
        raise SettingsError(
            f"batch_size = {settings.batch_size} cannot be shared by {describe_devices(engine)}; "
            f"give a multiple of {engine.world_size}"
        )
    layers = list(settings.detector.feature_layers)
    if engine.compile and layers and not has_fixed_features(settings):
        raise SettingsError(
            "compile = true is for a backbone whose last layer gives the features, not for "
            f"detector.feature_layers = {layers}; set it to false"
        )
    split_rows = read_rows(layout.split_path, SPLIT)
    split_hash = hash_split(split_rows)
    if num_train_videos is not None:
        split_rows = take_subset(split_rows, num_videos=num_train_videos, seed=settings.seed)
    run = _Run(
        layout=layout,
        settings=settings,
        engine=engine,
        notes=tuple(notes),
        manifest=read_rows(layout.manifest_path, MANIFEST),
        split_hash=split_hash,
        preprocessing=read_preprocessing(layout),
    )
    if settings.folds is None:
        return _train_one(run, model, split_rows)
    if (done := _read_finished(run, model, split_rows)) is not None:
        return done
    folds = make_fold_splits(split_rows, folds=settings.folds, seed=settings.seed)
    for fold_rows in folds:
        # Before the first fold is trained, so that an error in the last one is found at once.
        choose_training_rows(run.manifest, fold_rows, settings)
    for number, fold_rows in enumerate(folds):
        _train_one(run, model.fold(number), fold_rows, fold=number)
    return _join_folds(run, model, split_rows)


@dataclass(frozen=True)
class _Run:
    """Settings and data that all detectors of a run share."""

    layout: StoreLayout
    settings: TrainSettings
    engine: EngineSettings
    notes: tuple[str, ...]
    manifest: list[ManifestRow]
    split_hash: str
    preprocessing: PreprocessSettings

    @cached_property
    def initial(self) -> InitialWeights | None:
        """Weights to start from; they are looked for when something is left to train."""
        return find_initial_weights(self.settings)


def _train_one(
    run: _Run, model: ModelLayout, split_rows: Sequence[SplitRow], *, fold: int | None = None
) -> ModelCard:
    """Train one detector and write its folder, unless the folder holds it already."""
    if (done := _read_finished(run, model, split_rows)) is not None:
        return done
    trained = train_member(
        run.layout,
        model,
        choose_training_rows(run.manifest, split_rows, run.settings),
        run.settings,
        run.engine,
        initial=run.initial,
        fingerprint=_describe_run(run, split_rows),
        fold=fold,
    )
    return _write(run, model, split_rows, trained)


def _join_folds(run: _Run, model: ModelLayout, split_rows: Sequence[SplitRow]) -> ModelCard:
    """Join all folds to one model; a video's logit is that of the fold that had not seen it."""
    folds = [model.fold(number) for number in range(run.settings.folds or 0)]
    initial = {read_card(fold).initial_weights for fold in folds}
    if len(initial) > 1:
        raise MismatchError(
            f"the folds in {model.path} started from different weights; delete that folder, or "
            "give another --out folder"
        )
    weights = join_members(
        [read_model_weights(fold, read_card(fold)) for fold in folds],
        shares_backbone=not run.settings.trains_backbone,
    )
    joined = Trained(
        weights=weights,
        initial=initial.pop(),
        phases=tuple(phase for fold in folds for phase in read_card(fold).phases),
        log=[row for fold in folds for row in read_csv(fold.log_path, LOG)],
        validation=[row for fold in folds for row in read_rows(fold.validation_path, VALIDATION)],
        num_members=len(folds),
    )
    return _write(run, model, split_rows, joined)


def _write(
    run: _Run, model: ModelLayout, split_rows: Sequence[SplitRow], trained: Trained
) -> ModelCard:
    """Write the checkpoint folder, the card last; only the first machine writes."""
    if read_node_rank(run.engine):
        return _wait_for_card(model)
    data = weights_to_bytes(trained.weights)
    videos = _aggregate_validation(trained.validation)
    calibration = fit_calibration(videos.logits, videos.labels, run.settings)
    scores = np.array([calibrate_score(logit, calibration) for logit in videos.logits])
    card = ModelCard(
        weights_sha256=sha256(data).hexdigest(),
        detector=run.settings.detector,
        num_members=trained.num_members,
        shares_backbone=trained.num_members > 1 and not run.settings.trains_backbone,
        training=run.settings,
        preprocessing=run.preprocessing,
        split_hash=run.split_hash,
        initial_weights=trained.initial,
        calibration=calibration,
        aggregation=videos.aggregation,
        phases=trained.phases,
        num_videos=count_splits(split_rows),
        validation=compute_metrics(scores, videos.labels, calibration),
        versions=_list_versions(),
        notes=(*run.notes, *((_REALS_ONLY,) if run.settings.self_blend == 1 else ())),
    )
    write_csv(model.log_path, trained.log, LOG)
    write_table(
        model.split_path, split_rows, SPLIT, metadata={"split_hash": hash_split(split_rows)}
    )
    write_table(model.validation_path, trained.validation, VALIDATION)
    write_table(model.learned_path, _list_learned(run, split_rows), LEARNED)
    logs: dict[int, list[LogRow]] = defaultdict(list)
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
    write_sums(model.path, (model.log_path, model.report_path, *model.plots_dir.glob("*.png")))
    for events in model.unfinished_dir.glob("*/tensorboard"):
        target = model.tensorboard_dir / events.parent.name
        shutil.copytree(events, target, ignore=_HPARAMS, dirs_exist_ok=True)
    save_checkpoint(model, data, card)
    if run.engine.num_nodes == 1:  # else another machine may be reading in there
        shutil.rmtree(model.unfinished_dir, ignore_errors=True)
    return card


def _wait_for_card(model: ModelLayout) -> ModelCard:
    """Wait for the card that the first machine writes.

    Raises:
        TrainingError: the card does not come in time.
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


def _list_learned(run: _Run, split_rows: Sequence[SplitRow]) -> list[LearnedRow]:
    """List the videos that the model and those it started from have learned from.

    By their fingerprints an evaluation finds copies of these videos in other stores.
    """
    videos = read_rows(run.layout.videos_path, VIDEOS, columns=("video_id", "fingerprints"))
    frames, faces = group_fingerprints(videos, run.manifest)
    start = run.settings.init_from
    earlier = ModelLayout(start if start and start.is_dir() else (start or Path()).parent)
    is_known = start is not None and start.exists() and earlier.learned_path.exists()
    before = read_rows(earlier.learned_path, LEARNED) if is_known else []
    own: list[LearnedRow] = [
        {
            "video_id": row["video_id"],
            "component": row["component"],
            "frames": frames.get(row["video_id"], []),
            "faces": faces.get(row["video_id"], []),
        }
        for row in split_rows
        if row["split"] in {"train", "val"}
    ]
    # In a chain of models, each started from the one before, a video is listed once.
    again = {(row["video_id"], row["component"]) for row in own}
    return [row for row in before if (row["video_id"], row["component"]) not in again] + own


def _read_finished(
    run: _Run, model: ModelLayout, split_rows: Sequence[SplitRow]
) -> ModelCard | None:
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


def _describe_run(run: _Run, split_rows: Sequence[SplitRow]) -> str:
    """Describe everything that decides the weights, apart from the code, as JSON."""
    return json.dumps(
        {
            "settings": run.settings.model_dump(mode="json"),
            "preprocessing": run.layout.preprocessing_hash,
            "split": hash_split(split_rows),
            "initial_weights": None if run.initial is None else run.initial.source.file_sha256,
        },
        indent=2,
    )


@dataclass(frozen=True, eq=False)
class _ValidationVideos:
    """V videos of the validation, which chose epoch and calibration."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    aggregation: Aggregation
    """Rule that gives these logits."""


def _aggregate_validation(validation: Sequence[ValidationRow]) -> _ValidationVideos:
    sequences = [
        ScoredSequence(
            sequence_id=row["sequence_id"],
            video_id=row["video_id"],
            track_id=row["track_id"],
            num_frames=row["num_frames"],
            logit=row["logit"],
        )
        for row in validation
    ]
    first = {row["video_id"]: row for row in validation}
    labels = {video_id: row["label"] for video_id, row in first.items()}
    aggregation = choose_aggregation(sequences, labels)
    logits = aggregate_videos(sequences, aggregation)
    return _ValidationVideos(
        logits=np.array(list(logits.values())),
        labels=np.array([labels[video_id] for video_id in logits]),
        folds=np.array([first[video_id]["fold"] or 0 for video_id in logits]),
        aggregation=aggregation,
    )


def _list_versions() -> dict[str, str]:
    installed = {dist.name.lower() for dist in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in _VERSIONED if name in installed}
