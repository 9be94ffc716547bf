"""Metrics of one score table under many weightings at once, for the bootstrap.

A video drawn n times is a video of weight n. Scores are sorted once for all draws, so that a
thousand draws cost no more than some hundred calls of scikit-learn, whose ``sample_weight`` they
equal.

Shapes: V videos, R draws, K distinct scores and before them the threshold that calls nothing fake.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FALSE_ALARM_RATES = {"tpr_at_fpr_0.1": 0.001, "tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}
"""Name of a metric -> the largest false positive rate that it allows; the names are in percent."""
NUM_BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599)."""


def compute_weighted_metrics(
    weights_RV: NDArray[np.int64], scores: Floats, labels: NDArray[np.int64], threshold: float
) -> dict[str, Floats]:
    """Compute each metric of each draw, R values; NaN where a draw lacks a label that is needed."""
    fpr_RK, tpr_RK = compute_weighted_roc(weights_RV, scores, labels)
    sums = _sum_videos(weights_RV, scores, labels, threshold)
    num_fake, num_real, hits, false_alarms, squares, losses, gaps = sums
    num_videos = num_fake + num_real
    found_of_both = {
        "auc": compute_area(fpr_RK, tpr_RK),
        "average_precision": _compute_average_precision(fpr_RK, tpr_RK, num_real, num_fake),
        "eer": compute_equal_error_rate(fpr_RK, tpr_RK),
        **{name: find_best_tpr(fpr_RK, tpr_RK, rate) for name, rate in FALSE_ALARM_RATES.items()},
        "balanced_accuracy": _divide(hits, num_fake) / 2
        + (1 - _divide(false_alarms, num_real)) / 2,
        "f1": _divide(2 * hits, num_fake + hits + false_alarms),
    }
    has_both = (num_fake > 0) & (num_real > 0)
    return {
        **{name: np.where(has_both, values, np.nan) for name, values in found_of_both.items()},
        "accuracy": _divide(hits + num_real - false_alarms, num_videos),
        "brier": _divide(squares, num_videos),
        "log_loss": _divide(losses, num_videos),
        "ece": _divide(gaps, num_videos),
    }


def compute_weighted_roc(
    weights_RV: NDArray[np.int64], scores: Floats, labels: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Compute the false and true positive rates of each draw at each distinct score.

    Returns:
        Both (R, K), rising from 0 to 1 along K; NaN where a draw lacks the label.
    """
    order, starts = sort_descending(scores)
    sorted_RV = weights_RV[:, order]
    rates = []
    for label in (0, 1):
        of_label_RK = np.add.reduceat(sorted_RV * (labels[order] == label), starts, axis=1)
        counts_RK = np.cumsum(np.pad(of_label_RK, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        rates.append(_divide(counts_RK, counts_RK[:, -1:]))
    return rates[0], rates[1]


def sort_descending(values: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort from the highest value down; also find where each distinct value begins."""
    order = np.argsort(-values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], prepend=np.inf))


def compute_area(fpr_RK: Floats, tpr_RK: Floats) -> Floats:
    """Compute the area under each ROC curve."""
    heights_RK = (tpr_RK[..., 1:] + tpr_RK[..., :-1]) / 2
    found: Floats = (np.diff(fpr_RK, axis=-1) * heights_RK).sum(axis=-1)
    return found


def compute_equal_error_rate(fpr_RK: Floats, tpr_RK: Floats) -> Floats:
    """Find where false positive and false negative rates meet, linear between ROC points."""
    excess_RK = fpr_RK + tpr_RK - 1
    # The excess rises from -1 to 1; it is NaN for all points of a draw with one label.
    after = np.argmax(excess_RK >= 0, axis=-1, keepdims=True)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(excess_RK, at, axis=-1) for at in (before, after))
    start, end = (np.take_along_axis(fpr_RK, at, axis=-1) for at in (before, after))
    met: Floats = start + (end - start) * _divide(-low, high - low)
    return met[..., 0]


def find_best_tpr(fpr_RK: Floats, tpr_RK: Floats, max_fpr: float) -> Floats:
    """Find the largest true positive rate of thresholds with at most this false positive rate."""
    found: Floats = np.where(fpr_RK <= max_fpr, tpr_RK, 0.0).max(axis=-1)
    return found


def assign_bins(scores: Floats, num_bins: int) -> NDArray[np.int64]:
    """Find the bin of each score of [0, 1], in bins of equal width; 1 falls into the last bin."""
    return np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)


def _sum_videos(
    weights_RV: NDArray[np.int64], scores: Floats, labels: NDArray[np.int64], threshold: float
) -> tuple[Floats, ...]:
    """Fakes, reals, hits, false alarms, squared errors, log losses, gaps of bins; R values each."""
    fake, called = labels == 1, scores >= threshold
    tiny = np.finfo(np.float64).eps
    losses = -np.log(np.clip(np.where(fake, scores, 1 - scores), tiny, 1 - tiny))
    single = [fake, ~fake, fake & called, ~fake & called, (scores - labels) ** 2, losses]
    in_bin = assign_bins(scores, NUM_BINS)[:, None] == np.arange(NUM_BINS)
    columns = np.column_stack([*single, in_bin * (scores - labels)[:, None]]).astype(np.float64)
    sums = weights_RV.astype(np.float64) @ columns
    gaps = np.abs(sums[:, len(single) :]).sum(axis=1)
    return (*sums[:, : len(single)].T, gaps)


def _compute_average_precision(
    fpr_RK: Floats, tpr_RK: Floats, num_real: Floats, num_fake: Floats
) -> Floats:
    hits_RK, false_alarms_RK = tpr_RK * num_fake[:, None], fpr_RK * num_real[:, None]
    precision_RK = _divide(hits_RK, hits_RK + false_alarms_RK)[:, 1:]
    # Before the first drawn video there is no precision, and no gain of recall.
    found: Floats = (np.diff(tpr_RK, axis=1) * np.nan_to_num(precision_RK)).sum(axis=1)
    return found


def _divide(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole
