"""What a registry says of its versions."""

from pathlib import Path
from typing import Any

import pytest

from models.metrics.evaluation import evaluate_table
from reelcheck.errors import StoreError
from storage.checked.documents import write_document
from storage.checkpoints import read_card, set_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.schemas import EVALUATED
from tasks.evaluation.predictions import make_score_table
from tasks.registry.gate import Decision, Rule
from tasks.registry.promote import promote
from tasks.registry.versions import compare_versions, list_versions, read_details

RULES = (Rule(name="mean change of AUC", value=0.1, limit="more than 0", passed=True),)


@pytest.fixture
def registry(tmp_path: Path, tiny: Any) -> RegistryLayout:
    layout = RegistryLayout(tmp_path / "registry")
    for seed, name in enumerate(("a", "b", "c")):
        tiny.save_model(layout.version(name).path, seed=seed)
    set_champion(layout, "a")
    promote(layout, "b", Decision(promoted=True, reason="better than a", rules=RULES))
    return layout


def write_evaluation(model: ModelLayout, split: str, scores: list[float]) -> None:
    """Of videos of which every other one is fake."""
    rows = [
        {
            **dict.fromkeys(EVALUATED.names),
            "video_id": str(n),
            "label": n % 2,
            "component": str(n),
            "status": "ok",
            "score": score,
            "frames": [],
        }
        for n, score in enumerate(scores)
    ]
    found = evaluate_table(make_score_table(rows), read_card(model).calibration)
    write_document(model.evaluation("test", split).evaluation_path, found)


def test_versions_say_which_is_in_use_and_what_the_gate_said(registry: RegistryLayout) -> None:
    found = list_versions(registry.path)
    assert [(v.name, v.is_champion, v.decision) for v in found] == [
        ("a", False, ""),
        ("b", True, "better than a"),
        ("c", False, ""),
    ]
    with pytest.raises(StoreError, match="no model version"):
        list_versions(registry.path / "b")


def test_details_hold_card_figures_and_rules(registry: RegistryLayout) -> None:
    write_evaluation(registry.version("b"), "s1", [0.1, 0.9, 0.2, 0.8])
    details = read_details(registry.path, "b")
    assert details.card == read_card(registry.version("b"))
    assert details.evaluations["test-s1"]["metrics"]["auc"] == 1.0
    assert details.gate is not None
    assert details.gate["rules"][0]["name"] == RULES[0].name
    assert read_details(registry.path, "c").gate is None
    with pytest.raises(StoreError, match="no version d; it has a, b, c"):
        read_details(registry.path, "d")


def test_two_versions_are_compared_on_the_newest_videos_that_both_were_measured_on(
    registry: RegistryLayout,
) -> None:
    write_evaluation(registry.version("a"), "s1", [0.1, 0.9, 0.2, 0.8])
    for name, split, scores in (
        ("b", "s1", [0.9, 0.1, 0.2, 0.8]),
        ("b", "s2", [0.1, 0.9, 0.9, 0.8]),
        ("a", "s2", [0.1, 0.9, 0.2, 0.8]),
        ("b", "s3", [0.1, 0.9, 0.2, 0.8]),
    ):
        write_evaluation(registry.version(name), split, scores)
    found = compare_versions(registry.path, "a", "b")
    assert found.measured_on == "test-s2"
    assert found.figures["auc"] == (1.0, 0.625)
    assert found.gate is not None
    assert found.gate["champion"] == "a"
    assert compare_versions(registry.path, "b", "a").gate == found.gate


def test_versions_without_videos_in_common_are_not_compared_on_any(
    registry: RegistryLayout,
) -> None:
    write_evaluation(registry.version("a"), "s1", [0.1, 0.9])
    write_evaluation(registry.version("c"), "s2", [0.1, 0.9])
    found = compare_versions(registry.path, "a", "c")
    assert (found.measured_on, found.gate) == (None, None)
    assert "auc" not in found.figures
    assert found.figures["bytes of the weights"][0] > 0
