"""Train one detector: its phases one after the other, then its logits on validation.

A finished phase is kept until the whole model is written: an interrupted run continues in its last
phase, after the last finished epoch.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch

from models.data.dataset import CropDataset
from models.data.sampling import EpochSampler, list_blend_draws
from models.network.detector import Detector
from models.training.inference import choose_device, score_sequences
from models.training.training import PhaseResult, TrainingData, fit_phase
from reelcheck.card import PhaseSummary, WeightsSource
from reelcheck.errors import DamagedError, MismatchError
from reelcheck.settings import differences
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.atomic import write_bytes, write_text
from storage.checked.documents import read_document, write_document
from storage.hashing import sha256_of
from storage.layout import ModelLayout, StoreLayout
from storage.rows import EpochRow, LogRow, ManifestRow, ValidationRow
from storage.schemas import LOG
from storage.tables import write_csv
from storage.weights import Weights, read_weights, weights_to_bytes
from tasks.training.features import encode_once, has_fixed_features
from tasks.training.rows import TrainingRows
from tasks.training.start import InitialWeights, load_initial_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """The result of training: one detector, or the joined folds."""

    weights: Weights
    log: list[LogRow]
    """Epochs of all phases."""
    validation: list[ValidationRow]
    """Validation sequences with their logits."""
    phases: tuple[PhaseSummary, ...] = ()
    num_members: int = 1
    initial: WeightsSource | None = None
    """Origin of the weights that training started from."""


def train_member(
    layout: StoreLayout,
    model: ModelLayout,
    rows: TrainingRows,
    settings: TrainSettings,
    engine: EngineSettings,
    *,
    initial: InitialWeights | None,
    fingerprint: str,
    fold: int | None = None,
) -> Trained:
    """Train one detector, or finish an earlier run of the same fingerprint.

    Args:
        layout: the store.
        model: folder for the log and the checkpoints of the unfinished run.
        rows: manifest rows to learn from and to choose by.
        settings: settings of the run.
        engine: how to use the machine.
        initial: weights to start from; None: random ones.
        fingerprint: JSON of everything that decides the weights.
        fold: number of the fold, for the rows of log and validation.

    Raises:
        MismatchError: the folder holds an unfinished run of another fingerprint.
        WeightsError: the weights to start from do not fit.
        TrainingError: the loss is no number any more.
    """
    _claim(model, fingerprint)
    torch.manual_seed(settings.seed)
    detector = Detector(settings.detector, freeze_batch_norm=settings.effective_freeze_batch_norm)
    if initial is not None:
        load_initial_weights(detector, initial.weights, initial.source.file_name)
    features = None
    if has_fixed_features(settings):
        features = encode_once(layout, [*rows.train, *rows.val], detector)
    val_draws = list_blend_draws(rows.val) if settings.self_blend == 1 else None
    val_set = CropDataset(layout, rows.val, draws=val_draws, seed=settings.seed, features=features)
    phases: list[PhaseSummary] = []
    log: list[LogRow] = []
    weights: Weights = {}
    for number in range(1, len(settings.phases) + 1):
        result = _read_phase(model, number)
        if result is None:
            first_epoch = len(log)
            data = TrainingData(
                train_set=CropDataset(layout, rows.train, training=settings, features=features),
                val_set=val_set,
                sampler=EpochSampler(rows.train, settings, first_epoch=first_epoch),
                pos_weight=_choose_pos_weight(rows.train, settings),
            )
            result = fit_phase(
                detector,
                data,
                settings,
                engine,
                number=number,
                first_epoch=first_epoch,
                folder=model.phase_dir(number),
                on_epoch=partial(_write_log, model.log_path, log, fold),
            )
            _keep_phase(model, number, result)
        weights = {**detector.state_dict(), **result.weights}
        detector.load_state_dict(weights)
        log += [_add_fold(row, fold) for row in result.log]
        phases.append(result.summary.model_copy(update={"fold": fold}))
        _log_phase(result.summary, of=len(settings.phases))
    detector.to(choose_device())
    scored = score_sequences(detector, val_set)
    return Trained(
        weights=weights,
        initial=None if initial is None else initial.source,
        phases=tuple(phases),
        log=log,
        validation=[
            {
                "sequence_id": sequence.sequence_id,
                "video_id": sequence.video_id,
                "track_id": sequence.track_id,
                "num_frames": sequence.num_frames,
                "logit": sequence.logit,
                "label": int(row["label"] == 1),
                "fold": fold,
            }
            for sequence, row in zip(scored, val_set.rows, strict=True)
        ],
    )


def _claim(model: ModelLayout, fingerprint: str) -> None:
    """Begin a run, or continue one of the same settings and data."""
    path = model.unfinished_run_path
    before = path.read_text(encoding="utf-8") if path.exists() else fingerprint
    # A run that has not finished an epoch, such as one with a wrong setting, may be overwritten.
    if before != fingerprint and any(model.unfinished_dir.glob("*/*.ckpt")):
        names = differences(json.loads(before), json.loads(fingerprint))
        raise MismatchError(
            f"{model.path} holds an unfinished run of other settings or data "
            f"({', '.join(names[:5])}); give another --out folder, or delete that one"
        )
    write_text(path, fingerprint)


def _keep_phase(model: ModelLayout, number: int, result: PhaseResult) -> None:
    weights = weights_to_bytes(result.weights)
    write_bytes(model.phase_weights_path(number), weights)
    kept = {
        "summary": result.summary.model_dump(),
        "log": result.log,
        "weights_sha256": sha256(weights).hexdigest(),
    }
    write_document(model.phase_path(number), kept)


def _read_phase(model: ModelLayout, number: int) -> PhaseResult | None:
    if not model.phase_path(number).exists():
        return None
    kept = read_document(model.phase_path(number))
    weights_path = model.phase_weights_path(number)
    if sha256_of(weights_path) != kept["weights_sha256"]:
        raise DamagedError(
            f"{weights_path} is not as it was written; delete {model.unfinished_dir} and train "
            "again"
        )
    return PhaseResult(
        weights=read_weights(weights_path),
        log=tuple(kept["log"]),
        summary=PhaseSummary.model_validate(kept["summary"]),
    )


def _write_log(
    path: Path, earlier: Sequence[LogRow], fold: int | None, rows: Sequence[EpochRow]
) -> None:
    """Write the log of all phases so far."""
    write_csv(path, [*earlier, *(_add_fold(row, fold) for row in rows)], LOG)


def _add_fold(row: EpochRow, fold: int | None) -> LogRow:
    return {"fold": fold, **row}


def _choose_pos_weight(rows: Sequence[ManifestRow], settings: TrainSettings) -> float:
    """Choose the weight of a fake in the loss; with ``weigh`` both labels count the same."""
    if settings.balance != "weigh" or settings.self_blend == 1:
        return 1.0
    num_fake = [row["label"] for row in rows].count(1)
    return (len(rows) - num_fake) / num_fake


def _log_phase(phase: PhaseSummary, *, of: int) -> None:
    _log.info(
        "phase %d of %d: %s of %s parameters learned, learning rate %g, best epoch %d",
        phase.phase,
        of,
        f"{phase.num_trainable:,}",
        f"{phase.num_parameters:,}",
        phase.learning_rate,
        phase.best_epoch,
    )
