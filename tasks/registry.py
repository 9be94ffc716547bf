"""What a registry holds, for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.evaluation import Evaluation
from reelcheck.card import ModelCard
from reelcheck.errors import StoreError
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.outputs import EvaluationLayout
from tasks.promote import read_gate

_SHOWN = (
    *("auc", "average_precision", "eer", "tpr_at_fpr_1", "accuracy", "f1"),
    *("log_loss", "ece", "decided_share", "decided_error"),
)
"""Of ``models.metrics.video_metrics``."""


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


@dataclass(frozen=True, kw_only=True)
class Details:
    """One version, with all that is on record of it."""

    version: Version
    card: ModelCard
    gate: Mapping[str, Any] | None
    """What ``gate.json`` holds."""
    evaluations: Mapping[str, Evaluation]
    """By name of their folder, such as ``test-<split hash>``; the newest last."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions side by side."""

    figures: Mapping[str, tuple[float | int | None, float | int | None]]
    """By name, of the first and of the second."""
    measured_on: str | None
    """The evaluation that both have, whose figures are compared; None: there is none."""
    gate: Mapping[str, Any] | None
    """What the gate said when one was judged against the other."""


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


def details_of(registry: Path, name: str) -> Details:
    """All that is on record of a version.

    Raises:
        StoreError: there is no such version.
    """
    known = {version.name: version for version in versions_of(registry)}
    if name not in known:
        raise StoreError(f"{registry} holds no version {name}; it has {', '.join(known)}")
    layout = RegistryLayout(registry)
    return Details(
        version=known[name],
        card=read_card(layout.version(name)),
        gate=read_gate(layout, name),
        evaluations=_evaluations(layout.version(name)),
    )


def compared(registry: Path, first: str, second: str) -> Comparison:
    """Two versions side by side.

    Figures of held-out videos are compared only where both were measured on the same ones: the
    newest such evaluation is taken.

    Raises:
        StoreError: there is no such version.
    """
    sides = [details_of(registry, name) for name in (first, second)]
    common = [name for name in sides[1].evaluations if name in sides[0].evaluations]
    figures: dict[str, tuple[Any, Any]] = {
        "videos it was trained on": _pair([side.version.num_train_videos for side in sides]),
        "bytes of the weights": _pair(
            [
                RegistryLayout(registry).version(name).weights_path.stat().st_size
                for name in (first, second)
            ]
        ),
        "AUC on its own validation videos": _pair([side.version.validation_auc for side in sides]),
    }
    if common:
        found = [side.evaluations[common[-1]] for side in sides]
        figures["videos"] = _pair([each["num_videos"] for each in found])
        figures["coverage"] = _pair([each["coverage"] for each in found])
        figures["false alarms"] = _pair([each["false_alarms"]["share"] for each in found])
        figures |= {name: _pair([each["metrics"][name] for each in found]) for name in _SHOWN}
    return Comparison(
        figures=figures,
        measured_on=common[-1] if common else None,
        gate=next(
            (
                side.gate
                for side, other in ((sides[1], first), (sides[0], second))
                if side.gate is not None and side.gate["champion"] == other
            ),
            None,
        ),
    )


def _pair(values: list[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second


def _version(layout: RegistryLayout, name: str, *, is_champion: bool) -> Version:
    card = read_card(layout.version(name))
    gate = read_gate(layout, name)
    return Version(
        name=name,
        model_id=card.model_id,
        is_champion=is_champion,
        num_train_videos=sum(card.num_videos.get("train", {}).values()),
        validation_auc=card.validation.get("auc"),
        decision="" if gate is None else gate["reason"],
    )


def _evaluations(model: ModelLayout) -> dict[str, Evaluation]:
    paths = sorted(
        (EvaluationLayout(folder).evaluation_path for folder in model.evaluations_dir.glob("*")),
        key=lambda path: path.stat().st_mtime_ns if path.exists() else 0,
    )
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in paths
        if path.exists()
    }
