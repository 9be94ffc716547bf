"""Reported figures, against scikit-learn, torchmetrics and counting."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logit
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error, binary_eer

from models.metrics.metrics import (
    bin_by_score,
    compute_metrics,
    compute_risk_coverage,
    explain_undefined,
)
from reelcheck.card import Calibration

CALIBRATION = Calibration(temperature=1.0, threshold=0.46, real_below=0.3, fake_from=0.6)
LIMITS = {"tpr_at_fpr_0.1": 0.001, "tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}
OF_BOTH = {"auc", "average_precision", "eer", "f1", "balanced_accuracy", "precision", "recall"}
OF_BOTH |= set(LIMITS)
SCORES = st.integers(0, 50).map(lambda n: n / 50)
PAIRS = st.lists(st.tuples(SCORES, st.integers(0, 1)), min_size=2, max_size=40)
PAIRS_OF_BOTH = PAIRS.filter(lambda pairs: len({label for _, label in pairs}) == 2)


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    return scores, np.array([label for _, label in pairs], dtype=np.int64)


def measure(pairs: list[tuple[float, int]]) -> dict[str, float | int | None]:
    return compute_metrics(*columns(pairs), CALIBRATION)


@given(pairs=PAIRS_OF_BOTH)
def test_metrics_equal_scikit_learn(pairs: list[tuple[float, int]]) -> None:
    scores, labels = columns(pairs)
    called = scores >= 0.46
    expected = {
        "auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "f1": sk.f1_score(labels, called, zero_division=0.0),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "accuracy": sk.accuracy_score(labels, called),
        "recall": sk.recall_score(labels, called),
        "precision": sk.precision_score(labels, called) if called.any() else None,
        "log_loss": sk.log_loss(labels, scores, labels=[0, 1]),
        "brier": sk.brier_score_loss(labels, scores),
    }
    found = measure(pairs)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    statistic = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    share_won = statistic / (labels.sum() * (1 - labels).sum())
    assert found["auc"] == pytest.approx(share_won, abs=1e-9)


@given(pairs=PAIRS_OF_BOTH)
def test_hits_at_few_false_alarms_are_those_of_the_best_threshold(
    pairs: list[tuple[float, int]],
) -> None:
    scores, labels = columns(pairs)
    rates = [
        ((scores[labels == 0] >= cut).mean(), (scores[labels == 1] >= cut).mean())
        for cut in (*scores, 2.0)
    ]
    found = measure(pairs)
    for name, limit in LIMITS.items():
        assert found[name] == max(hits for alarms, hits in rates if alarms <= limit)


def test_one_false_alarm_in_a_hundred_is_one_percent() -> None:
    reals = [(0.9, 0), *((0.1, 0) for _ in range(99))]
    found = measure([*reals, (0.95, 1), (0.8, 1), (0.05, 1)])
    assert [found[name] for name in LIMITS] == pytest.approx([1 / 3, 2 / 3, 2 / 3])


@given(pairs=PAIRS_OF_BOTH)
def test_equal_error_rate_lies_where_the_roc_polygon_meets_the_diagonal(
    pairs: list[tuple[float, int]],
) -> None:
    scores, labels = columns(pairs)
    fpr, tpr, _ = sk.roc_curve(labels, scores)
    places = np.arange(len(fpr))

    def gap(place: float) -> float:
        return float(np.interp(place, places, fpr) + np.interp(place, places, tpr) - 1)

    expected = np.interp(brentq(gap, 0, places[-1], xtol=1e-12), places, fpr)
    assert measure(pairs)["eer"] == pytest.approx(expected, abs=1e-9)


@given(order=st.permutations(range(16)))
def test_equal_error_rate_equals_torchmetrics_where_a_threshold_reaches_it(
    order: list[int],
) -> None:
    # As many fakes as reals, no ties: some threshold has equal rates, nothing to interpolate.
    labels = np.array(order) % 2
    scores = (np.arange(16) + 0.5) / 16
    expected = binary_eer(torch.tensor(scores), torch.tensor(labels))
    found = compute_metrics(scores, labels, CALIBRATION)["eer"]
    assert found == pytest.approx(float(expected), abs=1e-5)


@given(
    pairs=st.lists(
        # float32 would put a score on the edge of a bin on either side of it.
        st.tuples(
            st.builds(lambda n, x: (n + x) / 15, st.integers(0, 14), st.floats(0.01, 0.99)),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_calibration_error_equals_torchmetrics(pairs: list[tuple[float, int]]) -> None:
    scores, labels = columns(pairs)
    expected = binary_calibration_error(torch.tensor(scores), torch.tensor(labels), n_bins=15)
    found = measure(pairs)["ece"]
    assert found == pytest.approx(float(expected), abs=1e-5)
    bins = bin_by_score(scores, labels)
    assert sum(each.num_videos for each in bins) == len(pairs)
    gaps = sum(each.num_videos * abs(each.mean_score - each.fake_share) for each in bins)
    assert found == pytest.approx(gaps / len(pairs), abs=1e-9)


def test_bins_are_counted_from_the_lowest_score_and_the_highest_has_its_place() -> None:
    scores, labels = np.array([1.0, 0.0, 0.55, 0.95]), np.array([1, 0, 1, 0])
    bins = bin_by_score(scores, labels, 10)
    assert bins == [(0.0, 0.0, 1), (0.55, 1.0, 1), (pytest.approx(0.975), 0.5, 2)]


@given(pairs=PAIRS)
def test_counts_and_decided_shares_equal_counting_by_hand(pairs: list[tuple[float, int]]) -> None:
    decided = [(score >= 0.6, label) for score, label in pairs if score >= 0.6 or score < 0.3]
    found = measure(pairs)
    assert found["num_videos"] == len(pairs)
    assert found["num_fake"] == sum(label for _, label in pairs)
    assert found["decided_share"] == pytest.approx(len(decided) / len(pairs), abs=1e-9)
    if decided:
        wrong = sum(is_fake != label for is_fake, label in decided) / len(decided)
        assert found["decided_error"] == pytest.approx(wrong, abs=1e-9)
    else:
        assert found["decided_error"] is None


@given(pairs=PAIRS, label=st.integers(0, 1))
def test_what_compares_labels_is_none_when_one_occurs(
    pairs: list[tuple[float, int]], label: int
) -> None:
    found = measure([(score, label) for score, _ in pairs])
    undefined = {name for name, value in found.items() if value is None}
    assert undefined - {"decided_error"} == OF_BOTH
    scores = columns(pairs)[0]
    assert found["brier"] == pytest.approx(((scores - label) ** 2).mean())


def test_nothing_is_claimed_when_there_are_no_videos() -> None:
    found = measure([])
    assert (found.pop("num_videos"), found.pop("num_fake")) == (0, 0)
    assert set(found.values()) == {None}
    assert {explain_undefined(name, columns([])[1]) for name in found} == {"no video was scored"}


@pytest.mark.parametrize(
    ("pairs", "name", "reason"),
    [
        ([(0.5, 0)], "auc", "every scored video is real; it takes a fake one to compare with"),
        ([(0.5, 1)], "eer", "every scored video is fake; it takes a real one to compare with"),
        ([(0.1, 1), (0.2, 0)], "precision", "no video was called fake"),
        ([(0.5, 1), (0.4, 0)], "decided_error", "every verdict is inconclusive"),
    ],
)
def test_reason_says_what_is_missing(
    pairs: list[tuple[float, int]], name: str, reason: str
) -> None:
    assert measure(pairs)[name] is None
    assert explain_undefined(name, columns(pairs)[1]) == reason


def test_metric_that_is_defined_has_no_reason() -> None:
    with pytest.raises(ValueError, match="auc is defined"):
        explain_undefined("auc", np.array([0, 1]))


@given(pairs=PAIRS, seed=st.integers(0, 3))
def test_error_of_all_videos_is_what_accuracy_leaves(
    pairs: list[tuple[float, int]], seed: int
) -> None:
    scores, labels = columns(pairs)
    groups = np.arange(len(pairs)) // 2
    found = compute_risk_coverage(scores, labels, groups, CALIBRATION, num_draws=10, seed=0)
    accuracy = measure(pairs)["accuracy"]
    assert accuracy is not None
    assert (found[-1].coverage, found[-1].risk) == (1, pytest.approx(1 - accuracy, abs=1e-9))
    assert len(found) == min(20, len(pairs))
    steps = np.diff([0, *(point.coverage for point in found)])
    assert steps == pytest.approx(np.full(len(found), 1 / len(found)))
    order = np.random.default_rng(seed).permutation(len(pairs))
    shuffled = (scores[order], labels[order], groups[order])
    again = compute_risk_coverage(*shuffled, CALIBRATION, num_draws=10, seed=0)
    assert np.array(found, dtype=float) == pytest.approx(
        np.array(again, dtype=float), abs=1e-9, nan_ok=True
    )


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), st.integers(0, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_error_of_the_most_certain_is_the_mean_over_all_orders_of_equals(
    pairs: list[tuple[float, int]],
) -> None:
    def certainty(pair: tuple[float, int]) -> float:
        return abs(logit(np.clip(pair[0], 1e-6, 1 - 1e-6)) - logit(0.46))

    orders = [sorted(order, key=certainty, reverse=True) for order in permutations(pairs)]
    wrong = np.array([[(score >= 0.46) != label for score, label in each] for each in orders])
    expected = (wrong.cumsum(axis=1) / np.arange(1, len(pairs) + 1)).mean(axis=0)
    scores, labels = columns(pairs)
    found = compute_risk_coverage(scores, labels, np.zeros(len(pairs)), CALIBRATION, seed=0)
    assert [point.risk for point in found] == pytest.approx(expected.tolist(), abs=1e-9)
    assert {point[2:] for point in found} == {(None, None)}


def test_no_video_has_no_curve_of_errors() -> None:
    scores, labels = columns([])
    assert compute_risk_coverage(scores, labels, labels, CALIBRATION, seed=0) == []
    assert bin_by_score(scores, labels) == []
