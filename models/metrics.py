"""Video-level metrics of a scored table, by scikit-learn. Every reported figure comes from here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from models.calibration import verdict_of
from reelcheck.card import Calibration

Metrics = dict[str, float | int | None]


def video_metrics(
    scores: NDArray[np.float64], labels: NDArray[np.int64], calibration: Calibration
) -> Metrics:
    """Metrics of scored videos with known labels.

    Ranking metrics are None when only one label occurs: they are undefined, not 0.5.
    """
    called_fake = scores >= calibration.threshold
    verdicts = np.array([verdict_of(float(score), calibration) for score in scores], dtype=object)
    decided = verdicts != "inconclusive"
    wrong = (verdicts == "fake") != (labels == 1)
    both = len(set(labels.tolist())) == 2
    metrics: dict[str, Any] = {
        "num_videos": len(labels),
        "num_fake": int(labels.sum()),
        "auc": roc_auc_score(labels, scores) if both else None,
        "average_precision": average_precision_score(labels, scores) if both else None,
        "f1": f1_score(labels, called_fake, zero_division=0.0) if both else None,
        "balanced_accuracy": balanced_accuracy_score(labels, called_fake) if both else None,
        "accuracy": float((called_fake == (labels == 1)).mean()) if len(labels) else None,
        "log_loss": log_loss(labels, scores, labels=[0, 1]) if len(labels) else None,
        "brier": brier_score_loss(labels, scores) if both else None,
        "decided_share": float(decided.mean()) if len(labels) else None,
        "decided_error": float(wrong[decided].mean()) if decided.any() else None,
    }
    return {k: round(float(v), 6) if isinstance(v, float) else v for k, v in metrics.items()}
