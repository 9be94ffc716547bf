"""Logits -> calibrated score and verdict; everything is fitted on validation videos only.

- Temperature: one parameter, by maximum likelihood (Guo et al. 2017, arXiv 1706.04599) against
  Platt's targets (Platt 1999), so that few or perfectly separated videos claim no certainty.
- Aggregation: the rule of ``models/metrics/aggregation.py`` with the smallest log loss.
- Threshold: by F1, by precision or by false alarms, as the settings say.
- Inconclusive band: the narrowest around the threshold with a small enough error outside the band.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logit
from sklearn.metrics import precision_recall_curve

from models.metrics.aggregation import AGGREGATIONS, aggregate_videos
from models.metrics.verdict import temper_logit
from reelcheck.card import ABOVE_ONE, TEMPERATURES, Aggregation, Calibration
from reelcheck.records import ScoredSequence
from reelcheck.train_config import TrainSettings

_SAME_LOSS = 1e-9
_EDGE = 1e-6
"""Scores are kept this far from 0 and 1 when turned back into logits."""


def fit_calibration(
    logits: NDArray[np.float64], labels: NDArray[np.int64], settings: TrainSettings
) -> Calibration:
    """Fit temperature, threshold and band on validation videos of both labels."""
    temperature = fit_temperature(logits, labels)
    scores = np.array([temper_logit(value, temperature) for value in logits])
    threshold, rule = fit_threshold(
        scores, labels, by=settings.threshold_by, target=settings.threshold_target
    )
    real_below, fake_from = _fit_band(scores, labels, threshold, settings.max_decided_error)
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        threshold_rule=rule,
        real_below=real_below,
        fake_from=fake_from,
    )


def choose_aggregation(
    sequences: Sequence[ScoredSequence], labels: Mapping[str, int]
) -> Aggregation:
    """Choose the rule with the smallest log loss, each rule at its own temperature.

    Args:
        sequences: sequences of validation videos.
        labels: labels by video id.
    """

    def measure_loss(rule: Aggregation) -> float:
        logit_of = aggregate_videos(sequences, rule)
        logits_V = np.array(list(logit_of.values()))
        labels_V = np.array([labels[video_id] for video_id in logit_of])
        scaled_V = logits_V / fit_temperature(logits_V, labels_V)
        return _measure_log_loss(scaled_V, _make_targets(labels_V))

    losses = {rule: measure_loss(rule) for rule in AGGREGATIONS}
    # A tiny difference is rounding: then the default stays.
    best = min(losses.values())
    return next(rule for rule, loss in losses.items() if loss <= best + _SAME_LOSS)


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Fit the temperature with the smallest log loss against Platt's targets."""
    targets = _make_targets(labels)

    def measure_loss(log_temperature: float) -> float:
        return _measure_log_loss(logits / math.exp(log_temperature), targets)

    bounds = tuple(math.log(bound) for bound in TEMPERATURES)
    return float(math.exp(minimize_scalar(measure_loss, bounds=bounds, method="bounded").x))


def fit_threshold(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    by: Literal["f1", "precision", "false_alarms"],
    target: float | None,
) -> tuple[float, str]:
    """Fit the threshold by a rule; also describe the rule in words.

    The threshold is the middle of the gap below the lowest score that is called fake. On a
    validation score itself, rounding could decide the call.

    Args:
        scores: scores of validation videos of both labels.
        labels: 1 fake, 0 real.
        by: the rule; see ``TrainSettings``.
        target: the precision, or the share of false alarms; None with f1.
    """
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]
    if by == "f1" or target is None:
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best, words = int(np.argmax(f1)), "best F1"
    elif by == "precision":
        good = np.flatnonzero(precision >= target)
        best, words = int(good[0] if len(good) else np.argmax(precision)), f"precision >= {target}"
        if not len(good):
            words += f" was asked for; no threshold reaches more than {precision.max():.3f}"
    else:
        real = np.sort(scores[labels == 0])
        alarms = 1 - np.searchsorted(real, thresholds, side="left") / len(real)
        good = np.flatnonzero(alarms <= target)
        words = f"false alarms <= {target}"
        if not len(good):
            # Above every score: nothing is called fake.
            return float(np.nextafter(scores.max(), 2)), words
        best = int(good[0])
    lowest = float(thresholds[best])
    below = scores[scores < lowest]
    return (lowest + float(below.max())) / 2 if len(below) else lowest, words


def _make_targets(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Make Platt's targets of the labels."""
    num_fake = int(labels.sum())
    num_real = len(labels) - num_fake
    return np.where(labels == 1, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))


def _measure_log_loss(scaled: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, scaled) - targets * scaled).mean())


def measure_distance(scores: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Measure how far each score lies from the threshold, in logits: farther is more certain."""
    logits = logit(np.clip(scores, _EDGE, 1 - _EDGE))
    distances: NDArray[np.float64] = np.abs(logits - logit(np.clip(threshold, _EDGE, 1 - _EDGE)))
    return distances


def _fit_band(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    max_decided_error: float,
) -> tuple[float, float]:
    """Fit the narrowest band with at most this error outside of it; all of [0, 1] if there is none.

    The edges of the band are scores that occurred, so that rounding moves none of them out of it.
    """
    distances = measure_distance(scores, threshold)
    wrong = (scores >= threshold) != (labels == 1)
    if wrong.mean() <= max_decided_error:
        return threshold, threshold
    for half_width in np.unique(distances[wrong]):
        undecided = distances <= half_width
        if not undecided.all() and wrong[~undecided].mean() <= max_decided_error:
            band = np.append(scores[undecided], threshold)
            return float(band.min()), float(np.nextafter(band.max(), 2))
    return 0.0, ABOVE_ONE
