"""Write a decision to the registry, and move the champion pointer if the decision says so."""

from dataclasses import asdict
from typing import Any

from storage.checked.documents import read_document, write_document
from storage.checkpoints import read_card, read_champion, set_champion
from storage.layout import RegistryLayout
from tasks.registry.gate import Decision, Rule


def promote(registry: RegistryLayout, challenger: str, decision: Decision) -> Decision:
    """Write ``gate.json`` beside the challenger, and point ``champion`` at it if it is promoted.

    If the process is killed, a valid champion stays in use: the one before or the new one.

    Args:
        registry: folder of versions.
        challenger: name of the new version.
        decision: the decision about the challenger.
    """
    _record(registry, challenger, decision, champion=read_champion(registry))
    if decision.promoted:
        set_champion(registry, challenger)
    return decision


def promote_by_hand(registry: RegistryLayout, version: str) -> None:
    """Put a version into use against or without the gate's decision; ``gate.json`` says so.

    Raises:
        StoreError: the folder holds no complete model.
    """
    read_card(registry.version(version))
    gate = read_gate(registry, version) or {}
    before = gate.get("reason", "it was never compared")
    decision = Decision(
        promoted=True,
        reason=f"put into use by hand; before that: {before}",
        rules=tuple(Rule(**rule) for rule in gate.get("rules", ())),
        decided_by="a person",
    )
    champion = gate.get("champion") or read_champion(registry)
    if gate.get("decided_by") != decision.decided_by:
        _record(registry, version, decision, champion=champion)
    set_champion(registry, version)


def read_gate(registry: RegistryLayout, version: str) -> dict[str, Any] | None:
    """Read ``gate.json`` of a version; None: the version was never compared."""
    path = registry.version(version).gate_path
    if not path.exists():
        return None
    return read_document(path)


def _record(
    registry: RegistryLayout, challenger: str, decision: Decision, *, champion: str | None
) -> None:
    """Write the decision, with the version that the challenger was compared with."""
    record = {"challenger": challenger, "champion": champion, **asdict(decision)}
    write_document(registry.version(challenger).gate_path, record)
