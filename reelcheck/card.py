"""The model card: everything that must be known to use a checkpoint, as ``card.json``.

Scoring takes preprocessing, calibration and aggregation from here, never from defaults.
"""

from typing import Annotated, Literal

from pydantic import Field

from reelcheck.config import PreprocessSettings
from reelcheck.settings import Settings
from reelcheck.train_config import DetectorSettings, TrainSettings

Aggregation = Literal[
    "worst_track_of_mean_sequence_logits", "worst_sequence_logit", "mean_sequence_logit"
]
"""How the logits of a video's crop sequences become one; see ``models/aggregation.py``."""


class Calibration(Settings):
    """How a logit becomes a score and a verdict; fitted on validation videos only."""

    temperature: float
    """score = sigmoid(logit / temperature)"""
    threshold: float
    """Scores from here on are called fake where there is no third verdict."""
    threshold_rule: str = "given"
    """How it was chosen on validation, in words."""
    real_below: float
    """Scores below are called real."""
    fake_from: float
    """Scores from here on are called fake; between the two, inconclusive."""


UNCALIBRATED = Calibration(temperature=1.0, threshold=0.5, real_below=0.5, fake_from=0.5)
"""Logits are taken as they come, and one threshold in the middle decides."""


class PhaseSummary(Settings):
    """What one phase of training did."""

    fold: int | None = None
    """From 0; None: no cross-validation."""
    phase: int
    """From 1."""
    learning_rate: float
    """The highest."""
    num_trainable: int
    """Parameters that learned."""
    num_parameters: int
    """Of the whole detector."""
    num_epochs: int
    best_epoch: int
    """Counted over all phases, from 0."""


class WeightsSource(Settings):
    """Where imported weights come from."""

    format: str
    file_name: str
    file_sha256: str
    licence: str
    url: str | None = None


class ModelCard(Settings):
    """What ``card.json`` holds."""

    card_version: Literal[3] = 3
    model_id: str
    """First twelve digits of the SHA-256 of the weights file."""
    detector: DetectorSettings
    num_members: Annotated[int, Field(ge=1)] = 1
    """Detectors whose mean logit is the answer: as many as folds."""
    training: TrainSettings | None
    """None: imported weights."""
    source: WeightsSource | None = None
    preprocessing: PreprocessSettings
    preprocessing_hash: str
    split_hash: str | None
    """Of the split that the model was trained with; None: imported weights."""
    calibration: Calibration
    aggregation: Aggregation
    """How the logits of a video's crop sequences become one; chosen on validation."""
    phases: tuple[PhaseSummary, ...] = ()
    num_videos: dict[str, dict[str, int]]
    """Videos per split and label."""
    validation: dict[str, float | int | None]
    """Metrics on the validation videos, which chose epoch, temperature, threshold and band; of
    folds, on the videos that each fold had not seen."""
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that the data was synthetic."""


class OnnxFiles(Settings):
    """What ``onnx.json`` says of the ONNX files beside a checkpoint."""

    model_id: str
    """Of the weights that they were made from."""
    problem: str | None = None
    """Why there are none."""
    encoder_sha256: str | None = None
    judge_sha256: str | None = None
    max_difference: float | None = None
    """Largest one seen between a logit of theirs and the network's in torch."""
