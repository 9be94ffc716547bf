"""The pointer: it moves whole, goes back, and every move is on record."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelcheck.errors import StoreError
from storage.checkpoints import (
    is_withdrawn,
    read_card,
    read_champion,
    roll_back,
    set_champion,
)
from storage.layout import RegistryLayout
from tasks.registry.gate import Decision, Rule
from tasks.registry.promote import promote, promote_by_hand, read_gate

RULES = (Rule(name="AUC", value=0.9, limit="at least 0.8", passed=True),)
YES = Decision(promoted=True, reason="better than old", rules=RULES)
NO = Decision(promoted=False, reason="AUC is 0.5000, must be at least 0.8", rules=RULES)


@pytest.fixture
def registry(tmp_path: Path, tiny: Any) -> RegistryLayout:
    """Two versions, ``old`` in use."""
    layout = RegistryLayout(tmp_path / "registry")
    for seed, name in enumerate(("old", "new")):
        tiny.save_model(layout.version(name).path, seed=seed)
    set_champion(layout, "old")
    return layout


def test_decision_is_written_with_every_figure_and_the_pointer_moves(
    registry: RegistryLayout,
) -> None:
    promote(registry, "new", NO)
    assert read_champion(registry) == "old"
    record = json.loads(registry.version("new").gate_path.read_text(encoding="utf-8"))
    assert (record["challenger"], record["champion"]) == ("new", "old")
    assert (record["promoted"], record["reason"]) == (False, NO.reason)
    assert record["decided_by"] == "the gate"
    assert [Rule(**rule) for rule in record["rules"]] == list(RULES)
    promote(registry, "new", YES)
    assert read_champion(registry) == "new"


KILLED = """
import os
import signal
import sys
from pathlib import Path

from storage.layout import RegistryLayout
from tasks.registry.gate import Decision
from tasks.registry.promote import promote

last = int(sys.argv[2])
num_renames = 0


def on_event(event, arguments):
    global num_renames
    if event == "os.rename":
        num_renames += 1
        if num_renames == last:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(on_event)
promote(RegistryLayout(Path(sys.argv[1])), "new", Decision(promoted=True, reason="better"))
"""


@pytest.mark.parametrize(
    ("rename", "is_killed", "in_use"), [(1, True, "old"), (2, True, "old"), (3, False, "new")]
)
def test_killed_promotion_leaves_a_valid_champion(
    registry: RegistryLayout, tmp_path: Path, rename: int, *, is_killed: bool, in_use: str
) -> None:
    """Killed at each of the two renames: of gate.json, and of the pointer."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    arguments = [sys.executable, script, registry.path, str(rename)]
    run = subprocess.run(arguments, check=False, capture_output=True)
    assert run.returncode == (-signal.SIGKILL if is_killed else 0), run.stderr
    champion = read_champion(registry)
    assert champion == in_use
    assert read_card(registry.version(champion)).model_id
    # Run again, it ends as if nothing had happened.
    promote(registry, "new", YES)
    assert read_champion(registry) == "new"
    assert roll_back(registry) == "old"


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
    assert [is_withdrawn(registry, name) for name in ("one", "two", "three")] == [
        False,
        True,
        True,
    ]


def test_promoting_again_keeps_one_place_in_the_history(tmp_path: Path, tiny: Any) -> None:
    registry = RegistryLayout(tmp_path)
    for name in ("one", "two"):
        tiny.save_model(registry.version(name).path)
    for name in ("one", "two", "one"):
        set_champion(registry, name)
    assert roll_back(registry) == "two"
    with pytest.raises(StoreError):
        roll_back(registry)


def test_promotion_by_hand_is_on_record_with_what_the_gate_had_said(
    registry: RegistryLayout,
) -> None:
    promote(registry, "new", NO)
    for _ in range(2):
        promote_by_hand(registry, "new")
        record = read_gate(registry, "new")
        assert record is not None
        assert read_champion(registry) == "new"
        assert (record["promoted"], record["decided_by"]) == (True, "a person")
        assert record["reason"] == f"put into use by hand; before that: {NO.reason}"
        assert (record["champion"], len(record["rules"])) == ("old", 1)


def test_version_that_is_not_there_is_not_promoted(registry: RegistryLayout) -> None:
    with pytest.raises(StoreError, match="holds no model"):
        promote_by_hand(registry, "gone")
    assert read_champion(registry) == "old"
