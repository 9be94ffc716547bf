"""Intervals of figures: against scikit-learn with weights, scipy's bootstrap and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn import metrics as sk

from models.metrics.metrics import (
    Interval,
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_metrics,
    bootstrap_share,
    compute_metrics,
    compute_risk_coverage,
)
from models.metrics.weighted_metrics import compute_weighted_metrics
from reelcheck.card import Calibration

CALIBRATION = Calibration(temperature=1.0, threshold=0.46, real_below=0.3, fake_from=0.6)
OF_BOTH = {"auc", "average_precision", "eer", "f1", "balanced_accuracy"}
OF_BOTH |= {"tpr_at_fpr_0.1", "tpr_at_fpr_1", "tpr_at_fpr_5"}
SCORES = st.integers(0, 50).map(lambda n: n / 50)


@given(
    rows=st.lists(st.tuples(SCORES, st.integers(0, 1), st.integers(0, 3)), min_size=2, max_size=30)
)
def test_weighted_metrics_equal_scikit_learn_with_sample_weight(
    rows: list[tuple[float, int, int]],
) -> None:
    scores, labels = (np.array(each) for each in list(zip(*rows, strict=True))[:2])
    weights = np.array([[row[2] for row in rows], np.ones(len(rows))], dtype=np.int64)
    found = compute_weighted_metrics(weights, scores, labels, 0.46)
    called = scores >= 0.46
    for n, weight in enumerate(weights):
        given_weight = {"sample_weight": weight}
        own = {name: values[n] for name, values in found.items()}
        drawn = weight > 0
        if not drawn.any():
            assert np.isnan(list(own.values())).all()
            continue
        expected = {
            "accuracy": sk.accuracy_score(labels, called, **given_weight),
            "log_loss": sk.log_loss(labels, scores, labels=[0, 1], **given_weight),
            "brier": sk.brier_score_loss(labels, scores, pos_label=1, **given_weight),
        }
        if len(set(labels[drawn])) < 2:
            assert np.isnan([own[name] for name in OF_BOTH]).all()
        else:
            expected |= {
                "auc": sk.roc_auc_score(labels, scores, **given_weight),
                "average_precision": sk.average_precision_score(labels, scores, **given_weight),
                "balanced_accuracy": sk.balanced_accuracy_score(labels, called, **given_weight),
                "f1": sk.f1_score(labels, called, zero_division=0.0, **given_weight),
            }
            # The rest is held to other tools above; a weight is a video that is there so often.
            repeated = compute_metrics(
                np.repeat(scores, weight), np.repeat(labels, weight), CALIBRATION
            )
            expected |= {name: repeated[name] for name in own if name not in expected}
        assert {name: own[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def correlated_videos(num_groups: int, per_group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that depend on the group more than on the video; each group is of one label."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(num_groups), per_group)
    of_group = rng.normal(0, 1, num_groups)[groups]
    labels = groups % 2
    logits = labels + of_group + rng.normal(0, 0.1, len(groups))
    return 1 / (1 + np.exp(-logits)), labels, groups


def test_bootstrap_intervals_of_groups_are_wider_than_those_of_single_videos() -> None:
    scores, labels, groups = correlated_videos(30, 10)
    grouped, single = (
        bootstrap_metrics(scores, labels, each, CALIBRATION, num_draws=300, seed=0)
        for each in (groups, np.arange(len(scores)))
    )
    metrics = compute_metrics(scores, labels, CALIBRATION)
    assert (
        set(grouped)
        == set(single)
        == {
            *("auc", "average_precision", "eer", "accuracy", "balanced_accuracy", "f1"),
            *("tpr_at_fpr_1", "tpr_at_fpr_5", "brier", "log_loss", "ece"),
        }
    )
    for name, (value, low, high) in grouped.items():
        assert value == single[name].value == metrics[name]
        assert low < high
        assert high - low > 1.5 * (single[name].high - single[name].low)
    assert grouped["auc"] == bootstrap_auc(scores, labels, groups, num_draws=300, seed=0)


@pytest.mark.parametrize("name", ["auc", "accuracy", "brier"])
def test_bootstrap_interval_of_single_videos_agrees_with_scipy(name: str) -> None:
    scores, labels, _ = correlated_videos(150, 1)
    found = bootstrap_metrics(scores, labels, np.arange(150), CALIBRATION, num_draws=1000, seed=0)
    truth = {
        "auc": lambda scores, labels: sk.roc_auc_score(labels, scores),
        "accuracy": lambda scores, labels: ((scores >= 0.46) == labels).mean(),
        "brier": lambda scores, labels: ((scores - labels) ** 2).mean(),
    }
    expected = bootstrap(
        (scores, labels),
        truth[name],
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found[name][1:] == pytest.approx((expected.low, expected.high), abs=0.015)


def test_bootstrap_interval_depends_on_the_seed_alone() -> None:
    scores, labels, groups = correlated_videos(12, 3)
    names = np.array([f"person {group:02d}" for group in groups])
    first, again, named, other = (
        bootstrap_metrics(scores, labels, which, CALIBRATION, num_draws=50, seed=seed)
        for which, seed in ((groups, 1), (groups, 1), (names, 1), (groups, 2))
    )
    assert first == again == named
    assert first["auc"][1:] != other["auc"][1:]


def test_bootstrap_of_many_videos_takes_its_draws_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, groups = correlated_videos(12, 3)
    whole = bootstrap_metrics(scores, labels, groups, CALIBRATION, num_draws=50, seed=1)
    monkeypatch.setattr("models.metrics.metrics._MAX_WEIGHTS", 7 * len(scores))
    parts = bootstrap_metrics(scores, labels, groups, CALIBRATION, num_draws=50, seed=1)
    assert parts == {name: pytest.approx(interval) for name, interval in whole.items()}


@pytest.mark.parametrize(
    ("labels", "groups"),
    [([0, 0, 0], [0, 1, 2]), ([1, 1, 1], [0, 1, 2]), ([0, 1, 1], [5, 5, 5]), ([], [])],
)
def test_bootstrap_interval_that_is_undefined_is_none(labels: list[int], groups: list[int]) -> None:
    scores = np.linspace(0, 1, len(labels))
    table = (scores, np.array(labels, dtype=np.int64), np.array(groups))
    assert bootstrap_auc(*table, num_draws=5, seed=0) is None
    assert bootstrap_auc_difference(scores, *table, num_draws=5, seed=0) is None
    found = bootstrap_metrics(*table, CALIBRATION, num_draws=5, seed=0)
    of_any = {"accuracy", "brier", "log_loss", "ece"} if len(set(groups)) > 1 else set()
    assert set(found) == of_any


def test_bootstrap_skips_draws_of_one_label() -> None:
    scores, labels = np.array([0.2, 0.8]), np.array([0, 1])
    assert bootstrap_auc(scores, labels, labels, num_draws=60, seed=0) == (1.0, 1.0, 1.0)


def test_difference_of_two_models_is_surer_than_their_two_intervals() -> None:
    a, labels, groups = correlated_videos(40, 3)
    b = np.clip(a + 0.1 * labels, 0, 1)
    found = bootstrap_auc_difference(a, b, labels, groups, num_draws=300, seed=0)
    swapped = bootstrap_auc_difference(b, a, labels, groups, num_draws=300, seed=0)
    alone = [bootstrap_auc(each, labels, groups, num_draws=300, seed=0) for each in (a, b)]
    assert found is not None
    assert swapped is not None
    assert found.value == sk.roc_auc_score(labels, b) - sk.roc_auc_score(labels, a)
    assert 0 < found.low < found.value < found.high
    assert swapped == pytest.approx((-found.value, -found.high, -found.low), abs=1e-9)
    if_apart = np.hypot(*(each.high - each.low for each in alone if each))
    assert found.high - found.low < 0.8 * if_apart
    assert bootstrap_auc_difference(a, a, labels, groups, num_draws=9, seed=0) == (0, 0, 0)


def test_share_of_hits_has_an_interval_of_single_videos_like_the_exact_one() -> None:
    hits = np.arange(400) % 5 == 0
    found = bootstrap_share(hits, np.arange(400), num_draws=1000, seed=0)
    exact = binomtest(80, 400).proportion_ci(method="exact")
    assert found == pytest.approx((0.2, exact.low, exact.high), abs=0.01)


@pytest.mark.parametrize("num_groups", [1, 2, 30])
def test_no_hit_in_few_groups_is_no_certainty(num_groups: int) -> None:
    groups = np.repeat(np.arange(num_groups), 4)
    none, every = (
        bootstrap_share(np.full(len(groups), hit), groups, seed=0) for hit in (False, True)
    )
    missed = 0.025 ** (1 / num_groups)
    assert none == pytest.approx((0, 0, 1 - missed))
    assert every == pytest.approx((1, missed, 1))


def test_share_of_no_video_or_of_one_group_is_undefined() -> None:
    assert bootstrap_share(np.array([], dtype=bool), np.array([]), seed=0) is None
    assert bootstrap_share(np.array([True, False]), np.array([3, 3]), seed=0) is None


def test_interval_of_the_error_is_that_of_the_bootstrap_and_wider_with_groups() -> None:
    scores, labels, groups = correlated_videos(30, 10)
    grouped, single = (
        compute_risk_coverage(scores, labels, each, CALIBRATION, num_draws=300, seed=0)
        for each in (groups, np.arange(len(scores)))
    )
    accuracy = bootstrap_metrics(scores, labels, groups, CALIBRATION, num_draws=300, seed=0)
    expected = Interval(*(1 - each for each in accuracy["accuracy"]))
    last = grouped[-1]
    assert (last.risk, last.low, last.high) == pytest.approx(
        (expected.value, expected.high, expected.low)
    )
    for one, other in zip(grouped, single, strict=True):
        assert None not in (*one, *other)
        assert one.high - one.low > other.high - other.low  # type: ignore[operator]
