"""Settings: one frozen pydantic model per stage, validated once, hashed where they name output.

- Everything that changes the pixels a model sees is in ``PreprocessSettings``; its hash names the
  output folder and is stored with every model, so parity of training and scoring can be checked.
- How fast a run goes (processes, shard size, deadlines) is in ``RunSettings`` and never hashed.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reelcheck.errors import SettingsError

FULL_RANGE_SHA256 = "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
"""BlazeFace full range (sparse), from the mediapipe 0.10.21 wheel."""

Decoder = Literal["auto", "decord", "pyav"]
"""Which decoder to use, where there is a choice; see ``RunSettings``."""


class Settings(BaseModel):
    """Base of all settings: frozen, finite, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessSettings(Settings):
    """Everything that decides which pixels a model sees."""

    algorithm: Literal[2] = 2
    """Raised by us whenever the code's output changes for the same settings."""
    sampling: Literal["spread", "clips", "uniform", "all"] = "spread"
    """Which frames are looked at.

    spread: ``num_frames`` over the whole video, each moved to a frame nearby that costs less to
    decode; clips: ``num_clips`` runs of neighbouring frames; uniform: ``num_frames`` at even
    places exactly; all: every frame."""
    num_frames: Annotated[int, Field(ge=1, le=1000)] = 30
    """Frames of spread and uniform."""
    num_clips: Annotated[int, Field(ge=1, le=100)] = 6
    """Runs of clips, and at most so many of a second, closer look."""
    clip_frames: Annotated[int, Field(ge=1, le=1000)] = 12
    """Frames of one run."""
    max_snap_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How far a sample of spread or clips may move; see ``tasks/faces/plan.py``."""
    min_sequence_frames: Annotated[int, Field(ge=1)] = 10
    """A face seen on fewer frames gives no crop sequence."""
    max_sequence_frames: Annotated[int, Field(ge=1, le=1000)] = 30
    """A longer face track is cut into several sequences."""
    crop_pixels: Annotated[int, Field(ge=32, le=1024)] = 112
    """Side of the square crops."""
    margin: Annotated[float, Field(ge=1.0, le=3.0)] = 1.3
    """Side of the square cut out, as a multiple of the face box's longer side."""
    min_face_pixels: Annotated[int, Field(ge=1)] = 32
    """Face boxes whose longer side is shorter are not judged."""
    min_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Detector certainty from which a box is followed."""
    min_track_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """A track counts as a face when its median certainty reaches this."""
    align_eyes: bool = False
    """Turn each crop so that the eyes are level."""
    face_model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = FULL_RANGE_SHA256
    """Which face detector; follows ``REELCHECK_FACE_MODEL`` when that is set."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> "PreprocessSettings":
        if not self.min_sequence_frames <= self.max_sequence_frames:
            raise ValueError("min_sequence_frames must not exceed max_sequence_frames")
        if self.sampling in {"spread", "uniform"} and self.min_sequence_frames > self.num_frames:
            raise ValueError("min_sequence_frames must not exceed num_frames")
        if self.sampling == "clips" and self.min_sequence_frames > self.clip_frames:
            raise ValueError("min_sequence_frames must not exceed clip_frames")
        return self


class RunSettings(Settings):
    """How a run uses the machine; changes no result."""

    num_workers: Annotated[int, Field(ge=1, le=512)] | None = None
    """Decode processes; None: one per core that this process may use."""
    shard_size: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Videos per Prefect task."""
    decoder: Decoder = "auto"
    """auto: decord where it is exact and nothing can be left out, else PyAV; decord: wherever it is
    exact; pyav: always. The frames are the same."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Deadline for one video: half of it for the first attempt, half for the second."""
    max_memory_bytes: Annotated[int, Field(ge=2**28)] = 4 * 2**30
    """Private memory that one decode process may take (Linux)."""
    compress_crops: bool = False
    """Store crops as zstd: two thirds of the bytes, nearly three times the reading time."""


class SplitSettings(Settings):
    """How videos are divided into train, val and test."""

    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _train_is_largest(self) -> "SplitSettings":
        if self.val_fraction + self.test_fraction > 0.5:
            raise ValueError("val_fraction + test_fraction must leave at least half for training")
        return self


class DetectorSettings(Settings):
    """Architecture of the detector."""

    backbone: str = "efficientnet_b3"
    """Any timm image model."""
    feature_dim: Annotated[int, Field(ge=8)] = 512
    depth: Annotated[int, Field(ge=1)] = 4
    """Transformer blocks."""
    num_heads: Annotated[int, Field(ge=1)] = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    pooling: Literal["attention", "mean"] = "attention"

    @model_validator(mode="after")
    def _heads_divide(self) -> "DetectorSettings":
        if self.feature_dim % (2 * self.num_heads):
            raise ValueError("feature_dim must be a multiple of 2 * num_heads")
        return self


class TrainSettings(Settings):
    """One training run."""

    detector: DetectorSettings = DetectorSettings()
    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights (needs the Hugging Face hub)."""
    init_from: Path | None = None
    """Start from a local file of weights (.safetensors, or .pth read with weights_only)."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    max_epochs: Annotated[int, Field(ge=1)] = 30
    max_steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Validate after this many optimiser steps instead of after the whole train part."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """None: 1e-6 from pretrained or local weights, 1e-3 from random ones."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    patience_epochs: Annotated[int, Field(ge=1)] = 8
    """Early stopping: epochs without a better validation F1."""
    frame_loss_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the per-frame loss beside the sequence loss."""
    min_frames: Annotated[int, Field(ge=1)] = 10
    """Training draws a length between this and the sequence's own."""
    augment: bool = True
    max_decided_error: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Error among decided validation videos that the inconclusive band must reach."""
    freeze_batch_norm: bool | None = None
    """Keep the backbone's running statistics; None: exactly when it starts from given weights."""
    num_loader_workers: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_start(self) -> "TrainSettings":
        if self.pretrained and self.init_from is not None:
            raise ValueError("give pretrained or init_from, not both")
        return self

    @property
    def starts_from_weights(self) -> bool:
        """Whether the backbone starts from pretrained or local weights."""
        return self.pretrained or self.init_from is not None

    @property
    def effective_freeze_batch_norm(self) -> bool:
        """Whether batch norms are frozen, after the default for the chosen start is filled in."""
        if self.freeze_batch_norm is not None:
            return self.freeze_batch_norm
        return self.starts_from_weights

    @property
    def effective_learning_rate(self) -> float:
        """The learning rate used, after the default for the chosen start is filled in."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-6 if self.starts_from_weights else 1e-3


_SECTIONS = {"preprocess", "run", "split", "train"}
AnySettings = TypeVar("AnySettings", bound=Settings)


def settings_hash(settings: Settings) -> str:
    """Twelve hexadecimal digits that name these settings; the same on every machine."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_settings(
    cls: type[AnySettings],
    *,
    section: str,
    config_path: Path | None = None,
    overrides: Sequence[str] = (),
    base: AnySettings | None = None,
) -> AnySettings:
    """Settings from defaults, then one section of a TOML file, then ``key=value`` overrides.

    Args:
        cls: the settings class.
        section: table of the TOML file that belongs to ``cls``.
        config_path: the TOML file, or None.
        overrides: such as ``margin=1.5`` or ``detector.depth=2``.
        base: what to start from instead of the defaults.

    Raises:
        SettingsError: an unreadable file, an unknown key or a value that is not allowed.
    """
    values: dict[str, Any] = base.model_dump() if base is not None else {}
    if config_path is not None:
        _merge(values, _read_section(config_path, section))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"{override!r} is not KEY=VALUE; for example --set margin=1.5")
        nested: Any = None if value.lower() == "none" else value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(values, nested)
    return validated(cls, values)


def validated(cls: type[AnySettings], values: dict[str, Any]) -> AnySettings:
    """``cls(**values)`` with pydantic's complaints turned into one readable line.

    Raises:
        SettingsError: an unknown key or a value that is not allowed.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or cls.__name__} = {e['input']!r}: {e['msg']}"
            if e["type"] != "extra_forbidden"
            else f"{'.'.join(map(str, e['loc']))}: no such setting; "
            f"known are {', '.join(cls.model_fields)}"
            for e in error.errors()
        ]
        raise SettingsError("; ".join(problems)) from error


def _read_section(config_path: Path, section: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read settings from {config_path}: {error}") from error
    if unknown := set(document) - _SECTIONS:
        raise SettingsError(
            f"{config_path}: no such section: {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(_SECTIONS))}"
        )
    values = document.get(section, {})
    if not isinstance(values, dict):
        raise SettingsError(f"{config_path}: [{section}] must be a table of settings")
    return values


def _merge(target: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value
