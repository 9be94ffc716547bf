"""What a registry holds, for people."""

import json
from dataclasses import dataclass
from pathlib import Path

from reelcheck.errors import StoreError
from storage.checkpoints import read_card, read_champion
from storage.layout import RegistryLayout


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a registry."""

    name: str
    model_id: str
    is_champion: bool
    num_train_videos: int
    validation_auc: float | int | None
    decision: str
    """What the gate said; empty: it was never asked."""


def versions_of(registry: Path) -> list[Version]:
    """The complete versions of a registry, sorted by name.

    Raises:
        StoreError: the folder holds none.
    """
    layout = RegistryLayout(registry)
    champion = read_champion(layout)
    names = sorted(path.parent.name for path in registry.glob("*/card.json"))
    if not names:
        raise StoreError(f"{registry} holds no model version; run the flow retrain, or copy one in")
    return [_version(layout, name, is_champion=name == champion) for name in names]


def _version(layout: RegistryLayout, name: str, *, is_champion: bool) -> Version:
    model = layout.version(name)
    card = read_card(model)
    decision = ""
    if model.gate_path.exists():
        decision = json.loads(model.gate_path.read_text(encoding="utf-8"))["reason"]
    return Version(
        name=name,
        model_id=card.model_id,
        is_champion=is_champion,
        num_train_videos=sum(card.num_videos.get("train", {}).values()),
        validation_auc=card.validation.get("auc"),
        decision=decision,
    )
