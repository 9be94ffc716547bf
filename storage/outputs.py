"""File and folder names of the results that commands write; no other module spells them.

EVALUATION/                     MODEL/evaluations/<split>-<split hash>, or the folder of --out
  videos.parquet                one row per video: its labels and the model's prediction
  evaluation.json               every figure; written last
  robustness/<name>.parquet     predictions for the same videos after a perturbation
  robustness.csv
  report.html model_card.md plots/<name>.png faces/<video id>.jpg
OUT/                            one scoring run's output
  results/<key>/<video id>.json prediction for one content; the key names model and settings
  evidence/<key>/<video id>.jpg its faces that speak most for the prediction
  scores.parquet scores.csv summary.json report.html
  SHA256SUMS                    of files that carry no checksum; also in EVALUATION
STUDY/                          several models compared
  learning_curve.csv learning_curve.png ablation.csv ablation.md ablation.png
NORMALISED                      videos brought to one profile
  <path>.mp4                    named like the source's files
  unfinished.jsonl              rows of an unfinished run, which deletes them at its end
  normalised.csv                one row per input file; written last
"""

from dataclasses import dataclass
from pathlib import Path

from reelcheck.identifiers import require_video_id


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
        """Name of the run that holds the lock; for people."""
        return self.path / "lock.json"


@dataclass(frozen=True)
class ScoreLayout(LockedFolder):
    """Paths of one scoring run's output."""

    def results_dir(self, key: str) -> Path:
        """Folder of the predictions of one model with one set of settings."""
        return self.path / "results" / key

    def result_path(self, key: str, video_id: str) -> Path:
        """Prediction for one content."""
        return self.results_dir(key) / f"{require_video_id(video_id)}.json"

    def evidence_dir(self, key: str) -> Path:
        """Folder of the pictures of these predictions."""
        return self.path / "evidence" / key

    def evidence_path(self, key: str, video_id: str) -> Path:
        """Picture of the faces that speak most for the prediction."""
        return self.evidence_dir(key) / f"{require_video_id(video_id)}.jpg"

    @property
    def summary_path(self) -> Path:
        """Counts and times of the last run."""
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
        """Table of the videos and the model's predictions."""
        return self.path / "videos.parquet"

    @property
    def evaluation_path(self) -> Path:
        """Every figure; written last."""
        return self.path / "evaluation.json"

    @property
    def robustness_path(self) -> Path:
        """Table of figures, a line per perturbation."""
        return self.path / "robustness.csv"

    def perturbed_path(self, name: str) -> Path:
        """Table of predictions for the same videos after a perturbation."""
        return self.path / "robustness" / f"{name.replace('/', '-of-').replace(' ', '-')}.parquet"

    @property
    def report_path(self) -> Path:
        """The result for people, in one file."""
        return self.path / "report.html"

    @property
    def model_card_path(self) -> Path:
        """Model card for people."""
        return self.path / "model_card.md"

    def plot_path(self, name: str) -> Path:
        """One of the report's pictures."""
        return self.path / "plots" / f"{name}.png"

    def faces_path(self, video_id: str) -> Path:
        """Picture of the faces of a wrongly classified video."""
        return self.path / "faces" / f"{require_video_id(video_id)}.jpg"


@dataclass(frozen=True)
class StudyLayout:
    """Paths of the results of a comparison of models."""

    path: Path

    def model_dir(self, name: str) -> Path:
        """Checkpoint folder of one of the models."""
        return self.path / name

    @property
    def learning_curve_path(self) -> Path:
        """Table of metrics per number of training videos."""
        return self.path / "learning_curve.csv"

    @property
    def learning_curve_plot_path(self) -> Path:
        """Picture of the same."""
        return self.path / "learning_curve.png"

    @property
    def ablation_path(self) -> Path:
        """Table of metrics per changed setting."""
        return self.path / "ablation.csv"

    @property
    def ablation_markdown_path(self) -> Path:
        """Table of the same, for people."""
        return self.path / "ablation.md"

    @property
    def ablation_plot_path(self) -> Path:
        """Picture of the same."""
        return self.path / "ablation.png"


@dataclass(frozen=True)
class NormalisedLayout(LockedFolder):
    """Paths of a folder of videos brought to one profile."""

    @property
    def unfinished_path(self) -> Path:
        """Rows of an unfinished run, one JSON object on each line."""
        return self.path / "unfinished.jsonl"

    @property
    def table_path(self) -> Path:
        """One row per input file."""
        return self.path / "normalised.csv"
