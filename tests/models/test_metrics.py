"""Reported figures, against scikit-learn and against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk

from models.metrics import video_metrics
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
