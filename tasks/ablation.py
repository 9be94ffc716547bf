"""Which switches a run is made with, one by one, to see what each of them does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import task

from models.metrics import Interval, group_bootstrap_auc
from reelcheck.card import ModelCard
from reelcheck.settings import merge, validated
from reelcheck.train_config import TrainSettings
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks.answers import evaluated_rows, evaluation_layout, unseen_videos
from tasks.plots import AblationRow

_OFF = {"twins": False, "self_blend": 0.0, "augment": {"jpeg": 0.0, "codec": 0.0, "cutout": 0.0}}
_SWITCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("no switch on", {}),
    "twins": ("each fake beside the video it was made from", {"twins": True}),
    "self-blend": ("half of the fakes are self-blended", {"self_blend": 0.5}),
    "self-blend only": ("no labelled fake is ever shown", {"self_blend": 1.0}),
    "compression": ("JPEG for half, H.264 for a fifth", {"augment": {"jpeg": 0.5, "codec": 0.2}}),
    "cutout": ("a part of the face hidden for a third", {"augment": {"cutout": 0.33}}),
}


@dataclass(frozen=True)
class Variant:
    """One line of the ablation table."""

    name: str
    change: str
    settings: TrainSettings


def variants(settings: TrainSettings) -> list[Variant]:
    """All switches off, each of them on, the settings as given, and those without Transformer."""
    found = [
        Variant(name, change, _changed(_changed(settings, _OFF), switch))
        for name, (change, switch) in _SWITCHES.items()
    ]
    found.append(Variant("as given", "the recipe with its own switches", settings))
    if settings.detector.transformer is not None:
        change = {"detector": {"transformer": None}, "frame_loss_weight": 0.0}
        found.append(Variant("frames only", "without Transformer", _changed(settings, change)))
    return found


@task(name="measure variant")
def measure_variant(
    variant: Variant, card: ModelCard, layout: StoreLayout, model: ModelLayout
) -> AblationRow:
    """Validation figures of a variant's card, and its AUC on the test part with an interval."""
    return AblationRow(
        name=variant.name,
        change=variant.change,
        val_auc=card.validation["auc"],
        val_f1=card.validation["f1"],
        test_auc=_held_out_auc(layout, model),
    )


def _held_out_auc(layout: StoreLayout, model: ModelLayout) -> Interval | None:
    """None without a test part."""
    rows = read_rows(layout.split_path, SPLIT)
    if not any(row["split"] == "test" and row["has_crops"] for row in rows):
        return None
    output = evaluation_layout(layout, model, part="test", out=None)
    known = unseen_videos(layout, model, part="test")
    rows = evaluated_rows(layout, model, known, output)
    scored = [row for row in rows if row["logit"] is not None]
    return group_bootstrap_auc(
        np.array([row["logit"] for row in scored], dtype=np.float64),
        np.array([row["label"] for row in scored], dtype=np.int64),
        np.array([row["component"] for row in scored], dtype=str),
        seed=0,
    )


def _changed(settings: TrainSettings, changes: dict[str, Any]) -> TrainSettings:
    values = settings.model_dump()
    merge(values, changes)
    return validated(TrainSettings, values)
