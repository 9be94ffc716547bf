"""The model card, ``card.json``: everything that is needed to use a checkpoint.

Scoring takes preprocessing, calibration and aggregation from the card, never from defaults. What
follows from other fields is computed and cannot be set: the hash of the preprocessing, and the
model id, which covers the whole card and, by their hash, the weights.
"""

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import Field, computed_field, model_validator

from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError
from reelcheck.identifiers import MODEL_ID_DIGITS, ModelId, Sha256, ShortHash
from reelcheck.settings import Settings, differences, settings_hash
from reelcheck.train_config import DetectorSettings, TrainSettings

Aggregation = Literal[
    "worst_track_of_mean_sequence_logits", "worst_sequence_logit", "mean_sequence_logit"
]
"""How the logits of a video's crop sequences become one; see ``models/metrics/aggregation.py``."""


TEMPERATURES = (0.05, 20.0)
"""Smallest and largest temperature. Training searches this range; of networks on images 0.5 to 5
are published (Guo et al. 2017). Below it nearly every score is 0 or 1, above it all are 0.5."""
ABOVE_ONE = math.nextafter(1.0, 2.0)
"""A threshold that no score reaches."""

_Bound = Annotated[float, Field(ge=0, le=ABOVE_ONE)]


class Calibration(Settings):
    """How a logit becomes a score and a verdict; fitted on validation videos only."""

    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]
    """Divides the logit: score = sigmoid(logit / temperature)."""
    threshold: _Bound
    """Score from which a video is called fake if only real and fake are allowed."""
    threshold_rule: str = "given"
    """How the threshold was chosen on validation, in words."""
    real_below: _Bound
    """Score below which the verdict is real."""
    fake_from: _Bound
    """Score from which the verdict is fake; between the two, it is inconclusive."""

    @model_validator(mode="after")
    def _threshold_is_in_the_band(self) -> "Calibration":
        if not self.real_below <= self.threshold <= self.fake_from:
            raise ValueError("real_below, threshold, fake_from must be in this order")
        return self


UNCALIBRATED = Calibration(temperature=1.0, threshold=0.5, real_below=0.5, fake_from=0.5)
"""Logits are not scaled, and one threshold in the middle decides."""


class PhaseSummary(Settings):
    """Summary of one phase of training."""

    fold: int | None = None
    """Number of the fold, from 0; None: no cross-validation."""
    phase: int
    """Number of the phase, from 1."""
    learning_rate: float
    """Highest learning rate of the phase."""
    num_trainable: int
    """Number of parameters that learned."""
    num_parameters: int
    """Number of parameters of the whole detector."""
    num_epochs: int
    best_epoch: int
    """Number of the best epoch, counted over all phases, from 0."""


class WeightsSource(Settings):
    """Origin of weights that were not trained in this run."""

    format: str
    file_name: str
    file_sha256: Sha256
    licence: str | None
    """In words; None: not known, as of a file that a user names."""
    url: str | None = None
    catalogue_name: str | None = None
    """Name in the catalogue of published weights; None: from elsewhere."""


class ModelCard(Settings):
    """Content of ``card.json``."""

    card_version: Literal[5] = 5
    weights_sha256: Sha256
    """SHA-256 of the weights file."""
    detector: DetectorSettings
    num_members: Annotated[int, Field(ge=1, le=50)] = 1
    """Number of detectors whose mean logit is the prediction: one, or one per fold."""
    shares_backbone: bool = False
    """Whether the members have one backbone, because it did not learn."""
    training: TrainSettings | None
    """How the model was trained; None: its weights were imported."""
    source: WeightsSource | None = None
    """Origin of a model that was imported; None: it was trained."""
    initial_weights: WeightsSource | None = None
    """Origin of the weights that training started from; None: random ones, or imported."""
    preprocessing: PreprocessSettings
    split_hash: ShortHash | None
    """Hash of the split that the model was trained with; None: its weights were imported."""
    calibration: Calibration
    aggregation: Aggregation
    """How the logits of a video's crop sequences become one; chosen on validation."""
    phases: tuple[PhaseSummary, ...] = ()
    num_videos: dict[str, dict[str, int]]
    """Videos per split and label."""
    validation: dict[str, float | int | None]
    """Metrics on the validation videos, which chose epoch, temperature, threshold and band; with
    folds, on the videos that each fold had not seen."""
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    """Warnings for readers, such as that the data was synthetic."""

    @computed_field  # type: ignore[prop-decorator]  # mypy's
    @property
    def preprocessing_hash(self) -> str:
        """Hash of the preprocessing, which names the folder of a store."""
        return settings_hash(self.preprocessing)

    @computed_field  # type: ignore[prop-decorator]  # mypy's
    @property
    def model_id(self) -> str:
        """Name of this model: the same id means the same verdicts.

        The first digits of the SHA-256 of everything else in the card, the hash of the weights
        among it.
        """
        return _hash_values(self.model_dump(mode="json", exclude={"model_id"}))

    @property
    def network_id(self) -> str:
        """Name of the network alone, for crops of this size: what ONNX files are made from."""
        names = {"weights_sha256", "detector", "num_members", "shares_backbone"}
        values = self.model_dump(mode="json", include=names)
        return _hash_values({**values, "crop_pixels": self.preprocessing.crop_pixels})

    @property
    def began_with(self) -> str:
        """What training started from, in words."""
        start = self.initial_weights
        if start is None:
            return "random weights"
        licence = f" (licence: {start.licence})" if start.licence else ""
        return f"weights of {start.catalogue_name or start.file_name}{licence}"


def _hash_values(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:MODEL_ID_DIGITS]


def require_same_preprocessing(card: ModelCard, wanted: PreprocessSettings | None) -> None:
    """Make sure that a model sees pixels like those that it was trained on.

    Args:
        card: of the model.
        wanted: what is asked for; None: the model's own.

    Raises:
        MismatchError: other settings than the model's.
    """
    trained = card.preprocessing
    if wanted is None or trained == wanted:
        return
    changes = differences(trained.model_dump(), wanted.model_dump())
    raise MismatchError(
        f"model {card.model_id} was trained with preprocessing {settings_hash(trained)}, asked "
        f"for is {settings_hash(wanted)} ({'; '.join(changes)}); leave those settings out, or "
        "train a model with them"
    )


class OnnxFiles(Settings):
    """Record of the ONNX files that this machine has made from a model."""

    network_id: ModelId
    """Network of the model, whose weights were checked before."""
    problem: str | None = None
    """Why there are no ONNX files."""
    encoder_sha256: Sha256 | None = None
    head_sha256: Sha256 | None = None
    max_difference: float | None = None
    """Largest difference that was seen between logits of the ONNX files and of torch."""
