"""Logit -> score, where numbers end; what is in between is tested with the calibration."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit

from models.metrics.verdict import calibrate_score, decide_verdict
from reelcheck.card import Calibration

CALIBRATION = Calibration(temperature=0.05, threshold=0.5, real_below=0.3, fake_from=0.7)


@example(logit=1e308)
@example(logit=-1e308)
@example(logit=math.inf)
@example(logit=-math.inf)
@given(logit=st.floats(allow_nan=False))
def test_any_logit_gives_a_probability(logit: float) -> None:
    assert calibrate_score(logit, CALIBRATION) == pytest.approx(
        float(expit(logit / CALIBRATION.temperature)), rel=1e-9, abs=0
    )


def test_a_logit_that_is_no_number_gives_no_score_and_decides_nothing() -> None:
    score = calibrate_score(math.nan, CALIBRATION)
    assert math.isnan(score)
    assert decide_verdict(score, CALIBRATION) == "inconclusive"
