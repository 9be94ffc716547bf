"""The only place that spells a file or folder name of a store, a model or a registry.

STORE/
  <preprocessing hash>/           one folder per preprocessing settings
    settings.json
    lock lock.json                held while a run writes; who holds it
    shards/<shard>.<part>.arrow   crops; a shard without faces has none
    shards/<shard>.sequences.parquet
    shards/<shard>.videos.parquet written last: its existence means the shard is done
    videos.parquet                one row per input file
    manifest.parquet              one row per crop sequence
    summary.json                  time and counts of the last run
    split.parquet                 one row per video: train, val or test
    audit.json audit.csv audit.png what the last audit found; the files of every leak
MODEL/
  model.safetensors card.json split.parquet log.csv
  report.md classification.json plots/<name>.png
  validation.parquet            logits on the videos that chose epoch, threshold and band
  learned.parquet               fingerprints of the videos of train and val
  gate.json                     of a registry's version: why it was promoted, or why not
  tensorboard/                  curves of losses and metrics
  folds/<n>/                    of a cross-validation: each fold's MODEL
  unfinished/                   checkpoints of a run that is not done; deleted by it
  encoder.onnx judge.onnx       the same model for scoring without torch
  onnx.json                     which weights they were made from; written last
STUDY/                          several models compared
  learning_curve.csv learning_curve.png ablation.csv ablation.md ablation.png
REGISTRY/
  <version>/ (a MODEL) …        immutable
  champion                      names of versions: that in use, then those before it
  withdrawn                     names of versions that a rollback has taken out of use
  decision.json                 what the last retraining decided
  drift.json drift.png          new videos beside those that the champion was measured on
"""

from dataclasses import dataclass
from pathlib import Path

from reelcheck.errors import StoreError
from storage.outputs import EvaluationLayout, LockedFolder

CROPS_SUFFIX = ".arrow"
SEQUENCES_SUFFIX = ".sequences.parquet"
VIDEOS_SUFFIX = ".videos.parquet"


@dataclass(frozen=True)
class StoreLayout(LockedFolder):
    """Paths of one preprocessing output inside a store."""

    @property
    def preprocessing_hash(self) -> str:
        """Hash of the preprocessing settings; names the folder."""
        return self.path.name

    @property
    def settings_path(self) -> Path:
        """The preprocessing settings as JSON."""
        return self.path / "settings.json"

    @property
    def shards_dir(self) -> Path:
        """Folder of shard files."""
        return self.path / "shards"

    @property
    def videos_path(self) -> Path:
        """Table of input files."""
        return self.path / "videos.parquet"

    @property
    def manifest_path(self) -> Path:
        """Table of crop sequences."""
        return self.path / "manifest.parquet"

    @property
    def split_path(self) -> Path:
        """Table of split assignments."""
        return self.path / "split.parquet"

    @property
    def audit_path(self) -> Path:
        """What the last audit found."""
        return self.path / "audit.json"

    @property
    def audit_leaks_path(self) -> Path:
        """The files of every leak that it found."""
        return self.path / "audit.csv"

    @property
    def audit_plot_path(self) -> Path:
        """The same as a picture."""
        return self.path / "audit.png"

    @property
    def summary_path(self) -> Path:
        """What the last run did, and how long it took."""
        return self.path / "summary.json"

    def crops_path(self, shard: str, part: int) -> Path:
        """One of the crop files of a shard; they are numbered from 0."""
        return self.shards_dir / f"{shard}.{part}{CROPS_SUFFIX}"

    def crops_paths(self, shard: str) -> list[Path]:
        """The crop files of a shard that are there."""
        return sorted(self.shards_dir.glob(f"{shard}.*{CROPS_SUFFIX}"))

    def shard_sequences_path(self, shard: str) -> Path:
        """Sequence rows of one shard."""
        return self.shards_dir / f"{shard}{SEQUENCES_SUFFIX}"

    def shard_videos_path(self, shard: str) -> Path:
        """Video rows of one shard; written last."""
        return self.shards_dir / f"{shard}{VIDEOS_SUFFIX}"

    def done_shards(self) -> list[str]:
        """Names of the finished shards, sorted."""
        found = self.shards_dir.glob(f"*{VIDEOS_SUFFIX}")
        return sorted(path.name.removesuffix(VIDEOS_SUFFIX) for path in found)


@dataclass(frozen=True)
class ModelLayout:
    """Paths of one checkpoint folder."""

    path: Path

    @property
    def weights_path(self) -> Path:
        """Network weights."""
        return self.path / "model.safetensors"

    @property
    def card_path(self) -> Path:
        """The model card; written last: its existence means the model is complete."""
        return self.path / "card.json"

    @property
    def split_path(self) -> Path:
        """The split that the model was trained with."""
        return self.path / "split.parquet"

    @property
    def log_path(self) -> Path:
        """One line of metrics per epoch."""
        return self.path / "log.csv"

    @property
    def gate_path(self) -> Path:
        """Why it was promoted, or why not."""
        return self.path / "gate.json"

    @property
    def evaluations_dir(self) -> Path:
        """Folder of its evaluations."""
        return self.path / "evaluations"

    def evaluation(self, part: str, split_hash: str) -> EvaluationLayout:
        """Where an evaluation on one part of a split is written unless another place is named."""
        return EvaluationLayout(self.evaluations_dir / f"{part}-{split_hash}")

    @property
    def validation_path(self) -> Path:
        """Logits on the videos that training chose by."""
        return self.path / "validation.parquet"

    @property
    def learned_path(self) -> Path:
        """Fingerprints of the videos that the model has learned from."""
        return self.path / "learned.parquet"

    @property
    def encoder_path(self) -> Path:
        """Frames -> features, for scoring without torch."""
        return self.path / "encoder.onnx"

    @property
    def judge_path(self) -> Path:
        """Features of a sequence -> logits, for scoring without torch."""
        return self.path / "judge.onnx"

    @property
    def onnx_path(self) -> Path:
        """What the two files were made from; written last."""
        return self.path / "onnx.json"

    @property
    def tensorboard_dir(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def unfinished_dir(self) -> Path:
        """Checkpoints of a training run that is not done."""
        return self.path / "unfinished"

    @property
    def unfinished_run_path(self) -> Path:
        """What that run is: a folder of another run's checkpoints is not continued."""
        return self.unfinished_dir / "run.json"

    def phase_dir(self, number: int) -> Path:
        """Lightning's checkpoints of one phase."""
        return self.unfinished_dir / f"phase{number}"

    def phase_weights_path(self, number: int) -> Path:
        """Best weights of a finished phase."""
        return self.unfinished_dir / f"phase{number}.safetensors"

    def phase_path(self, number: int) -> Path:
        """Log and summary of a finished phase; written last."""
        return self.unfinished_dir / f"phase{number}.json"

    def fold(self, number: int) -> "ModelLayout":
        """Checkpoint folder of one fold, from 0."""
        return ModelLayout(self.path / "folds" / str(number))

    @property
    def report_path(self) -> Path:
        """What training gave, for people."""
        return self.path / "report.md"

    @property
    def classification_path(self) -> Path:
        """Precision, recall and confusion counts on validation."""
        return self.path / "classification.json"

    @property
    def plots_dir(self) -> Path:
        """Folder of the report's pictures."""
        return self.path / "plots"

    def plot_path(self, name: str) -> Path:
        """One of the report's pictures."""
        return self.plots_dir / f"{name}.png"


@dataclass(frozen=True)
class StudyLayout:
    """Paths of what a comparison of models found."""

    path: Path

    def model(self, name: str) -> ModelLayout:
        """Checkpoint folder of one of the models."""
        return ModelLayout(self.path / name)

    @property
    def learning_curve_path(self) -> Path:
        """Metrics per number of training videos."""
        return self.path / "learning_curve.csv"

    @property
    def learning_curve_plot_path(self) -> Path:
        """The same as a picture."""
        return self.path / "learning_curve.png"

    @property
    def ablation_path(self) -> Path:
        """Metrics per changed setting."""
        return self.path / "ablation.csv"

    @property
    def ablation_markdown_path(self) -> Path:
        """The same for people."""
        return self.path / "ablation.md"

    @property
    def ablation_plot_path(self) -> Path:
        """The same as a picture."""
        return self.path / "ablation.png"


@dataclass(frozen=True)
class RegistryLayout:
    """Paths of a folder of model versions."""

    path: Path

    @property
    def champion_path(self) -> Path:
        """The file that names the version in use and, below it, those before."""
        return self.path / "champion"

    @property
    def withdrawn_path(self) -> Path:
        """The file that names versions which are not to be promoted again by themselves."""
        return self.path / "withdrawn"

    @property
    def decision_path(self) -> Path:
        """What the last retraining decided."""
        return self.path / "decision.json"

    @property
    def drift_path(self) -> Path:
        """How the new videos differ from those that the champion was measured on."""
        return self.path / "drift.json"

    @property
    def drift_plot_path(self) -> Path:
        """The same as a picture."""
        return self.path / "drift.png"

    def version(self, name: str) -> ModelLayout:
        """One version's checkpoint folder."""
        return ModelLayout(self.path / name)


def is_no_crops(name: str) -> bool:
    """Whether a file of a store is a table or the like: much smaller than all the crops."""
    return not name.endswith(CROPS_SUFFIX)


def is_no_weights(name: str) -> bool:
    """Whether a file of a registry is a card, a decision or the like: much smaller than a model."""
    return not name.endswith((".safetensors", ".onnx"))


def preprocessed(store: Path, preprocessing_hash: str) -> StoreLayout:
    """Where the output for these preprocessing settings lives, whether it exists or not."""
    return StoreLayout(store / preprocessing_hash)


def find_preprocessed(store: Path, preprocessing_hash: str | None = None) -> StoreLayout:
    """The finished preprocessing output of a store.

    Raises:
        StoreError: there is none, or several and no hash says which.
    """
    known = sorted(path.parent.name for path in store.glob("*/manifest.parquet"))
    if preprocessing_hash is not None and preprocessing_hash not in known:
        raise StoreError(
            f"{store} holds no preprocessing {preprocessing_hash}; it has "
            f"{', '.join(known) or 'none'}. Run: reelcheck preprocess SOURCE --store {store}"
        )
    if not known:
        raise StoreError(
            f"{store} holds no manifest. Run first: reelcheck preprocess SOURCE --store {store}"
        )
    if preprocessing_hash is None and len(known) > 1:
        raise StoreError(
            f"{store} holds {len(known)} preprocessings ({', '.join(known)}); "
            "say which with --preprocessing HASH"
        )
    return preprocessed(store, preprocessing_hash or known[0])
