"""The versions of a registry, for people: list, show, compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.metrics.evaluation import Evaluation
from reelcheck.card import ModelCard
from storage.checked.documents import read_document
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.outputs import EvaluationLayout
from storage.refusals import require_versions
from tasks.registry.promote import read_gate

_SHOWN = (
    *("auc", "average_precision", "eer", "tpr_at_fpr_1", "accuracy", "f1"),
    *("log_loss", "ece", "decided_share", "decided_error"),
)
"""Names of ``models.metrics.metrics.compute_metrics``."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a registry."""

    name: str
    model_id: str
    is_champion: bool
    num_train_videos: int
    validation_auc: float | int | None
    decision: str
    """Reason of the gate; empty: the version was never compared."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """One version with its records."""

    version: Version
    card: ModelCard
    gate: Mapping[str, Any] | None
    """Content of ``gate.json``."""
    evaluations: Mapping[str, Evaluation]
    """Name of a folder, such as ``test-<split hash>`` -> evaluation; the newest last."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions side by side."""

    figures: Mapping[str, tuple[float | int | None, float | int | None]]
    """Name -> value of the first and of the second version."""
    measured_on: str | None
    """Name of the evaluation that both versions have; None: there is none."""
    gate: Mapping[str, Any] | None
    """Decision of the gate between the two versions."""


def list_versions(registry: Path) -> list[Version]:
    """List the complete versions of a registry, sorted by name.

    Raises:
        StoreError: the folder holds none.
    """
    require_versions(registry)
    layout = RegistryLayout(registry)
    champion = read_champion(layout)
    return [
        _read_version(layout, name, is_champion=name == champion) for name in layout.version_names()
    ]


def read_details(registry: Path, name: str) -> Details:
    """Read all records of a version.

    Raises:
        StoreError: there is no such version.
    """
    require_versions(registry, name)
    known = {version.name: version for version in list_versions(registry)}
    layout = RegistryLayout(registry)
    return Details(
        version=known[name],
        card=read_card(layout.version(name)),
        gate=read_gate(layout, name),
        evaluations=_read_evaluations(layout.version(name)),
    )


def compare_versions(registry: Path, first: str, second: str) -> Comparison:
    """Compare two versions.

    Figures of held-out videos are compared only where both versions were measured on the same
    videos, in the newest such evaluation.

    Raises:
        StoreError: there is no such version.
    """
    sides = [read_details(registry, name) for name in (first, second)]
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
        both = [side.evaluations[common[-1]] for side in sides]
        figures["videos"] = _pair([each["num_videos"] for each in both])
        figures["coverage"] = _pair([each["coverage"] for each in both])
        figures["false alarms"] = _pair([each["false_alarms"]["share"] for each in both])
        figures |= {name: _pair([each["metrics"][name] for each in both]) for name in _SHOWN}
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


def _read_version(layout: RegistryLayout, name: str, *, is_champion: bool) -> Version:
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


def _read_evaluations(model: ModelLayout) -> dict[str, Evaluation]:
    paths = sorted(
        (EvaluationLayout(folder).evaluation_path for folder in model.evaluations_dir.glob("*")),
        key=lambda path: path.stat().st_mtime_ns if path.exists() else 0,
    )
    return {path.parent.name: read_document(path) for path in paths if path.exists()}
