"""The model card: everything that must be known to use a checkpoint, as ``card.json``.

Scoring takes preprocessing, calibration and aggregation from here, never from defaults.
"""

from typing import Literal

from reelcheck.config import PreprocessSettings, Settings, TrainSettings


class Calibration(Settings):
    """How a logit becomes a score and a verdict; fitted on validation videos only."""

    temperature: float
    """score = sigmoid(logit / temperature)"""
    threshold: float
    """Score with the best F1 on validation."""
    real_below: float
    """Scores below are called real."""
    fake_from: float
    """Scores from here on are called fake; between the two, inconclusive."""


class ModelCard(Settings):
    """What ``card.json`` holds."""

    card_version: Literal[1] = 1
    model_id: str
    """First twelve digits of the SHA-256 of the weights file."""
    training: TrainSettings
    preprocessing: PreprocessSettings
    preprocessing_hash: str
    split_hash: str
    calibration: Calibration
    aggregation: Literal["worst_track_of_mean_sequence_logits"]
    best_epoch: int
    num_videos: dict[str, dict[str, int]]
    """Videos per split and label."""
    validation: dict[str, float | int | None]
    """Metrics on the validation videos, which chose epoch, temperature, threshold and band."""
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that the data was synthetic."""
