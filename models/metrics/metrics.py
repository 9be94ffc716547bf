"""Video-level metrics of a scored table, by scikit-learn. Every reported figure comes from here.

Scores are in [0, 1]; labels are 1 fake, 0 real. A score from the threshold on is called fake.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from models.metrics.calibration import measure_distance
from models.metrics.verdict import decide_verdict
from models.metrics.weighted_metrics import (
    FALSE_ALARM_RATES,
    NUM_BINS,
    Floats,
    assign_bins,
    compute_area,
    compute_equal_error_rate,
    compute_weighted_metrics,
    compute_weighted_roc,
    find_best_tpr,
    sort_descending,
)
from reelcheck.card import Calibration

Labels = NDArray[np.int64]
Metrics = dict[str, float | int | None]

_OF_BOTH = (
    *("auc", "average_precision", "eer", *FALSE_ALARM_RATES),
    *("balanced_accuracy", "f1", "precision", "recall"),
)
"""Undefined when only one label occurs."""
_OF_ANY = ("accuracy", "brier", "log_loss", "ece", "decided_share", "decided_error")
_NO_INTERVAL = "tpr_at_fpr_0.1"
"""This metric depends on the one or two highest reals, which a bootstrap cannot draw higher."""
_MAX_COVERAGES = 20
_MAX_WEIGHTS = 4_000_000
"""Draws times videos that are held at once: 32 MB per array."""


def compute_metrics(scores: Floats, labels: Labels, calibration: Calibration) -> Metrics:
    """Compute the metrics of scored videos with known labels.

    - ``eer``: where the false positive rate meets the false negative rate, linear between points
      of the ROC curve.
    - ``tpr_at_fpr_1``: the largest true positive rate that a threshold reaches with at most 1 %
      false positives; nothing is interpolated.
    - ``ece``: expected calibration error, 15 bins of equal width (Guo et al. 2017,
      arXiv 1706.04599).
    - ``decided_share``, ``decided_error``: of verdicts that are not inconclusive.

    None where a metric is undefined; ``explain_undefined`` says why.
    """
    metrics: Metrics = {"num_videos": len(labels), "num_fake": int(labels.sum())}
    metrics |= dict.fromkeys((*_OF_BOTH, *_OF_ANY))
    if not len(labels):
        return metrics
    called = (scores >= calibration.threshold).astype(np.int64)
    if _has_both(labels):
        metrics |= _rank(scores, labels) | {
            "balanced_accuracy": float(balanced_accuracy_score(labels, called)),
            "f1": float(f1_score(labels, called, zero_division=0.0)),
            "precision": float(precision_score(labels, called)) if called.any() else None,
            "recall": float(recall_score(labels, called)),
        }
    gaps = np.bincount(assign_bins(scores, NUM_BINS), weights=scores - labels)
    verdicts = np.array([decide_verdict(score, calibration) for score in scores.tolist()])
    decided = verdicts != "inconclusive"
    wrong = (verdicts[decided] == "fake") != (labels[decided] == 1)
    return metrics | {
        "accuracy": float(accuracy_score(labels, called)),
        "brier": float(brier_score_loss(labels, scores, pos_label=1)),
        "log_loss": float(log_loss(labels, scores, labels=[0, 1])),
        "ece": float(np.abs(gaps).sum() / len(labels)),
        "decided_share": float(decided.mean()),
        "decided_error": float(wrong.mean()) if len(wrong) else None,
    }


def explain_undefined(name: str, labels: Labels) -> str:
    """Explain in words why ``compute_metrics`` gave None for a metric."""
    if not len(labels):
        return "no video was scored"
    if name in _OF_BOTH and not _has_both(labels):
        found, missing = ("fake", "real") if labels[0] == 1 else ("real", "fake")
        return f"every scored video is {found}; it takes a {missing} one to compare with"
    if name == "precision":
        return "no video was called fake"
    if name == "decided_error":
        return "every verdict is inconclusive"
    raise ValueError(f"{name} is defined for these videos")


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_metrics(
    scores: Floats,
    labels: Labels,
    groups: NDArray[Any],
    calibration: Calibration,
    *,
    num_draws: int = 1000,
    seed: int,
) -> dict[str, Interval]:
    """Find the metrics with the percentile intervals of a bootstrap over groups (Efron 1979).

    Videos of one person or source are alike. Draws of single videos would count them as more
    evidence than they are; draws of whole groups give an honest, wider interval.

    Args:
        scores: one per video.
        labels: 1 fake, 0 real.
        groups: one per video; videos of one group are drawn together.
        calibration: its threshold calls videos fake.
        num_draws: samples of as many groups as there are, with replacement. Samples with one label
            are left out where a metric needs both.
        seed: same seed, same intervals.

    Returns:
        Intervals by name. Undefined metrics are left out; with fewer than two groups, all metrics.
    """
    metrics = compute_metrics(scores, labels, calibration)
    chunks = [
        compute_weighted_metrics(weights, scores, labels, calibration.threshold)
        for weights in _draw_weights(groups, num_draws=num_draws, seed=seed)
    ]
    intervals = {
        name: _make_interval(metrics[name], np.concatenate([chunk[name] for chunk in chunks]))
        for name in (chunks[0] if chunks else ())
        if name != _NO_INTERVAL
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


def bootstrap_auc(
    scores: Floats, labels: Labels, groups: NDArray[Any], *, num_draws: int = 1000, seed: int
) -> Interval | None:
    """Find the AUC and its interval, of scores on any scale; None where undefined."""
    if not _has_both(labels):
        return None
    drawn = _bootstrap(
        lambda weights: compute_area(*compute_weighted_roc(weights, scores, labels)),
        groups,
        num_draws,
        seed,
    )
    return _make_interval(float(roc_auc_score(labels, scores)), drawn)


def bootstrap_auc_difference(
    scores_a: Floats,
    scores_b: Floats,
    labels: Labels,
    groups: NDArray[Any],
    *,
    num_draws: int = 1000,
    seed: int,
) -> Interval | None:
    """Find the AUC of b less that of a on the same videos, with one draw for both.

    Hard videos are hard for both, so this interval is narrower than two separate ones suggest. None
    where ``bootstrap_auc`` gives None.
    """
    if not _has_both(labels):
        return None

    def compute_difference(weights: Labels) -> Floats:
        a, b = (
            compute_area(*compute_weighted_roc(weights, scores, labels))
            for scores in (scores_a, scores_b)
        )
        return b - a

    value = roc_auc_score(labels, scores_b) - roc_auc_score(labels, scores_a)
    return _make_interval(float(value), _bootstrap(compute_difference, groups, num_draws, seed))


def bootstrap_share(
    hits: NDArray[np.bool_], groups: NDArray[Any], *, num_draws: int = 1000, seed: int
) -> Interval | None:
    """Find the share of hits among videos, by the same bootstrap; None without videos.

    With no hits, or with hits only, all draws are alike and would claim certainty. The interval is
    then the exact one for as many trials as groups (Clopper and Pearson 1934).
    """
    if not len(hits):
        return None
    share = float(hits.mean())
    if share in {0.0, 1.0}:
        num_groups = len(np.unique(groups))
        exact = binomtest(int(share) * num_groups, num_groups).proportion_ci(0.95, "exact")
        return Interval(share, float(exact.low), float(exact.high))
    drawn = _bootstrap(
        lambda weights: weights @ hits / weights.sum(axis=1), groups, num_draws, seed
    )
    return _make_interval(share, drawn)


class ReliabilityBin(NamedTuple):
    """Videos with scores of one bin."""

    mean_score: float
    fake_share: float
    num_videos: int


def bin_by_score(scores: Floats, labels: Labels, num_bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """Bin videos by score, in bins of equal width, lowest scores first; empty bins are left out.

    The mean of calibrated scores in a bin is its share of fakes (DeGroot and Fienberg 1983).
    """
    bins = assign_bins(scores, num_bins)
    return [
        ReliabilityBin(float(scores[own].mean()), float(labels[own].mean()), int(own.sum()))
        for own in (bins == number for number in np.unique(bins))
    ]


class CoveragePoint(NamedTuple):
    """Error among the most certain share of the videos."""

    coverage: float
    """Share of the videos, 0 to 1."""
    risk: float
    """Share of these videos that the threshold calls wrongly."""
    low: float | None
    """95 % interval of the risk; None with fewer than two groups."""
    high: float | None


def compute_risk_coverage(
    scores: Floats,
    labels: Labels,
    groups: NDArray[Any],
    calibration: Calibration,
    *,
    num_draws: int = 1000,
    seed: int,
) -> list[CoveragePoint]:
    """Find the error if only the most certain videos were called (El-Yaniv and Wiener 2010).

    Videos are ordered by the distance of their score from the threshold, in logits, as in the band
    of inconclusive scores. Of videos at the same distance, each counts by the share that is called.

    Returns:
        Points at up to 20 coverages in equal steps, the last one 1; none without videos.
    """
    if not len(labels):
        return []
    order, starts = sort_descending(measure_distance(scores, calibration.threshold))
    wrong = ((scores >= calibration.threshold) != (labels == 1))[order]
    num_points = min(_MAX_COVERAGES, len(labels))
    coverages = np.arange(1, num_points + 1) / num_points

    def compute_risks(weights: Labels) -> Floats:
        counts = np.add.reduceat(weights[:, order], starts, axis=1)
        errors = np.add.reduceat(weights[:, order] * wrong, starts, axis=1)
        return np.array(
            [_interpolate_risks(*row, coverages) for row in zip(counts, errors, strict=True)]
        )

    [found] = compute_risks(np.ones((1, len(labels)), dtype=np.int64))
    drawn = _bootstrap(compute_risks, groups, num_draws, seed)
    ends = np.quantile(drawn, (0.025, 0.975), axis=0).T.tolist() if len(drawn) else None
    return [
        CoveragePoint(coverage, risk, *(ends[n] if ends else (None, None)))
        for n, (coverage, risk) in enumerate(zip(coverages.tolist(), found.tolist(), strict=True))
    ]


def _rank(scores: Floats, labels: Labels) -> Metrics:
    """Compute the metrics that depend only on the order of the scores."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "eer": float(compute_equal_error_rate(fpr, tpr)),
        **{name: float(find_best_tpr(fpr, tpr, rate)) for name, rate in FALSE_ALARM_RATES.items()},
    }


def _has_both(labels: Labels) -> bool:
    return len(labels) > 0 and bool(labels.min() != labels.max())


def _draw_weights(groups: NDArray[Any], *, num_draws: int, seed: int) -> Iterator[Labels]:
    """Draw how often each video counts: arrays (draws, videos), a chunk of the draws at a time.

    With fewer than two groups there are no draws: all would be the same.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return
    rng = np.random.default_rng(seed)
    step = max(1, _MAX_WEIGHTS // len(group_of))
    for start in range(0, num_draws, step):
        size = min(step, num_draws - start)
        times_drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size)
        yield times_drawn[:, group_of]


def _bootstrap(
    statistic: Callable[[Labels], Floats], groups: NDArray[Any], num_draws: int, seed: int
) -> Floats:
    """Compute the statistic of each draw, on the first axis; empty with fewer than two groups."""
    drawn = [
        statistic(weights) for weights in _draw_weights(groups, num_draws=num_draws, seed=seed)
    ]
    return np.concatenate(drawn) if drawn else np.empty(0)


def _make_interval(value: float | None, drawn: Floats) -> Interval | None:
    defined = drawn[~np.isnan(drawn)]
    if value is None or not len(defined):
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _interpolate_risks(counts: Labels, errors: Labels, coverages: Floats) -> Floats:
    """Errors per video among the most certain share; linear between videos at one distance."""
    # Interpolation needs rising positions: a video that was not drawn would repeat the one before.
    drawn = counts > 0
    num_called = coverages * counts.sum()
    at = np.cumsum(counts[drawn])
    num_wrong = np.interp(num_called, [0, *at], [0, *np.cumsum(errors[drawn])])
    found: Floats = num_wrong / num_called
    return found
