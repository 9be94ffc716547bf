"""Manifest + split -> a checkpoint folder."""

import csv
import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import lightning
import numpy as np
from prefect import task
from torch import nn

from models.aggregation import AGGREGATION, video_logits
from models.calibration import calibrated_score, fit_calibration
from models.dataset import CropDataset, EpochSampler
from models.detector import Detector
from models.inference import best_device, score_sequences
from models.metrics import Metrics, video_metrics
from models.training import EpochRow, FitResult, OnEpoch, fit
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings, TrainSettings
from reelcheck.errors import MismatchError, StoreError, WeightsError
from reelcheck.records import ScoredSequence
from storage.atomic import atomic_path
from storage.checkpoints import Weights, read_card, read_weights, save_checkpoint, weights_to_bytes
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.split import count_splits

_VERSIONED = ("torch", "timm", "lightning", "torchvision", "mediapipe", "av", "decord", "numpy")


@task(name="train")
def train(
    layout: StoreLayout, model: ModelLayout, settings: TrainSettings, *, notes: Sequence[str] = ()
) -> ModelCard:
    """Train on a store's train part, choose on its val part, write the checkpoint folder.

    A folder that already holds the model of exactly this run is left as it is.

    Raises:
        StoreError: no split, or a damaged store.
        MismatchError: the folder holds another model.
        WeightsError: the weights to start from cannot be had.
    """
    split_rows = read_rows(layout.split_path, SPLIT)
    split_hash = read_metadata(layout.split_path)["split_hash"]
    done = _finished(model, settings, layout.preprocessing_hash, split_hash)
    if done is not None:
        return done
    parts = rows_by_split(read_rows(layout.manifest_path, MANIFEST), split_rows)
    lightning.seed_everything(settings.seed, verbose=False)
    detector = Detector(
        settings.detector,
        pretrained=settings.pretrained,
        freeze_batch_norm=settings.effective_freeze_batch_norm,
    )
    if settings.init_from is not None:
        load_initial_weights(detector, read_weights(settings.init_from), settings.init_from)
    result = _fit(layout, detector, parts, settings, partial(_write_log, model.log_path))
    detector.load_state_dict(result.weights)
    detector.to(best_device())
    sequences = score_sequences(detector, CropDataset(layout, parts["val"]))
    calibration, validation = _calibrate(parts["val"], sequences, settings)
    weights = weights_to_bytes(result.weights)
    preprocessing = PreprocessSettings.model_validate_json(layout.settings_path.read_bytes())
    card = ModelCard(
        model_id=sha256(weights).hexdigest()[:12],
        training=settings,
        preprocessing=preprocessing,
        preprocessing_hash=layout.preprocessing_hash,
        split_hash=split_hash,
        calibration=calibration,
        aggregation=AGGREGATION,
        best_epoch=result.best_epoch,
        num_videos=count_splits(split_rows),
        validation=validation,
        versions=_versions(),
        notes=tuple(notes),
    )
    write_table(model.split_path, split_rows, SPLIT, metadata={"split_hash": split_hash})
    save_checkpoint(model, weights, card)
    return card


def rows_by_split(manifest: Iterable[Row], split_rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Manifest rows of the videos of each part.

    Raises:
        StoreError: labels have changed since the split was made.
    """
    assigned = {row["video_id"]: row for row in split_rows}
    parts: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for row in manifest:
        if (known := assigned.get(row["video_id"])) is None:
            continue
        if row["label"] != known["label"]:
            raise StoreError(
                f"the label of {row['path']} has changed since the split was made; "
                "run: reelcheck split STORE"
            )
        parts[known["split"]].append(row)
    return parts


def load_initial_weights(detector: Detector, weights: Weights, path: Path) -> None:
    """Load a whole detector's weights, or a backbone's, in place.

    Raises:
        WeightsError: they fit neither.
    """
    if any(name.startswith("backbone.") for name in weights):
        target: nn.Module = detector
    else:
        target = detector.backbone
    wanted = target.state_dict()
    try:
        target.load_state_dict({name: v for name, v in weights.items() if name in wanted})
    except RuntimeError as error:
        raise WeightsError(
            f"the weights in {path} fit neither this detector nor its backbone: "
            f"{str(error).splitlines()[1].strip()[:200]}"
        ) from error


def _finished(
    model: ModelLayout, settings: TrainSettings, preprocessing_hash: str, split_hash: str
) -> ModelCard | None:
    if not model.card_path.exists():
        return None
    card = read_card(model)
    wanted = (settings, preprocessing_hash, split_hash)
    if (card.training, card.preprocessing_hash, card.split_hash) == wanted:
        return card
    raise MismatchError(
        f"{model.path} holds model {card.model_id}, trained with other settings or another split; "
        "give another --out folder, or delete that one"
    )


def _fit(
    layout: StoreLayout,
    detector: Detector,
    parts: dict[str, list[Row]],
    settings: TrainSettings,
    on_epoch: OnEpoch,
) -> FitResult:
    train_set = CropDataset(
        layout,
        parts["train"],
        min_frames=settings.min_frames,
        use_augmentation=settings.augment,
        seed=settings.seed,
    )
    sampler = EpochSampler(parts["train"], seed=settings.seed)
    val_set = CropDataset(layout, parts["val"])
    return fit(detector, train_set, val_set, sampler, settings, on_epoch=on_epoch)


def _write_log(path: Path, rows: Sequence[EpochRow]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _calibrate(
    rows: Sequence[Row], sequences: Sequence[ScoredSequence], settings: TrainSettings
) -> tuple[Calibration, Metrics]:
    label_of = {row["video_id"]: row["label"] for row in rows}
    by_video = video_logits(sequences)
    logits = np.array(list(by_video.values()))
    labels = np.array([label_of[video_id] for video_id in by_video])
    calibration = fit_calibration(logits, labels, max_decided_error=settings.max_decided_error)
    scores = np.array([calibrated_score(logit, calibration) for logit in logits])
    return calibration, video_metrics(scores, labels, calibration)


def _versions() -> dict[str, str]:
    installed = {dist.name.lower() for dist in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in _VERSIONED if name in installed}
