"""Who may replace the champion: better ones only, on every suite, with every figure on record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelcheck.card import Calibration
from reelcheck.config import GateSettings
from reelcheck.errors import StoreError
from storage.checkpoints import read_champion, roll_back, set_champion
from storage.layout import RegistryLayout
from storage.schemas import EVALUATED
from tasks.gate import Candidate, Decision, decide
from tasks.promote import promote
from tasks.registry import versions_of

CALIBRATION = Calibration(temperature=1.0, threshold=0.5, real_below=0.5, fake_from=0.5)
LENIENT = GateSettings(max_ece=1.0)
NUM_VIDEOS = 200
FROZEN = [f"v{n:03}" for n in range(NUM_VIDEOS // 2)]
"""The first half of the videos."""


def candidate(name: str, scores: Any) -> Candidate:
    """Answers for videos of which every other one is fake, by two generators, two of a group."""
    rows = [
        {
            **dict.fromkeys(EVALUATED.names),
            "video_id": f"v{n:03}",
            "label": n % 2,
            "component": str(n // 2),
            "generator": ("swap", "mouth")[n // 2 % 2] if n % 2 else None,
            "status": "ok" if score is not None else "no_face",
            "score": score,
            "frames": [],
            "face_pixels": 100.0,
        }
        for n, score in enumerate(scores)
    ]
    return Candidate(name=name, rows=rows, calibration=CALIBRATION)


def scores(skill: float, *, seed: int = 0) -> list[float]:
    """Scores that tell the label the better the larger the skill."""
    noise = np.random.default_rng(seed).normal(0, 1, NUM_VIDEOS)
    labels = np.arange(NUM_VIDEOS) % 2
    return (1 / (1 + np.exp(-(skill * (2 * labels - 1) + noise)))).tolist()


def decided(new: Any, old: Any, **changes: Any) -> Decision:
    champion = None if old is None else candidate("old", old)
    settings = LENIENT.model_copy(update=changes)
    return decide(candidate("new", new), champion, frozen=FROZEN, settings=settings)


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


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


def test_decision_is_written_with_every_figure_and_the_pointer_moves(tmp_path: Path) -> None:
    registry = RegistryLayout(tmp_path)
    set_champion(registry, "old")
    worse = decided(scores(0.5), scores(2.0))
    promote.fn(registry, "worse", worse)
    assert read_champion(registry) == "old"
    better = decided(scores(2.0), scores(0.7))
    promote.fn(registry, "better", better)
    assert read_champion(registry) == "better"
    record = json.loads(registry.version("worse").gate_path.read_text(encoding="utf-8"))
    assert (record["challenger"], record["champion"]) == ("worse", "old")
    assert (record["promoted"], record["reason"]) == (False, worse.reason)
    assert [rule["name"] for rule in record["rules"]] == [rule.name for rule in worse.rules]
    assert all(isinstance(rule["value"], float) for rule in record["rules"])


def test_rollback_goes_back_one_version_at_a_time(tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    for seed, name in enumerate(("one", "two", "three")):
        tiny.save_model(registry.version(name).path, seed=seed)
        set_champion(registry, name)
    assert roll_back(registry) == "two"
    assert roll_back(registry) == "one"
    assert read_champion(registry) == "one"
    with pytest.raises(StoreError, match="no earlier version"):
        roll_back(registry)
    assert read_champion(registry) == "one"


def test_promoting_again_keeps_one_place_in_the_history(tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    for name in ("one", "two"):
        tiny.save_model(registry.version(name).path)
    for name in ("one", "two", "one"):
        set_champion(registry, name)
    assert roll_back(registry) == "two"
    with pytest.raises(StoreError):
        roll_back(registry)


def test_versions_say_which_is_in_use_and_what_the_gate_said(tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    for seed, name in enumerate(("a", "b")):
        tiny.save_model(registry.version(name).path, seed=seed)
    promote.fn(registry, "b", Decision(promoted=True, reason="better than a"))
    found = versions_of(tmp_path)
    assert [(v.name, v.is_champion, v.decision) for v in found] == [
        ("a", False, ""),
        ("b", True, "better than a"),
    ]
    with pytest.raises(StoreError, match="no model version"):
        versions_of(tmp_path / "b")
