"""Logits -> calibrated score and verdict; everything is fitted on validation videos only.

- Temperature: one parameter, by maximum likelihood (Guo et al. 2017, arXiv 1706.04599) against
  Platt's targets (Platt 1999), so that few or perfectly separated videos claim no certainty.
- Threshold: the score with the best F1.
- Inconclusive band: the narrowest around the threshold that leaves a small enough error outside.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logit
from sklearn.metrics import precision_recall_curve

from models.verdict import tempered_score
from reelcheck.card import Calibration

_TEMPERATURES = (0.05, 20.0)
_EDGE = 1e-6
"""Scores are kept this far from 0 and 1 when turned back into logits."""


def fit_calibration(
    logits: NDArray[np.float64], labels: NDArray[np.int64], *, max_decided_error: float
) -> Calibration:
    """Fit on validation videos of both labels."""
    temperature = fit_temperature(logits, labels)
    scores = np.array([tempered_score(value, temperature) for value in logits])
    threshold = best_f1_threshold(scores, labels)
    real_below, fake_from = _band(scores, labels, threshold, max_decided_error)
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        real_below=real_below,
        fake_from=fake_from,
    )


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Temperature with the smallest log loss against Platt's targets."""
    num_fake = int(labels.sum())
    num_real = len(labels) - num_fake
    targets = np.where(labels == 1, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))

    def log_loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())

    bounds = tuple(math.log(bound) for bound in _TEMPERATURES)
    return float(math.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded").x))


def best_f1_threshold(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Middle of the gap below the lowest score that the best-F1 rule calls fake.

    The middle, because a threshold on a validation score itself would sit on a knife's edge.
    """
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = float(thresholds[int(np.argmax(f1[:-1]))])
    below = scores[scores < best]
    return (best + float(below.max())) / 2 if len(below) else best


def _band(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    max_decided_error: float,
) -> tuple[float, float]:
    """Narrowest band whose outside has at most this error; all of [0, 1] if there is none.

    Its edges are scores that occurred, so that no rounding lets one of them slip out.
    """
    middle = logit(np.clip(threshold, _EDGE, 1 - _EDGE))
    distances = np.abs(logit(np.clip(scores, _EDGE, 1 - _EDGE)) - middle)
    wrong = (scores >= threshold) != (labels == 1)
    if wrong.mean() <= max_decided_error:
        return threshold, threshold
    for half_width in np.unique(distances[wrong]):
        undecided = distances <= half_width
        if not undecided.all() and wrong[~undecided].mean() <= max_decided_error:
            band = np.append(scores[undecided], threshold)
            return float(band.min()), float(np.nextafter(band.max(), 2))
    return 0.0, float(np.nextafter(1.0, 2))
