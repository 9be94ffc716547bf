"""A video's logit -> score and verdict, by the calibration of the model card."""

import math
from typing import Literal

from reelcheck.card import Calibration

Verdict = Literal["fake", "real", "inconclusive"]


def calibrated_score(video_logit: float, calibration: Calibration) -> float:
    """Probability that the video is fake: the logistic function of logit / temperature."""
    x = video_logit / calibration.temperature
    # Of the two equal forms the one that cannot overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def verdict_of(score: float, calibration: Calibration) -> Verdict:
    """Fake, real, or inconclusive inside the band."""
    if score >= calibration.fake_from:
        return "fake"
    return "real" if score < calibration.real_below else "inconclusive"
