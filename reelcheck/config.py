"""Settings of preprocessing, of a run and of a split.

- Everything that changes the pixels a model sees is in ``PreprocessSettings``; its hash names the
  output folder and is stored with every model, so parity of training and scoring can be checked.
- How fast a run goes (processes, shard size, deadlines) is in ``RunSettings`` and never hashed.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from reelcheck.perturbations import named_perturbations
from reelcheck.settings import Settings

FULL_RANGE_SHA256 = "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
"""BlazeFace full range (sparse), from the mediapipe 0.10.21 wheel."""

Decoder = Literal["auto", "decord", "pyav"]
"""Which decoder to use, where there is a choice; see ``RunSettings``."""

DatasetLayout = Literal["ffpp", "celebdf", "dfdc"]
"""Public data sets whose folders say what is known of each file; see ``tasks/layouts.py``."""

EngineChoice = Literal["auto", "openvino", "onnxruntime", "torch"]
"""What runs a model that scores; see ``ScoreSettings``."""


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
    still_crop: Literal["face", "whole"] = "face"
    """What is taken of a single picture: its faces, or all of it as one square."""
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

    where: Literal["here", "cluster"] = "here"
    """cluster: one task per shard on the machines of the scheduler that the environment names; see
    ``docs/scale.md``."""
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


class NormaliseSettings(Settings):
    """The one profile that videos are brought to; ``tasks/faces/reencode.py`` says why."""

    algorithm: Literal[1] = 1
    """Raised by us whenever the code's output changes for the same settings."""
    max_side: Annotated[int, Field(ge=64, le=4096, multiple_of=2)] = 640
    """A longer side is scaled down to so many pixels; a shorter one is never scaled up."""
    square: bool = False
    """Lay every picture in the middle of a black square of ``max_side``."""
    frames_per_second: Annotated[int, Field(ge=1, le=120)] = 25
    """Constant; frames are dropped or repeated."""
    bits_per_pixel: Annotated[float, Field(ge=0.01, le=2)] = 0.1
    """Constant bit rate, by pixels of the picture and frame."""


class ScoreSettings(Settings):
    """How a model is run, and what is shown of its answers."""

    engine: EngineChoice = "auto"
    """auto: torch on a GPU, else OpenVINO. On a CPU all give the same logits up to 1e-4."""
    num_evidence_frames: Annotated[int, Field(ge=0, le=30)] = 3
    """Faces in the picture of each person of a video, of four people at most."""
    heat_maps: bool = True
    """Where a video is not judged real: what in its worst person's faces speaks for a fake."""


class GateSettings(Settings):
    """What a challenger must do to replace the champion; see ``tasks/gate.py``."""

    min_auc_change: Annotated[float, Field(ge=-1, le=1)] = -0.005
    """Lower end of the 95 % interval of the AUC's change, on frozen and on recent videos alike."""
    max_generator_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """AUC that may be lost on any one generator."""
    max_false_alarm_rise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of real videos that may be called fake in addition."""
    max_ece: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Expected calibration error; the champion's, if that is larger."""
    min_first_auc: Annotated[float, Field(ge=0, le=1)] = 0.6
    """AUC that a first model must have."""
    min_new_videos: Annotated[int, Field(ge=1)] = 10
    """With fewer new labelled videos no challenger is trained."""
    perturbations: tuple[str, ...] = ("jpeg 50", "scale 1/2", "blur 1.5")
    """What test videos go through for the rule of robustness; none: the rule is off."""
    num_perturbed_videos: Annotated[int, Field(ge=2)] = 60
    """At most so many test videos, half of them real, go through each."""
    max_robustness_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Mean AUC over the perturbations that may be lost."""
    max_export_difference: Annotated[float, Field(ge=0)] = 1e-3
    """Between a logit of the exported model and of the network, on test sequences."""
    max_slowdown: Annotated[float, Field(gt=0)] = 1.5
    """Seconds per frame, as a multiple of the champion's."""
    max_growth: Annotated[float, Field(gt=0)] = 1.5
    """Bytes of the weights, as a multiple of the champion's."""
    approval_hours: Annotated[float, Field(gt=0, le=168)] = 12.0
    """How long a deployed run waits for a person, where one must approve."""

    @field_validator("perturbations")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(perturbation.name for perturbation in named_perturbations(names))


class SplitSettings(Settings):
    """How videos are divided into train, val and test."""

    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 0
    honour_given: bool = True
    """Keep videos where folders named train, val and test, or the labels table, put them."""
    by_date: bool = False
    """Test on the newest videos, validate on those before, by the column date of the labels."""
    val_from: date | None = None
    """With by_date: validate from this day on; None: chosen by val_fraction, and kept."""
    test_from: date | None = None
    """With by_date: test from this day on; None: chosen by test_fraction, and kept."""

    @model_validator(mode="after")
    def _train_is_largest(self) -> "SplitSettings":
        if self.val_fraction + self.test_fraction > 0.5:
            raise ValueError("val_fraction + test_fraction must leave at least half for training")
        days = (self.val_from, self.test_from)
        if any(days) and not (self.by_date and all(days)):
            raise ValueError("val_from and test_from belong together, and to by_date = true")
        if self.val_from and self.test_from and self.val_from >= self.test_from:
            raise ValueError("val_from must be before test_from")
        return self
