"""The only place that spells a file or folder name of what commands write for people.

EVALUATION/                     MODEL/evaluations/<part>-<split>, or where it was asked for
  videos.parquet                one row per video: its labels and what the model said of it
  evaluation.json               every figure; written last
  robustness/<name>.parquet     the same videos after a perturbation
  robustness.csv
  report.html model_card.md plots/<name>.png faces/<video id>.jpg
OUT/                            one scoring run's output
  results/<key>/<video id>.json one content's answer; the key names model and settings
  evidence/<key>/<video id>.jpg its most telling faces
  scores.parquet scores.csv summary.json report.html
NORMALISED                      videos brought to one profile
  <path>.mp4                    named like the source's files
  unfinished.jsonl              rows of a run that is not done; deleted by it
  normalised.csv                one row per input file; written last
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LockedFolder:
    """A folder that one run at a time may write to; see ``storage/lock.py``."""

    path: Path

    @property
    def lock_path(self) -> Path:
        """Locked while a run writes."""
        return self.path / "lock"

    @property
    def lock_holder_path(self) -> Path:
        """Which run holds the lock; for people."""
        return self.path / "lock.json"


@dataclass(frozen=True)
class ScoreLayout(LockedFolder):
    """Paths of one scoring run's output."""

    def results_dir(self, key: str) -> Path:
        """Folder of the answers of one model under one set of settings."""
        return self.path / "results" / key

    def result_path(self, key: str, video_id: str) -> Path:
        """The answer for one content."""
        return self.results_dir(key) / f"{video_id}.json"

    def evidence_dir(self, key: str) -> Path:
        """Folder of the pictures that belong to them."""
        return self.path / "evidence" / key

    def evidence_path(self, key: str, video_id: str) -> Path:
        """Picture of its most telling faces."""
        return self.evidence_dir(key) / f"{video_id}.jpg"

    @property
    def summary_path(self) -> Path:
        """What the last run did, and how long it took."""
        return self.path / "summary.json"

    @property
    def report_path(self) -> Path:
        """The result for people."""
        return self.path / "report.html"

    @property
    def parquet_path(self) -> Path:
        """The result table."""
        return self.path / "scores.parquet"

    @property
    def csv_path(self) -> Path:
        """The result table for spreadsheets."""
        return self.path / "scores.csv"


@dataclass(frozen=True)
class EvaluationLayout(LockedFolder):
    """Paths of one evaluation of one model."""

    @property
    def videos_path(self) -> Path:
        """Table of the videos and what the model said of them."""
        return self.path / "videos.parquet"

    @property
    def evaluation_path(self) -> Path:
        """Every figure; written last."""
        return self.path / "evaluation.json"

    @property
    def robustness_path(self) -> Path:
        """A line of figures per perturbation."""
        return self.path / "robustness.csv"

    def perturbed_path(self, name: str) -> Path:
        """Table of the same videos after a perturbation."""
        return self.path / "robustness" / f"{name.replace('/', '-of-').replace(' ', '-')}.parquet"

    @property
    def report_path(self) -> Path:
        """The result for people, in one file."""
        return self.path / "report.html"

    @property
    def model_card_path(self) -> Path:
        """What a reader must know of the model."""
        return self.path / "model_card.md"

    def plot_path(self, name: str) -> Path:
        """One of the report's pictures."""
        return self.path / "plots" / f"{name}.png"

    def faces_path(self, video_id: str) -> Path:
        """Faces of a video that was judged wrongly."""
        return self.path / "faces" / f"{video_id}.jpg"


@dataclass(frozen=True)
class NormalisedLayout(LockedFolder):
    """Paths of a folder of videos brought to one profile."""

    @property
    def unfinished_path(self) -> Path:
        """Rows as they came, one JSON object a line."""
        return self.path / "unfinished.jsonl"

    @property
    def table_path(self) -> Path:
        """One row per input file."""
        return self.path / "normalised.csv"
