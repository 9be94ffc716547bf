"""Reported figures, against scikit-learn and against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, mannwhitneyu
from sklearn import metrics as sk

from models.metrics import group_bootstrap_auc, video_metrics
from reelcheck.card import Calibration

CALIBRATION = Calibration(temperature=1.0, threshold=0.45, real_below=0.3, fake_from=0.6)
RANKING = ("auc", "average_precision", "f1", "balanced_accuracy", "brier")
PAIRS = st.lists(
    st.tuples(st.integers(0, 50).map(lambda n: n / 50), st.integers(0, 1)),
    min_size=2,
    max_size=40,
)


def measure(pairs: list[tuple[float, int]]) -> dict[str, float | int | None]:
    scores = np.array([score for score, _ in pairs])
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    return video_metrics(scores, labels, CALIBRATION)


@given(pairs=PAIRS.filter(lambda pairs: len({label for _, label in pairs}) == 2))
def test_metrics_equal_scikit_learn(pairs: list[tuple[float, int]]) -> None:
    scores, labels = np.array(pairs).T
    called = scores >= 0.45
    expected = {
        "auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "f1": sk.f1_score(labels, called, zero_division=0.0),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "accuracy": sk.accuracy_score(labels, called),
        "log_loss": sk.log_loss(labels, scores, labels=[0, 1]),
        "brier": sk.brier_score_loss(labels, scores),
    }
    found = measure(pairs)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    statistic = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    share_won = statistic / (labels.sum() * (1 - labels).sum())
    assert found["auc"] == pytest.approx(share_won, abs=1e-6)


@given(pairs=PAIRS)
def test_counts_and_decided_shares_equal_counting_by_hand(pairs: list[tuple[float, int]]) -> None:
    decided = [(score >= 0.6, label) for score, label in pairs if score >= 0.6 or score < 0.3]
    found = measure(pairs)
    assert found["num_videos"] == len(pairs)
    assert found["num_fake"] == sum(label for _, label in pairs)
    assert found["decided_share"] == pytest.approx(len(decided) / len(pairs), abs=1e-6)
    if decided:
        wrong = sum(is_fake != label for is_fake, label in decided) / len(decided)
        assert found["decided_error"] == pytest.approx(wrong, abs=1e-6)
    else:
        assert found["decided_error"] is None


@given(pairs=PAIRS, label=st.integers(0, 1))
def test_ranking_metrics_are_none_when_one_label_occurs(
    pairs: list[tuple[float, int]], label: int
) -> None:
    found = measure([(score, label) for score, _ in pairs])
    assert {name: found[name] for name in RANKING} == dict.fromkeys(RANKING)
    assert found["accuracy"] is not None
    assert found["log_loss"] is not None


def test_nothing_is_claimed_when_there_are_no_videos() -> None:
    found = measure([])
    assert (found.pop("num_videos"), found.pop("num_fake")) == (0, 0)
    assert set(found.values()) == {None}


def correlated_videos(num_groups: int, per_group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that depend on the group more than on the video; each group is of one label."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(num_groups), per_group)
    of_group = rng.normal(0, 1, num_groups)[groups]
    labels = groups % 2
    return labels + of_group + rng.normal(0, 0.1, len(groups)), labels, groups


def test_bootstrap_interval_of_groups_is_wider_than_that_of_single_videos() -> None:
    scores, labels, groups = correlated_videos(30, 10)
    grouped = group_bootstrap_auc(scores, labels, groups, num_draws=300, seed=0)
    single = group_bootstrap_auc(scores, labels, np.arange(len(scores)), num_draws=300, seed=0)
    assert grouped is not None
    assert single is not None
    assert grouped.auc == single.auc == sk.roc_auc_score(labels, scores)
    assert grouped.low < grouped.auc < grouped.high
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_bootstrap_interval_of_single_videos_agrees_with_scipy() -> None:
    scores, labels, _ = correlated_videos(150, 1)
    found = group_bootstrap_auc(scores, labels, np.arange(150), num_draws=1000, seed=0)
    expected = bootstrap(
        (scores, labels),
        lambda scores, labels: sk.roc_auc_score(labels, scores),
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found is not None
    assert found[1:] == pytest.approx((expected.low, expected.high), abs=0.015)


def test_bootstrap_interval_depends_on_the_seed_alone() -> None:
    scores, labels, groups = correlated_videos(12, 3)
    names = np.array([f"person {group:02d}" for group in groups])
    first, again, named, other = (
        group_bootstrap_auc(scores, labels, which, num_draws=50, seed=seed)
        for which, seed in ((groups, 1), (groups, 1), (names, 1), (groups, 2))
    )
    assert first is not None
    assert other is not None
    assert first == again == named
    assert first[1:] != other[1:]


@pytest.mark.parametrize(
    ("labels", "groups"),
    [([0, 0, 0], [0, 1, 2]), ([1, 1, 1], [0, 1, 2]), ([0, 1, 1], [5, 5, 5]), ([], [])],
)
def test_bootstrap_interval_that_is_undefined_is_none(labels: list[int], groups: list[int]) -> None:
    scores = np.linspace(0, 1, len(labels))
    found = group_bootstrap_auc(
        scores, np.array(labels, dtype=np.int64), np.array(groups), num_draws=5, seed=0
    )
    assert found is None


def test_bootstrap_skips_draws_of_one_label() -> None:
    scores, labels = np.array([0.2, 0.8]), np.array([0, 1])
    assert group_bootstrap_auc(scores, labels, labels, num_draws=60, seed=0) == (1.0, 1.0, 1.0)
