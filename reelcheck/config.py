"""Settings of preprocessing, of a run, of a split, of scoring and of the gate.

- ``PreprocessSettings`` holds everything that changes the pixels a model sees. Its hash names the
  output folder and is stored with every model, so that training and scoring can be compared.
- ``RunSettings`` holds what changes only the speed of a run, and is never hashed.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from reelcheck.perturbations import parse_perturbations
from reelcheck.reading import ReadLimits
from reelcheck.settings import Settings

FULL_RANGE_SHA256 = "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
"""BlazeFace full range (sparse), from the mediapipe 0.10.21 wheel."""

Decoder = Literal["auto", "decord", "pyav"]
"""Which decoder to use; see ``RunSettings``."""

DatasetLayout = Literal["ffpp", "celebdf", "dfdc"]
"""Public data sets whose folders give the labels (``tasks/intake/dataset_layouts.py``)."""

EngineChoice = Literal["auto", "openvino", "onnxruntime", "torch"]
"""Library that runs a model; see ``ScoreSettings``."""


class PreprocessSettings(Settings):
    """Everything that decides which pixels a model sees."""

    algorithm: Literal[2] = 2
    """Version of the algorithm. Increase it when the same settings give other pixels."""
    sampling: Literal["spread", "clips", "uniform", "all"] = "spread"
    """Which frames are searched for faces.

    spread: ``num_frames`` over the whole video, each moved to a nearby frame that costs less to
    decode; clips: ``num_clips`` runs of neighbouring frames; uniform: ``num_frames`` at exactly
    even distances; all: every frame."""
    num_frames: Annotated[int, Field(ge=1, le=1000)] = 30
    """Number of frames with the sampling spread or uniform."""
    num_clips: Annotated[int, Field(ge=1, le=100)] = 6
    """Number of runs with the sampling clips; also the most runs of a second, closer look."""
    clip_frames: Annotated[int, Field(ge=1, le=1000)] = 12
    """Number of neighbouring frames in one run."""
    max_snap_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds by which a frame of spread or clips may move to one that costs less to decode."""
    min_sequence_frames: Annotated[int, Field(ge=1)] = 10
    """Frames that a crop sequence has at least; a face seen on fewer frames gives none."""
    max_sequence_frames: Annotated[int, Field(ge=1, le=1000)] = 30
    """Frames that a crop sequence has at most; a longer face track is cut into several."""
    crop_pixels: Annotated[int, Field(ge=32, le=1024)] = 112
    """Side of the square crops, in pixels."""
    margin: Annotated[float, Field(ge=1.0, le=3.0)] = 1.3
    """Side of the square that is cut out, as a multiple of the face box's longer side."""
    min_face_pixels: Annotated[int, Field(ge=1)] = 32
    """Pixels that the longer side of a face box has at least; smaller faces are not used."""
    min_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Confidence of the face detector, 0 to 1, from which a face box is used."""
    min_track_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Median confidence, 0 to 1, from which a face track counts as a face."""
    still_crop: Literal["face", "whole"] = "face"
    """What is cut out of a still picture: its faces, or the whole picture as one square."""
    align_eyes: bool = False
    """Turn each crop so that the eyes are level."""
    face_model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = FULL_RANGE_SHA256
    """SHA-256 of the face detector's file; the variable ``REELCHECK_FACE_MODEL`` changes it."""

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
    """Where shards are processed. here: on this machine; cluster: on the machines of the scheduler
    that the environment names, one task per shard (``docs/cluster.md``)."""
    num_workers: Annotated[int, Field(ge=1, le=512)] | None = None
    """Number of decode processes; None: one per core that this process may use."""
    shard_size: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Number of videos in a shard, which is one Prefect task."""
    decoder: Decoder = "auto"
    """Which decoder is used; the frames are the same. auto: PyAV, and decord where PyAV fails;
    decord: decord wherever it is exact, after PyAV has proved that nothing is damaged; pyav: always
    PyAV."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Deadline for one video in seconds: half for the first attempt, half for the second."""
    max_memory_bytes: Annotated[int, Field(ge=2**28)] = 4 * 2**30
    """Private memory in bytes that one decode process may take; only on Linux."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 64 * 2**30
    """Size in bytes up to which an input file is read."""
    allow_private_addresses: bool = False
    """Read URLs of web servers on this machine and in its network, too."""
    compress_crops: bool = False
    """Compress crops with zstd: two thirds of the bytes, nearly three times the reading time."""

    @property
    def read_limits(self) -> ReadLimits:
        """Limits for reading one input: what takes longer could not be decoded in time either."""
        return ReadLimits(
            max_bytes=self.max_file_bytes,
            max_seconds=self.timeout_seconds / 2,
            allow_private_addresses=self.allow_private_addresses,
        )


class NormaliseSettings(Settings):
    """The profile of normalised videos; ``tasks/faces/decoding/reencode.py`` gives the reasons."""

    algorithm: Literal[1] = 1
    """Version of the algorithm. Increase it when the same settings give other videos."""
    max_side: Annotated[int, Field(ge=64, le=4096, multiple_of=2)] = 640
    """Pixels of the longer side at most: larger pictures shrink, smaller ones keep their size."""
    square: bool = False
    """Put every picture in the middle of a black square with sides of ``max_side`` pixels."""
    frames_per_second: Annotated[int, Field(ge=1, le=120)] = 25
    """Constant frame rate in frames per second; frames are dropped or repeated."""
    bits_per_pixel: Annotated[float, Field(ge=0.01, le=2)] = 0.1
    """Constant bit rate, in bits per pixel and frame."""


class ScoreSettings(Settings):
    """How a model is run, and which evidence is shown with its predictions."""

    engine: EngineChoice = "auto"
    """Library that runs the model. auto: torch on a GPU, otherwise OpenVINO. On a CPU the logits
    of all libraries agree to 1e-4."""
    num_evidence_frames: Annotated[int, Field(ge=0, le=30)] = 3
    """Number of faces shown of each person; a picture shows four people at most."""
    heat_maps: bool = True
    """Draw heat maps of the regions that raise the score, on the faces of the most suspicious
    person; not for videos with the verdict real."""


class GateSettings(Settings):
    """Conditions for a challenger to replace the champion; see ``tasks/registry/gate.py``."""

    min_auc_change: Annotated[float, Field(ge=-1, le=1)] = -0.005
    """Smallest allowed lower end of the 95 % interval of the change in AUC (-1 to 1), on the frozen
    and on the recent test videos."""
    max_generator_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Largest allowed loss of AUC (0 to 1) on any generator."""
    max_false_alarm_rise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest allowed rise of the share of real videos that are called fake, 0 to 1."""
    max_ece: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest allowed expected calibration error, 0 to 1; or the champion's, if that is larger."""
    min_first_auc: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Smallest allowed AUC (0 to 1) of the first model of a registry."""
    min_new_videos: Annotated[int, Field(ge=1)] = 10
    """Number of new labelled videos from which a challenger is trained."""
    perturbations: tuple[str, ...] = ("jpeg 50", "scale 1/2", "blur 1.5")
    """Perturbations of test videos for the robustness rule; with none the rule is off."""
    num_perturbed_videos: Annotated[int, Field(ge=2)] = 60
    """Largest number of test videos for each perturbation, half of them real."""
    max_robustness_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Largest allowed loss of the mean AUC (0 to 1) over the perturbations."""
    max_export_difference: Annotated[float, Field(ge=0)] = 1e-3
    """Largest allowed difference between the logits of the exported model and of the network, on
    test sequences."""
    max_slowdown: Annotated[float, Field(gt=0)] = 1.5
    """Largest allowed time per frame, as a multiple of the champion's."""
    max_growth: Annotated[float, Field(gt=0)] = 1.5
    """Largest allowed size of the weights, as a multiple of the champion's."""
    approval_hours: Annotated[float, Field(gt=0, le=168)] = 12.0
    """Hours that a deployed run waits for the approval of a person, where one is needed."""

    @field_validator("perturbations")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(perturbation.name for perturbation in parse_perturbations(names))


class SplitSettings(Settings):
    """How videos are divided into train, val and test."""

    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    """Share of the videos for validation, 0 to 1."""
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    """Share of the videos for the test, 0 to 1."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Number that the random choices depend on."""
    honour_given: bool = True
    """Keep the splits that the labels table or folders named train, val and test give."""
    by_date: bool = False
    """Test on the newest videos and validate on those before, by the date in the labels."""
    val_from: date | None = None
    """With by_date: first day of the validation videos; None: chosen by val_fraction, then kept."""
    test_from: date | None = None
    """With by_date: first day of the test videos; None: chosen by test_fraction, then kept."""

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
