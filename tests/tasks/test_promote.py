"""Which model is in use."""

from pathlib import Path
from typing import Any

import pytest

from storage.checkpoints import read_champion, set_champion
from storage.layout import RegistryLayout
from tasks.promote import decide, promote


def metrics(auc: float | None) -> dict[str, Any]:
    return {"metrics": {"auc": auc, "f1": 0.5}}


CASES = pytest.mark.parametrize(
    ("challenger", "champion", "is_promoted", "reason"),
    [
        pytest.param(0.9, 0.8, True, ">", id="better"),
        pytest.param(0.8, 0.8, False, "<=", id="equal"),
        pytest.param(0.7, 0.8, False, "<=", id="worse"),
        pytest.param(1, 0, True, ">", id="better_by_whole_numbers"),
        pytest.param(None, 0.8, False, "one label", id="one_label"),
        pytest.param(0.9, None, False, "champion has no AUC", id="champion_without_auc"),
    ],
)


@CASES
def test_only_a_better_model_is_promoted_when_there_is_a_champion(
    tmp_path: Path,
    challenger: float | None,
    champion: float | None,
    is_promoted: bool,
    reason: str,
) -> None:
    registry = RegistryLayout(tmp_path)
    set_champion(registry, "old")
    decision = promote.fn(registry, "new", metrics(challenger), metrics(champion))
    assert decision == decide(metrics(challenger), metrics(champion))
    assert decision.promoted is is_promoted
    assert reason in decision.reason
    assert read_champion(registry) == ("new" if is_promoted else "old")


def test_first_model_is_promoted_when_it_could_be_measured(tmp_path: Path) -> None:
    registry = RegistryLayout(tmp_path / "new" / "registry")
    assert not promote.fn(registry, "first", metrics(None), None).promoted
    assert read_champion(registry) is None
    assert promote.fn(registry, "first", metrics(0.4), None).promoted
    assert read_champion(registry) == "first"
