"""Logits -> calibrated score and verdict; everything is fitted on validation videos only.

- Temperature: one parameter, by maximum likelihood (Guo et al. 2017, arXiv 1706.04599) against
  Platt's targets (Platt 1999), so that few or perfectly separated videos claim no certainty.
- Threshold: the score with the best F1.
- Inconclusive band: the narrowest around the threshold that leaves a small enough error outside.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_curve

from reelcheck.card import Calibration

Verdict = Literal["fake", "real", "inconclusive"]
_TEMPERATURES = (0.05, 20.0)
_EDGE = 1e-6
"""Scores are kept this far from 0 and 1 when turned back into logits."""


def fit_calibration(
    logits: NDArray[np.float64], labels: NDArray[np.int64], *, max_decided_error: float
) -> Calibration:
    """Fit on validation videos of both labels."""
    temperature = fit_temperature(logits, labels)
    scores = expit(logits / temperature)
    threshold = best_f1_threshold(scores, labels)
    half_width = _band_half_width(scores, labels, threshold, max_decided_error)
    middle = float(logit(np.clip(threshold, _EDGE, 1 - _EDGE)))
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        real_below=float(expit(middle - half_width)),
        fake_from=float(expit(middle + half_width)),
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


def calibrated_score(video_logit: float, calibration: Calibration) -> float:
    """Probability that the video is fake."""
    return float(expit(video_logit / calibration.temperature))


def verdict_of(score: float, calibration: Calibration) -> Verdict:
    """Fake, real, or inconclusive inside the band."""
    if score >= calibration.fake_from:
        return "fake"
    return "real" if score < calibration.real_below else "inconclusive"


def _band_half_width(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    max_decided_error: float,
) -> float:
    """Smallest half width in logits that leaves at most this error; infinite if none does."""
    middle = logit(np.clip(threshold, _EDGE, 1 - _EDGE))
    distances = np.abs(logit(np.clip(scores, _EDGE, 1 - _EDGE)) - middle)
    wrong = (scores >= threshold) != (labels == 1)
    for half_width in np.unique(np.concatenate([[0.0], distances[wrong]])):
        decided = distances > half_width if half_width else np.ones(len(scores), bool)
        if decided.any() and wrong[decided].mean() <= max_decided_error:
            return float(np.nextafter(half_width, np.inf)) if half_width else 0.0
    return math.inf
