"""Video-level metrics of a scored table, by scikit-learn. Every reported figure comes from here."""

from typing import Any, NamedTuple

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

from models.verdict import verdict_of
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


class AucInterval(NamedTuple):
    """Area under the ROC curve and its 95 % interval."""

    auc: float
    low: float
    high: float


def group_bootstrap_auc(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[Any],
    *,
    num_draws: int = 1000,
    seed: int,
) -> AucInterval | None:
    """AUC with the percentile interval of a bootstrap over groups (Efron 1979).

    Videos of one person or source are alike. Drawn one by one they would pass for more evidence
    than they are; drawn as whole groups they give an honest, wider interval.

    Args:
        scores: one per video.
        labels: 1 fake, 0 real.
        groups: what ties videos together; equal values are drawn together.
        num_draws: samples of as many groups as there are, with replacement. Those with one label
            are skipped.
        seed: same seed, same interval.

    Returns:
        None where it is undefined: only one label, or fewer than two groups.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2 or len(set(labels.tolist())) < 2:
        return None
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), num_draws)
    # A video drawn n times is a video of weight n.
    weights = (row[group_of] for row in times_drawn)
    aucs = [
        roc_auc_score(labels[w > 0], scores[w > 0], sample_weight=w[w > 0])
        for w in weights
        if len(set(labels[w > 0].tolist())) == 2
    ]
    if not aucs:
        return None
    low, high = np.quantile(aucs, [0.025, 0.975])
    return AucInterval(float(roc_auc_score(labels, scores)), float(low), float(high))
