"""Put a decision on record, and move the pointer if it says so."""

import json
from dataclasses import asdict
from typing import Any

from prefect import task

from storage.atomic import write_text
from storage.checkpoints import read_card, read_champion, set_champion
from storage.layout import RegistryLayout
from tasks.gate import Decision, Rule


@task(name="promote")
def promote(registry: RegistryLayout, challenger: str, decision: Decision) -> Decision:
    """Write ``gate.json`` beside the challenger, and point ``champion`` at it if it is promoted.

    Killed at any moment it leaves a valid champion in use, the one before or the new one.

    Args:
        registry: folder of versions.
        challenger: name of the new version.
        decision: what is said of it.
    """
    _record(registry, challenger, decision, champion=read_champion(registry))
    if decision.promoted:
        set_champion(registry, challenger)
    return decision


def promote_by_hand(registry: RegistryLayout, version: str) -> None:
    """Put a version into use, whatever the gate has said of it; ``gate.json`` says so.

    Raises:
        StoreError: the folder holds no complete model.
    """
    read_card(registry.version(version))
    found = read_gate(registry, version) or {}
    before = found.get("reason", "it was never judged")
    decision = Decision(
        promoted=True,
        reason=f"put into use by hand; before that: {before}",
        rules=tuple(Rule(**rule) for rule in found.get("rules", ())),
        decided_by="a person",
    )
    champion = found.get("champion") or read_champion(registry)
    if found.get("decided_by") != decision.decided_by:
        _record(registry, version, decision, champion=champion)
    set_champion(registry, version)


def read_gate(registry: RegistryLayout, version: str) -> dict[str, Any] | None:
    """What ``gate.json`` of a version holds; None: nobody has judged it."""
    path = registry.version(version).gate_path
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _record(
    registry: RegistryLayout, challenger: str, decision: Decision, *, champion: str | None
) -> None:
    """Write it, with the version that it was judged against."""
    record = {"challenger": challenger, "champion": champion, **asdict(decision)}
    text = json.dumps(record, indent=2) + "\n"
    write_text(registry.version(challenger).gate_path, text)
