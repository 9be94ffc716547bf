"""A video's logit -> score and verdict, by the calibration of the model card."""

import math
from typing import Literal

from reelcheck.card import Calibration

Verdict = Literal["fake", "real", "inconclusive"]


def calibrate_score(video_logit: float, calibration: Calibration) -> float:
    """Find the probability that the video is fake."""
    return temper_logit(video_logit, calibration.temperature)


def temper_logit(logit: float, temperature: float) -> float:
    """Compute the logistic function of logit / temperature.

    No other code computes a score: thresholds are scores that occurred, and the last digit of
    another formula could lie on the other side of a threshold.
    """
    x = logit / temperature
    # Two equal forms; the one that cannot overflow is used.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def decide_verdict(score: float, calibration: Calibration) -> Verdict:
    """Decide fake, real, or inconclusive inside the band."""
    if score >= calibration.fake_from:
        return "fake"
    return "real" if score < calibration.real_below else "inconclusive"
