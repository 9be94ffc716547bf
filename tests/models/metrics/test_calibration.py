"""Temperature, threshold and band, against scikit-learn, scipy and brute force."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from models.metrics.aggregation import AGGREGATIONS, aggregate_videos
from models.metrics.calibration import (
    choose_aggregation,
    fit_calibration,
    fit_temperature,
    fit_threshold,
)
from models.metrics.verdict import calibrate_score, decide_verdict, temper_logit
from reelcheck.card import Calibration
from reelcheck.records import ScoredSequence
from reelcheck.train_config import TrainSettings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@st.composite
def labelled(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[list[float], list[int]]:
    pairs = draw(st.lists(st.tuples(values, st.integers(0, 1)), min_size=2, max_size=40))
    assume(len({label for _, label in pairs}) == 2)
    return [value for value, _ in pairs], [label for _, label in pairs]


SCORES = labelled(st.integers(0, 40).map(lambda n: n / 40))
LOGITS = labelled(st.integers(-96, 96).map(lambda n: n / 8))
ERRORS = st.floats(0.01, 0.45)


def synthetic(temperature: float, size: int) -> tuple[Floats, Integers]:
    """Logits that are right when divided by ``temperature``."""
    rng = np.random.default_rng(round(temperature * 100))
    true_logits = rng.normal(0, 2, size)
    labels = (rng.random(size) < expit(true_logits)).astype(np.int64)
    return true_logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0, 12.0])
def test_known_temperature_is_recovered(temperature: float) -> None:
    logits, labels = synthetic(temperature, 20_000)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.07)


@pytest.mark.parametrize("temperature", [0.25, 4.0, 12.0])
def test_temperature_improves_the_log_loss_of_other_videos(temperature: float) -> None:
    logits, labels = synthetic(temperature, 2_000)
    fitted = fit_temperature(logits[:1000], labels[:1000])
    rest, truth = logits[1000:], labels[1000:]
    assert log_loss(truth, expit(rest / fitted)) < 0.98 * log_loss(truth, expit(rest))


@given(data=LOGITS)
def test_no_temperature_on_a_grid_is_better_against_platts_targets(
    data: tuple[list[float], list[int]],
) -> None:
    logits, labels = np.array(data[0]), np.array(data[1])
    num_fake = labels.sum()
    num_real = len(labels) - num_fake
    targets = np.where(labels == 1, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))

    def loss(temperature: float) -> float:
        scores = np.clip(expit(logits / temperature), 1e-300, 1 - 1e-16)
        return float(-(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)).mean())

    grid = np.geomspace(0.06, 19, 60)
    assert loss(fit_temperature(logits, labels)) <= min(map(loss, grid)) + 1e-4


def test_few_separated_videos_claim_no_certainty() -> None:
    logits, labels = np.array([-9.0, -8.0, 8.0, 9.0]), np.array([0, 0, 1, 1])
    scores = expit(logits / fit_temperature(logits, labels))
    assert 0.6 < scores.max() < 0.9
    assert 0.1 < scores.min() < 0.4


@given(data=SCORES)
def test_threshold_has_the_best_f1_of_all_thresholds(data: tuple[list[float], list[int]]) -> None:
    scores, labels = np.array(data[0]), np.array(data[1])
    candidates = [*np.unique(scores), 2.0]
    best = max(f1_score(labels, scores >= t, zero_division=0.0) for t in candidates)
    threshold = fit_threshold(scores, labels, by="f1", target=None)[0]
    assert f1_score(labels, scores >= threshold, zero_division=0.0) == pytest.approx(best)


@given(data=SCORES, target=st.integers(1, 19).map(lambda n: n / 20))
def test_threshold_of_a_precision_is_the_lowest_that_has_it(
    data: tuple[list[float], list[int]], target: float
) -> None:
    scores, labels = np.array(data[0]), np.array(data[1])
    threshold, words = fit_threshold(scores, labels, by="precision", target=target)
    reached = {t: labels[scores >= t].mean() for t in np.unique(scores)}
    found = labels[scores >= threshold].mean()
    if max(reached.values()) >= target:
        assert found >= target
        lowest = min(t for t, precision in reached.items() if precision >= target)
        assert (scores >= threshold).sum() == (scores >= lowest).sum()
    else:
        assert found == max(reached.values())
        assert "no threshold reaches" in words


@given(data=SCORES, target=st.integers(1, 19).map(lambda n: n / 20))
def test_threshold_of_false_alarms_is_the_lowest_with_no_more(
    data: tuple[list[float], list[int]], target: float
) -> None:
    scores, labels = np.array(data[0]), np.array(data[1])
    threshold, _ = fit_threshold(scores, labels, by="false_alarms", target=target)
    real = scores[labels == 0]
    assert (real >= threshold).mean() <= target
    lower = [t for t in np.unique(scores) if (scores >= t).sum() > (scores >= threshold).sum()]
    assert all((real >= t).mean() > target for t in lower)


@st.composite
def videos(draw: st.DrawFn) -> tuple[list[ScoredSequence], dict[str, int]]:
    labels = {f"v{n}": n % 2 for n in range(draw(st.integers(2, 8)))}
    logits = st.integers(-40, 40).map(lambda n: n / 8)
    return [
        ScoredSequence(
            sequence_id=f"{video}-{track}-{part}",
            video_id=video,
            track_id=track,
            num_frames=10,
            logit=draw(logits),
        )
        for video in labels
        for track in range(draw(st.integers(1, 3)))
        for part in range(draw(st.integers(1, 3)))
    ], labels


@given(data=videos())
def test_aggregation_with_the_smallest_log_loss_is_chosen(
    data: tuple[list[ScoredSequence], dict[str, int]],
) -> None:
    sequences, labels = data

    def calibrated_loss(rule: str) -> float:
        found = aggregate_videos(sequences, rule)
        logits, truth = np.array(list(found.values())), np.array([labels[v] for v in found])
        num_fake, num_real = truth.sum(), (1 - truth).sum()
        targets = np.where(truth == 1, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))
        scores = expit(logits / fit_temperature(logits, truth))
        return float(-(targets * np.log(scores) + (1 - targets) * np.log1p(-scores)).mean())

    losses = {rule: calibrated_loss(rule) for rule in AGGREGATIONS}
    assert losses[choose_aggregation(sequences, labels)] <= min(losses.values()) + 1e-6


def test_aggregation_stays_the_default_where_all_rules_say_the_same() -> None:
    sequences = [
        ScoredSequence(sequence_id=v, video_id=v, track_id=0, num_frames=9, logit=logit)
        for v, logit in (("a", -1.0), ("b", 2.0), ("c", 0.3))
    ]
    assert choose_aggregation(sequences, {"a": 0, "b": 1, "c": 1}) == AGGREGATIONS[0]


@given(data=SCORES)
def test_threshold_lies_in_the_middle_of_a_gap(data: tuple[list[float], list[int]]) -> None:
    scores, labels = np.array(data[0]), np.array(data[1])
    threshold = fit_threshold(scores, labels, by="f1", target=None)[0]
    below, above = scores[scores < threshold], scores[scores >= threshold]
    assert len(above)
    if len(below):
        assert threshold == pytest.approx((below.max() + above.min()) / 2)


BAND = Calibration(temperature=2.0, threshold=0.5, real_below=0.25, fake_from=0.75)


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (0.0, "real"),
        (np.nextafter(0.25, 0), "real"),
        (0.25, "inconclusive"),
        (0.5, "inconclusive"),
        (np.nextafter(0.75, 0), "inconclusive"),
        (0.75, "fake"),
        (1.0, "fake"),
    ],
)
def test_verdict_changes_exactly_at_the_edges_of_the_band(score: float, verdict: str) -> None:
    assert decide_verdict(score, BAND) == verdict


def test_verdict_changes_at_the_threshold_when_there_is_no_band() -> None:
    closed = BAND.model_copy(update={"real_below": 0.5, "fake_from": 0.5})
    assert [decide_verdict(s, closed) for s in (np.nextafter(0.5, 0), 0.5)] == ["real", "fake"]


@given(logit=st.floats(-1000, 1000), temperature=st.floats(0.05, 20))
def test_score_is_the_probability_at_this_temperature(logit: float, temperature: float) -> None:
    calibration = BAND.model_copy(update={"temperature": temperature})
    odds = logit / temperature
    expected = 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
    assert calibrate_score(logit, calibration) == pytest.approx(expected, abs=1e-12)


def decided_error(logits: Floats, labels: Integers, calibration: Calibration) -> float | None:
    """Share of wrong verdicts among the decided; None where all are inconclusive."""
    scores = np.array([calibrate_score(value, calibration) for value in logits])
    is_fake = scores >= calibration.fake_from
    is_real = scores < calibration.real_below
    decided = is_fake | is_real
    return float((is_fake != (labels == 1))[decided].mean()) if decided.any() else None


@example(data=([0.0, -3.0, 6.0, -2.0], [0, 0, 1, 1]), wanted=0.19)
@given(data=LOGITS, wanted=ERRORS)
def test_band_leaves_the_wanted_error_or_abstains_on_everything(
    data: tuple[list[float], list[int]], wanted: float
) -> None:
    logits, labels = np.array(data[0]), np.array(data[1])
    calibration = fit_calibration(logits, labels, TrainSettings(max_decided_error=wanted))
    error = decided_error(logits, labels, calibration)
    assert error is None or error <= wanted


@given(data=LOGITS, wanted=ERRORS)
def test_band_is_closed_when_the_threshold_alone_is_good_enough(
    data: tuple[list[float], list[int]], wanted: float
) -> None:
    logits, labels = np.array(data[0]), np.array(data[1])
    calibration = fit_calibration(logits, labels, TrainSettings(max_decided_error=wanted))
    scores = np.array([temper_logit(x, calibration.temperature) for x in logits])
    wrong = ((scores >= calibration.threshold) != (labels == 1)).mean()
    edges = (calibration.real_below, calibration.fake_from)
    if wrong <= wanted:
        assert edges == (calibration.threshold, calibration.threshold)
    else:
        assert edges[0] <= calibration.threshold < edges[1]


@given(data=LOGITS, wanted=ERRORS)
def test_band_is_the_narrowest_around_the_threshold(
    data: tuple[list[float], list[int]], wanted: float
) -> None:
    logits, labels = np.array(data[0]), np.array(data[1])
    calibration = fit_calibration(logits, labels, TrainSettings(max_decided_error=wanted))
    scores = np.array([temper_logit(x, calibration.temperature) for x in logits])
    is_wrong = (scores >= calibration.threshold) != (labels == 1)
    if is_wrong.mean() <= wanted:
        return  # no band is needed
    distances = np.abs(
        logits / calibration.temperature
        - np.log(calibration.threshold / (1 - calibration.threshold))
    )
    is_undecided = (scores >= calibration.real_below) & (scores < calibration.fake_from)
    for narrower in np.unique(distances[is_undecided])[:-1]:
        # The tolerance: distances that are equal but for rounding belong together.
        decided = distances > narrower + 1e-6
        assert is_wrong[decided].mean() > wanted


@given(data=LOGITS, wanted=ERRORS)
def test_edges_of_the_band_are_scores_that_occurred_or_the_threshold(
    data: tuple[list[float], list[int]], wanted: float
) -> None:
    logits, labels = np.array(data[0]), np.array(data[1])
    calibration = fit_calibration(logits, labels, TrainSettings(max_decided_error=wanted))
    known = {
        *np.array([temper_logit(x, calibration.temperature) for x in logits]),
        calibration.threshold,
    }
    edges = (calibration.real_below, calibration.fake_from)
    if edges not in {ABSTAIN, (calibration.threshold, calibration.threshold)}:
        assert edges[0] in known
        assert np.nextafter(edges[1], 0) in known


ABSTAIN = (0.0, np.nextafter(1.0, 2))
"""Even the score 1.0 lies below the upper edge."""
HOPELESS = (np.array([1.0, -1.0, 800.0, 900.0]), np.array([1, 0, 0, 1]))


def test_band_abstains_on_everything_when_no_width_is_good_enough() -> None:
    logits, labels = np.array([3.0, 2.0, 1.0, 0.0]), np.array([0, 1, 0, 1])
    calibration = fit_calibration(logits, labels, TrainSettings(max_decided_error=0.01))
    assert (calibration.real_below, calibration.fake_from) == ABSTAIN
    assert decided_error(logits, labels, calibration) is None
    assert {decide_verdict(score, calibration) for score in (0.0, 0.5, 1.0)} == {"inconclusive"}


def test_band_abstains_on_everything_when_scores_are_saturated() -> None:
    calibration = fit_calibration(*HOPELESS, TrainSettings(max_decided_error=0.01))
    assert (calibration.real_below, calibration.fake_from) == ABSTAIN
    assert decided_error(*HOPELESS, calibration) is None
    assert calibrate_score(900.0, calibration) == 1.0
    assert decide_verdict(1.0, calibration) == "inconclusive"
