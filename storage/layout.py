"""File and folder names of a store, a model and a registry; no other module spells them.

STORE/
  <preprocessing hash>/           one folder per preprocessing settings
    settings.json
    lock lock.json                held while a run writes; which run holds it
    shards/<shard>.<n>.arrow      crop files, from 0; a shard without faces has none
    shards/<shard>.sequences.parquet
    shards/<shard>.videos.parquet written last: marks the shard as done
    features/<encoder>/<shard>.<hash>.safetensors  what a backbone that does not learn gives
    videos.parquet                one row per input file
    manifest.parquet              one row per crop sequence
    summary.json                  time and counts of the last run
    split.parquet                 one row per video: train, val or test
    audit.json audit.csv audit.png result of the last audit; the files of every leak
    SHA256SUMS                    of files that carry no checksum; also in a MODEL
MODEL/
  model.safetensors card.json split.parquet log.csv
  report.md classification.json plots/<name>.png
  validation.parquet            logits on the videos that chose epoch, threshold and band
  learned.parquet               fingerprints of the videos of train and val
  gate.json                     for a version of a registry: why it was promoted, or why not
  tensorboard/                  curves of losses and metrics
  folds/<n>/                    for a cross-validation: each fold's MODEL
  unfinished/                   checkpoints of an unfinished run, which deletes them at its end
  source.json                   instead of a card, of a backbone of others: where it comes from
  .objects.json                 of a working copy: what the object store holds
REGISTRY/
  <version>/ (a MODEL) …        immutable
  champion                      names of the version in use and of those before it
  withdrawn                     names of versions that a rollback has taken out of use
  decision.json                 decision of the last retraining
  drift.json drift.png          new videos compared with the champion's test videos
"""

from dataclasses import dataclass
from pathlib import Path, PurePath

from reelcheck.errors import StoreError
from storage.outputs import EvaluationLayout, LockedFolder

CROPS_SUFFIX = ".arrow"
SEQUENCES_SUFFIX = ".sequences.parquet"
VIDEOS_SUFFIX = ".videos.parquet"
SUMS = "SHA256SUMS"
"""List of checksums, of files for people in the same folder; see ``storage/checked/sums.py``."""
COPY_RECORD = ".objects.json"
"""File of a working copy that says which versions of the object store's files it holds."""


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
        """Result of the last audit."""
        return self.path / "audit.json"

    @property
    def audit_leaks_path(self) -> Path:
        """Files of every leak that the last audit found."""
        return self.path / "audit.csv"

    @property
    def audit_plot_path(self) -> Path:
        """Picture of the same."""
        return self.path / "audit.png"

    @property
    def summary_path(self) -> Path:
        """Counts and times of the last run."""
        return self.path / "summary.json"

    def features_dir(self, encoder: str) -> Path:
        """Folder of the features that one encoder gives; see ``models/data/features.py``."""
        return self.path / "features" / encoder

    def crops_path(self, shard: str, crop_file: int) -> Path:
        """One of the crop files of a shard, by its number from 0."""
        return self.shards_dir / f"{shard}.{crop_file}{CROPS_SUFFIX}"

    def crops_paths(self, shard: str) -> list[Path]:
        """List the existing crop files of a shard."""
        return sorted(self.shards_dir.glob(f"{shard}.*{CROPS_SUFFIX}"))

    def shard_sequences_path(self, shard: str) -> Path:
        """Table of the sequences of one shard."""
        return self.shards_dir / f"{shard}{SEQUENCES_SUFFIX}"

    def shard_videos_path(self, shard: str) -> Path:
        """Table of the videos of one shard; written last."""
        return self.shards_dir / f"{shard}{VIDEOS_SUFFIX}"

    def done_shards(self) -> list[str]:
        """List the names of the finished shards, sorted."""
        paths = self.shards_dir.glob(f"*{VIDEOS_SUFFIX}")
        return sorted(path.name.removesuffix(VIDEOS_SUFFIX) for path in paths)


@dataclass(frozen=True)
class ModelLayout:
    """Paths of one checkpoint folder; ``holds`` tells them from files that are no part of it."""

    path: Path

    def files(self) -> tuple[Path, ...]:
        """All files that may lie directly in the folder."""
        return (
            self.weights_path,
            self.card_path,
            self.split_path,
            self.log_path,
            self.gate_path,
            self.validation_path,
            self.learned_path,
            self.source_path,
            self.report_path,
            self.classification_path,
            self.sums_path,
            self.copy_record_path,
        )

    def folders(self) -> tuple[Path, ...]:
        """All folders that may lie directly in the folder."""
        return (
            self.plots_dir,
            self.tensorboard_dir,
            self.evaluations_dir,
            self.folds_dir,
            self.unfinished_dir,
        )

    def holds(self, relative: PurePath) -> bool:
        """Whether a file of this name, relative to the folder, may be a part of it."""
        is_file = len(relative.parts) == 1
        known = self.files() if is_file else self.folders()
        return relative.parts[:1] in {(path.name,) for path in known}

    @property
    def weights_path(self) -> Path:
        """Network weights."""
        return self.path / "model.safetensors"

    @property
    def card_path(self) -> Path:
        """The model card; written last: marks the model as complete."""
        return self.path / "card.json"

    @property
    def split_path(self) -> Path:
        """The split that the model was trained with."""
        return self.path / "split.parquet"

    @property
    def log_path(self) -> Path:
        """Table of metrics, a line per epoch."""
        return self.path / "log.csv"

    @property
    def gate_path(self) -> Path:
        """Decision whether the version is promoted, with reasons."""
        return self.path / "gate.json"

    @property
    def evaluations_dir(self) -> Path:
        """Folder of the model's evaluations."""
        return self.path / "evaluations"

    def evaluation(self, name: str, split_hash: str) -> EvaluationLayout:
        """Default folder of an evaluation: named after the split or the purpose, and the hash."""
        return EvaluationLayout(self.evaluations_dir / f"{name}-{split_hash}")

    @property
    def validation_path(self) -> Path:
        """Logits on the validation videos, by which training chose."""
        return self.path / "validation.parquet"

    @property
    def learned_path(self) -> Path:
        """Fingerprints of the videos that the model has learned from."""
        return self.path / "learned.parquet"

    @property
    def source_path(self) -> Path:
        """Origin of a backbone of others, which has no card; written last."""
        return self.path / "source.json"

    @property
    def tensorboard_dir(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def unfinished_dir(self) -> Path:
        """Folder of the checkpoints of an unfinished training run."""
        return self.path / "unfinished"

    @property
    def unfinished_run_path(self) -> Path:
        """Identity of the unfinished run: only the same run continues from its checkpoints."""
        return self.unfinished_dir / "run.json"

    def phase_dir(self, number: int) -> Path:
        """Folder of Lightning's checkpoints of one phase."""
        return self.unfinished_dir / f"phase{number}"

    def phase_weights_path(self, number: int) -> Path:
        """Best weights of a finished phase."""
        return self.unfinished_dir / f"phase{number}.safetensors"

    def phase_path(self, number: int) -> Path:
        """Log and summary of a finished phase; written last."""
        return self.unfinished_dir / f"phase{number}.json"

    @property
    def folds_dir(self) -> Path:
        """Folder of the folds of a cross-validation."""
        return self.path / "folds"

    def fold(self, number: int) -> "ModelLayout":
        """Checkpoint folder of one fold, from 0."""
        return ModelLayout(self.folds_dir / str(number))

    @property
    def copy_record_path(self) -> Path:
        """Record of a working copy; see ``storage/object_store/copies.py``."""
        return self.path / COPY_RECORD

    @property
    def report_path(self) -> Path:
        """Report of training, for people."""
        return self.path / "report.md"

    @property
    def classification_path(self) -> Path:
        """Precision, recall and confusion counts on validation."""
        return self.path / "classification.json"

    @property
    def sums_path(self) -> Path:
        """Checksums of files that carry none."""
        return self.path / SUMS

    @property
    def plots_dir(self) -> Path:
        """Folder of the report's pictures."""
        return self.path / "plots"

    def plot_path(self, name: str) -> Path:
        """One of the report's pictures."""
        return self.plots_dir / f"{name}.png"


@dataclass(frozen=True)
class RegistryLayout:
    """Paths of a folder of model versions."""

    path: Path

    @property
    def champion_path(self) -> Path:
        """File with the name of the version in use and, below it, of the versions before."""
        return self.path / "champion"

    @property
    def withdrawn_path(self) -> Path:
        """File with the names of versions that only a person may promote again."""
        return self.path / "withdrawn"

    @property
    def decision_path(self) -> Path:
        """Decision of the last retraining."""
        return self.path / "decision.json"

    @property
    def drift_path(self) -> Path:
        """How new videos differ from the champion's test videos."""
        return self.path / "drift.json"

    @property
    def drift_plot_path(self) -> Path:
        """Picture of the same."""
        return self.path / "drift.png"

    def version(self, name: str) -> ModelLayout:
        """One version's checkpoint folder."""
        return ModelLayout(self.path / name)

    def version_names(self) -> list[str]:
        """List the names of the complete versions, sorted."""
        cards = self.path.glob(f"*/{self.version('').card_path.name}")
        return sorted(card.parent.name for card in cards)


def is_no_crops(name: str) -> bool:
    """Whether a file of a store holds no crops, which take nearly all of its space."""
    return not name.endswith(CROPS_SUFFIX)


def is_no_weights(name: str) -> bool:
    """Whether a file of a registry holds no weights, which take nearly all of its space."""
    return not name.endswith(".safetensors")


def locate_preprocessed(store: Path, preprocessing_hash: str) -> StoreLayout:
    """Locate the folder of these preprocessing settings, whether it exists or not."""
    return StoreLayout(store / preprocessing_hash)


def find_preprocessed(store: Path, preprocessing_hash: str | None = None) -> StoreLayout:
    """Find the finished preprocessing output of a store.

    Raises:
        StoreError: there is no output, or several and no hash says which one is meant.
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
    return locate_preprocessed(store, preprocessing_hash or known[0])
