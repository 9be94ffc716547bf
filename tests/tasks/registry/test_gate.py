"""Who may replace the champion: better ones only, on every suite, with every figure on record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reelcheck.card import Calibration
from reelcheck.config import GateSettings
from reelcheck.errors import SettingsError
from storage.schemas import EVALUATED
from storage.tables import Row
from tasks.registry.footprint import Footprint
from tasks.registry.gate import Candidate, Decision, decide

CALIBRATION = Calibration(temperature=1.0, threshold=0.5, real_below=0.5, fake_from=0.5)
LENIENT = GateSettings(max_ece=1.0, perturbations=())
NUM_VIDEOS = 200
IDS = [f"v{n:03}" for n in range(NUM_VIDEOS)]
SUITES = {"frozen": IDS[:100], "recent": IDS[100:], "later": IDS[150:]}


def answers(scores: Any) -> list[Row]:
    """For videos of which every other one is fake, by two generators, two of a group."""
    return [
        {
            **dict.fromkeys(EVALUATED.names),
            "video_id": f"v{n:03}",
            "label": n % 2,
            "component": str(n // 2),
            "generator": ("swap", "mouth")[n // 2 % 2] if n % 2 else None,
            # Every fifth real video is of a data set without fakes.
            "dataset": "stress" if n % 10 == 0 else "mixed",
            "status": "ok" if score is not None else "no_face",
            "score": score,
            "frames": [],
            "face_pixels": 100.0,
        }
        for n, score in enumerate(scores)
    ]


def candidate(name: str, scores: Any, **also: Any) -> Candidate:
    return Candidate(name=name, rows=answers(scores), calibration=CALIBRATION, **also)


def scores(skill: float, *, seed: int = 0) -> list[float]:
    """Scores that tell the label the better the larger the skill."""
    noise = np.random.default_rng(seed).normal(0, 1, NUM_VIDEOS)
    labels = np.arange(NUM_VIDEOS) % 2
    return (1 / (1 + np.exp(-(skill * (2 * labels - 1) + noise)))).tolist()


def decided(new: Any, old: Any, **changes: Any) -> Decision:
    return compared(
        candidate("new", new), None if old is None else candidate("old", old), **changes
    )


def compared(new: Candidate, old: Candidate | None, **changes: Any) -> Decision:
    settings = LENIENT.model_copy(update=changes)
    return decide(new, old, suites=SUITES, settings=settings)


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


def value_of(decision: Decision, name: str) -> float | None:
    [value] = [rule.value for rule in decision.rules if rule.name == name]
    return value


def test_better_model_is_promoted() -> None:
    decision = decided(scores(2.0), scores(0.7))
    assert decision.promoted, decision.reason
    assert failed(decision) == set()


def test_same_model_is_not() -> None:
    decision = decided(scores(1.0), scores(1.0))
    assert not decision.promoted
    assert failed(decision) == {"mean change of AUC"}


def test_worse_model_is_not_and_the_reason_names_the_figure() -> None:
    decision = decided(scores(0.5), scores(2.0))
    assert not decision.promoted
    assert "mean change of AUC is -0." in decision.reason
    assert "lower end of the AUC's change on frozen videos" in failed(decision)


def test_model_of_poisoned_labels_is_not() -> None:
    poisoned = [1 - score for score in scores(2.0)]
    assert not decided(poisoned, scores(0.7)).promoted
    assert not decided(poisoned, None).promoted


def test_model_that_is_better_on_new_videos_only_is_not() -> None:
    good, bad, old = scores(4.0), scores(0.2), scores(1.5)
    half = NUM_VIDEOS // 2
    decision = decided(bad[:half] + good[half:], old)
    assert failed(decision) >= {"lower end of the AUC's change on frozen videos"}
    assert "lower end of the AUC's change on recent videos" not in failed(decision)
    assert not decision.promoted


def test_model_that_forgot_a_generator_is_not() -> None:
    forgotten = [
        0.05 if n % 2 and n // 2 % 2 else score for n, score in enumerate(scores(4.0, seed=1))
    ]
    decision = decided(forgotten, scores(1.0))
    assert "change of AUC on the worst generator" in failed(decision)


def test_model_with_more_false_alarms_is_not() -> None:
    shifted = [min(1.0, score + 0.45) for score in scores(2.5)]
    decision = decided(shifted, scores(0.9))
    assert failed(decision) >= {"change of false alarms"}
    assert not decision.promoted
    assert "change of false alarms" not in failed(
        decided(shifted, scores(0.9), max_false_alarm_rise=1.0)
    )


def test_model_that_judges_fewer_videos_is_not() -> None:
    fewer: list[float | None] = [*scores(2.0)]
    fewer[0] = None
    assert failed(decided(fewer, scores(0.7))) == {"change of coverage"}


def test_badly_calibrated_model_is_not_unless_the_champion_is_worse() -> None:
    certain = [0.001 if score < 0.5 else 0.999 for score in scores(1.0)]
    assert "expected calibration error" in failed(decided(certain, scores(0.7), max_ece=0.05))


@pytest.mark.parametrize(("skill", "is_promoted"), [(2.0, True), (0.05, False)])
def test_first_model_must_reach_a_floor(skill: float, is_promoted: bool) -> None:
    assert decided(scores(skill), None).promoted is is_promoted


def test_model_that_is_worse_on_later_videos_only_is_not() -> None:
    """Later videos are a fourth of all: the mean over suites alone would let it pass."""
    old, good, bad = scores(1.5), scores(6.0), scores(-0.5, seed=1)
    decision = decided(good[:150] + bad[150:], old, min_auc_change=-0.3)
    assert "lower end of the AUC's change on later videos" in failed(decision)
    assert "lower end of the AUC's change on frozen videos" not in failed(decision)


@pytest.mark.parametrize(
    ("videos", "is_refused"), [(IDS[:2], True), (IDS[1:100:2], True), ([], True), (IDS[:8], False)]
)
def test_without_frozen_videos_of_both_labels_and_two_groups_nothing_is_promoted(
    videos: list[str], *, is_refused: bool
) -> None:
    """The others say that it is better."""
    new, old = candidate("new", scores(4.0)), candidate("old", scores(0.7))
    suites = {"frozen": videos, "recent": IDS}
    settings = LENIENT.model_copy(update={"min_auc_change": -1.0})
    decision = decide(new, old, suites=suites, settings=settings)
    name = "lower end of the AUC's change on frozen videos"
    assert (value_of(decision, name) is None) is is_refused
    assert decision.promoted is not is_refused
    del suites["recent"], suites["frozen"]
    assert decide(
        new, old, suites=suites | {"frozen": IDS, "later": []}, settings=settings
    ).promoted


def test_more_false_alarms_on_the_reals_only_set_are_not_hidden_by_fewer_elsewhere() -> None:
    old = scores(1.0)
    new = scores(3.0)
    for n in range(0, NUM_VIDEOS, 10):
        new[n] = 0.9 if n < 180 else 0.1
    decision = decided(new, old)
    name = "change of false alarms on the worst data set of reals only"
    stress = range(0, NUM_VIDEOS, 10)
    before = np.mean([old[n] >= 0.5 for n in stress])
    assert value_of(decision, name) == pytest.approx(0.9 - before)
    assert name in failed(decision)


def perturbed(skill: float, *, names: Sequence[str] = ("blur 1.5", "jpeg 50")) -> dict[str, Any]:
    """Answers on the first videos after perturbations."""
    return {name: answers(scores(skill, seed=n))[:80] for n, name in enumerate(names, start=5)}


ROBUSTNESS = "change of AUC after perturbations"


def area(rows_by_name: Mapping[str, Sequence[Row]]) -> float:
    """By scikit-learn."""
    return float(
        np.mean(
            [
                roc_auc_score([r["label"] for r in rows], [r["score"] for r in rows])
                for rows in rows_by_name.values()
            ]
        )
    )


@pytest.mark.parametrize(("skill", "is_refused"), [(0.2, True), (1.2, False)])
def test_less_robust_model_is_not(skill: float, *, is_refused: bool) -> None:
    before, after = perturbed(1.0), perturbed(skill)
    decision = compared(
        candidate("new", scores(2.0), perturbed=after),
        candidate("old", scores(0.7), perturbed=before),
        perturbations=tuple(before),
    )
    assert (ROBUSTNESS in failed(decision)) is is_refused
    assert value_of(decision, ROBUSTNESS) == pytest.approx(area(after) - area(before))


def test_robustness_that_cannot_be_measured_refuses_and_says_so() -> None:
    gone = {"jpeg 50": [{**row, "score": None} for row in answers(scores(1.0))]}
    decision = compared(
        candidate("new", scores(2.0), perturbed=gone),
        candidate("old", scores(0.7), perturbed=gone),
        perturbations=("jpeg 50",),
    )
    assert decision.reason == f"{ROBUSTNESS} could not be measured, must be at least -0.02"


def test_perturbation_that_does_not_exist_is_refused_with_the_settings() -> None:
    with pytest.raises(SettingsError, match="unknown perturbation 'sepia'"):
        GateSettings(perturbations=("sepia",))


COST = Footprint(seconds_per_frame=0.01, num_bytes=1000, export_difference=1e-6)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seconds_per_frame": 0.016}, "time per frame, as a multiple of the champion's"),
        ({"num_bytes": 1501}, "size of the weights, as a multiple of the champion's"),
        ({"export_difference": 2e-3}, "largest change of a logit by the export"),
        ({"export_difference": float("nan")}, "largest change of a logit by the export"),
    ],
)
def test_costly_or_wrongly_exported_model_is_not(changes: dict[str, float], name: str) -> None:
    old = candidate("old", scores(0.7), footprint=COST)
    same = compared(candidate("new", scores(2.0), footprint=COST), old)
    assert same.promoted
    worse = candidate("new", scores(2.0), footprint=replace(COST, **changes))
    decision = compared(worse, old)
    assert failed(decision) == {name}
    assert all(rule.value is None or math.isfinite(rule.value) for rule in decision.rules)


def test_first_model_must_be_exported_rightly_too() -> None:
    wrong = replace(COST, export_difference=0.1)
    decision = compared(candidate("new", scores(2.0), footprint=wrong), None)
    assert failed(decision) == {"largest change of a logit by the export"}


def test_model_without_onnx_files_is_judged_without_that_rule() -> None:
    torch_only = replace(COST, export_difference=None)
    old = candidate("old", scores(0.7), footprint=COST)
    decision = compared(candidate("new", scores(2.0), footprint=torch_only), old)
    assert decision.promoted
    assert not [rule for rule in decision.rules if "export" in rule.name]
