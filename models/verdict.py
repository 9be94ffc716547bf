"""A video's logit -> score and verdict, by the calibration of the model card."""

import math
from typing import Literal

from reelcheck.card import Calibration

Verdict = Literal["fake", "real", "inconclusive"]


def calibrated_score(video_logit: float, calibration: Calibration) -> float:
    """Probability that the video is fake."""
    return tempered_score(video_logit, calibration.temperature)


def tempered_score(logit: float, temperature: float) -> float:
    """The logistic function of logit / temperature.

    The only place that computes it: thresholds are scores that occurred, and another formula's last
    digit could lie on their other side.
    """
    x = logit / temperature
    # Of the two equal forms the one that cannot overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def verdict_of(score: float, calibration: Calibration) -> Verdict:
    """Fake, real, or inconclusive inside the band."""
    if score >= calibration.fake_from:
        return "fake"
    return "real" if score < calibration.real_below else "inconclusive"
