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

from models.calibration import distance_from_threshold
from models.verdict import verdict_of
from models.weighted_metrics import (
    FALSE_ALARM_RATES,
    NUM_BINS,
    Floats,
    area,
    best_tpr,
    bins_of,
    descending_ties,
    equal_error_rate,
    weighted_metrics,
    weighted_roc,
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
"""It hangs on the one or two highest reals, which a bootstrap cannot draw any higher."""
_MAX_COVERAGES = 20
_MAX_WEIGHTS = 4_000_000
"""Draws times videos that are held at once: 32 MB for each array of them."""


def video_metrics(scores: Floats, labels: Labels, calibration: Calibration) -> Metrics:
    """Metrics of scored videos with known labels.

    - ``eer``: where the false positive rate meets the false negative rate, linear between points
      of the ROC curve.
    - ``tpr_at_fpr_1``: the largest true positive rate that a threshold reaches with at most 1 %
      false positives; nothing is interpolated.
    - ``ece``: expected calibration error, 15 bins of equal width (Guo et al. 2017,
      arXiv 1706.04599).
    - ``decided_share``, ``decided_error``: of verdicts that are not inconclusive.

    None where a metric is undefined; ``undefined_reason`` says why.
    """
    metrics: Metrics = {"num_videos": len(labels), "num_fake": int(labels.sum())}
    metrics |= dict.fromkeys((*_OF_BOTH, *_OF_ANY))
    if not len(labels):
        return metrics
    called = (scores >= calibration.threshold).astype(np.int64)
    if _has_both(labels):
        metrics |= _ranking(scores, labels) | {
            "balanced_accuracy": float(balanced_accuracy_score(labels, called)),
            "f1": float(f1_score(labels, called, zero_division=0.0)),
            "precision": float(precision_score(labels, called)) if called.any() else None,
            "recall": float(recall_score(labels, called)),
        }
    gaps = np.bincount(bins_of(scores, NUM_BINS), weights=scores - labels)
    verdicts = np.array([verdict_of(score, calibration) for score in scores.tolist()])
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


def undefined_reason(name: str, labels: Labels) -> str:
    """Why ``video_metrics`` gave None for a metric, in words."""
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


def group_bootstrap(
    scores: Floats,
    labels: Labels,
    groups: NDArray[Any],
    calibration: Calibration,
    *,
    num_draws: int = 1000,
    seed: int,
) -> dict[str, Interval]:
    """Headline metrics with the percentile interval of a bootstrap over groups (Efron 1979).

    Videos of one person or source are alike. Drawn one by one they would pass for more evidence
    than they are; drawn as whole groups they give an honest, wider interval.

    Args:
        scores: one per video.
        labels: 1 fake, 0 real.
        groups: what ties videos together; equal values are drawn together.
        calibration: whose threshold calls videos fake.
        num_draws: samples of as many groups as there are, with replacement. Those with one label
            are left out where a metric needs both.
        seed: same seed, same intervals.

    Returns:
        By name. A metric that is undefined is left out; with fewer than two groups all are.
    """
    found = video_metrics(scores, labels, calibration)
    parts = [
        weighted_metrics(weights, scores, labels, calibration.threshold)
        for weights in _draws(groups, num_draws=num_draws, seed=seed)
    ]
    intervals = {
        name: _interval(found[name], np.concatenate([part[name] for part in parts]))
        for name in (parts[0] if parts else ())
        if name != _NO_INTERVAL
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


def group_bootstrap_auc(
    scores: Floats, labels: Labels, groups: NDArray[Any], *, num_draws: int = 1000, seed: int
) -> Interval | None:
    """As ``group_bootstrap``, the AUC alone, of scores on any scale; None where undefined."""
    if not _has_both(labels):
        return None
    drawn = _bootstrap(
        lambda weights: area(*weighted_roc(weights, scores, labels)), groups, num_draws, seed
    )
    return _interval(float(roc_auc_score(labels, scores)), drawn)


def paired_difference(
    scores_a: Floats,
    scores_b: Floats,
    labels: Labels,
    groups: NDArray[Any],
    *,
    num_draws: int = 1000,
    seed: int,
) -> Interval | None:
    """AUC of b less that of a on the same videos; each draw serves both.

    What makes videos hard is hard for both, so this interval is narrower than two apart would say.
    None where ``group_bootstrap_auc`` is.
    """
    if not _has_both(labels):
        return None

    def difference(weights: Labels) -> Floats:
        a, b = (area(*weighted_roc(weights, scores, labels)) for scores in (scores_a, scores_b))
        return b - a

    value = roc_auc_score(labels, scores_b) - roc_auc_score(labels, scores_a)
    return _interval(float(value), _bootstrap(difference, groups, num_draws, seed))


def group_bootstrap_share(
    hits: NDArray[np.bool_], groups: NDArray[Any], *, num_draws: int = 1000, seed: int
) -> Interval | None:
    """Share of hits among videos, by the same bootstrap; None where it is undefined.

    Without a single hit, or with hits only, every draw is alike and would claim certainty. The
    interval is then the exact one of as many trials as groups (Clopper and Pearson 1934).
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
    return _interval(share, drawn)


class ReliabilityBin(NamedTuple):
    """Videos with scores of one bin."""

    mean_score: float
    fake_share: float
    num_videos: int


def reliability(scores: Floats, labels: Labels, num_bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """Bins of equal width that hold videos, lowest scores first.

    Calibrated scores of a bin have its share of fakes as their mean (DeGroot and Fienberg 1983).
    """
    bins = bins_of(scores, num_bins)
    return [
        ReliabilityBin(float(scores[own].mean()), float(labels[own].mean()), int(own.sum()))
        for own in (bins == number for number in np.unique(bins))
    ]


class CoveragePoint(NamedTuple):
    """Error among the most certain share of the videos."""

    coverage: float
    """Share of the videos, 0 to 1."""
    risk: float
    """Share of them that the threshold calls wrongly."""
    low: float | None
    """95 % interval of the risk; None with fewer than two groups."""
    high: float | None


def risk_coverage(
    scores: Floats,
    labels: Labels,
    groups: NDArray[Any],
    calibration: Calibration,
    *,
    num_draws: int = 1000,
    seed: int,
) -> list[CoveragePoint]:
    """Error at the threshold if only the most certain videos were called (El-Yaniv, Wiener 2010).

    Videos are ordered by how far their score lies from the threshold, in logits, as the band of
    inconclusive scores is. Of videos equally far, each counts by the part of them that is called.

    Returns:
        At up to 20 coverages at equal steps, the last being 1; none without videos.
    """
    if not len(labels):
        return []
    order, starts = descending_ties(distance_from_threshold(scores, calibration.threshold))
    wrong = ((scores >= calibration.threshold) != (labels == 1))[order]
    num_points = min(_MAX_COVERAGES, len(labels))
    coverages = np.arange(1, num_points + 1) / num_points

    def risks(weights: Labels) -> Floats:
        counts = np.add.reduceat(weights[:, order], starts, axis=1)
        errors = np.add.reduceat(weights[:, order] * wrong, starts, axis=1)
        return np.array([_risks(*row, coverages) for row in zip(counts, errors, strict=True)])

    [found] = risks(np.ones((1, len(labels)), dtype=np.int64))
    drawn = _bootstrap(risks, groups, num_draws, seed)
    ends = np.quantile(drawn, (0.025, 0.975), axis=0).T.tolist() if len(drawn) else None
    return [
        CoveragePoint(coverage, risk, *(ends[n] if ends else (None, None)))
        for n, (coverage, risk) in enumerate(zip(coverages.tolist(), found.tolist(), strict=True))
    ]


def _ranking(scores: Floats, labels: Labels) -> Metrics:
    """What depends on the order of the scores alone."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "eer": float(equal_error_rate(fpr, tpr)),
        **{name: float(best_tpr(fpr, tpr, rate)) for name, rate in FALSE_ALARM_RATES.items()},
    }


def _has_both(labels: Labels) -> bool:
    return len(labels) > 0 and bool(labels.min() != labels.max())


def _draws(groups: NDArray[Any], *, num_draws: int, seed: int) -> Iterator[Labels]:
    """How often each video is drawn, (draws, videos), a part of the draws at a time.

    Nothing with fewer than two groups: every draw would be the same.
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
    """The statistic of each draw, on the first axis; empty with fewer than two groups."""
    drawn = [statistic(weights) for weights in _draws(groups, num_draws=num_draws, seed=seed)]
    return np.concatenate(drawn) if drawn else np.empty(0)


def _interval(value: float | None, drawn: Floats) -> Interval | None:
    defined = drawn[~np.isnan(drawn)]
    if value is None or not len(defined):
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _risks(counts: Labels, errors: Labels, coverages: Floats) -> Floats:
    """Errors per video among the first share of them, linear within those equally far."""
    # Interpolation wants places that rise: what was not drawn would be the place before, again.
    drawn = counts > 0
    num_called = coverages * counts.sum()
    at = np.cumsum(counts[drawn])
    num_wrong = np.interp(num_called, [0, *at], [0, *np.cumsum(errors[drawn])])
    found: Floats = num_wrong / num_called
    return found
