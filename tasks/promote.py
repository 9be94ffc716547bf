"""Put a decision on record, and move the pointer if it says so."""

import json
from dataclasses import asdict

from prefect import task

from storage.atomic import write_text
from storage.checkpoints import read_champion, set_champion
from storage.layout import RegistryLayout
from tasks.gate import Decision


@task(name="promote")
def promote(registry: RegistryLayout, challenger: str, decision: Decision) -> Decision:
    """Write ``gate.json`` beside the challenger, and point ``champion`` at it if it is promoted.

    Args:
        registry: folder of versions.
        challenger: name of the new version.
        decision: what the gate says of it.
    """
    record = {
        "challenger": challenger,
        "champion": read_champion(registry),
        **asdict(decision),
    }
    text = json.dumps(record, indent=2) + "\n"
    write_text(registry.version(challenger).gate_path, text)
    if decision.promoted:
        set_champion(registry, challenger)
    return decision
