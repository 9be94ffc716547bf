"""Which switches a run is made with, one by one, to see what each of them does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import task

from models.metrics import AucInterval, group_bootstrap_auc
from reelcheck.card import ModelCard
from reelcheck.settings import merge, validated
from reelcheck.train_config import TrainSettings
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import read_rows
from tasks.evaluate import judged_videos
from tasks.parts import rows_by_split
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
    split_rows = read_rows(layout.split_path, SPLIT)
    rows = rows_by_split(read_rows(layout.manifest_path, MANIFEST), split_rows)["test"]
    return AblationRow(
        name=variant.name,
        change=variant.change,
        val_auc=card.validation["auc"],
        val_f1=card.validation["f1"],
        test_auc=_held_out_auc(rows, split_rows, layout, model) if rows else None,
    )


def _held_out_auc(
    rows: list[dict[str, Any]],
    split_rows: list[dict[str, Any]],
    layout: StoreLayout,
    model: ModelLayout,
) -> AucInterval | None:
    videos = judged_videos(rows, layout, model)
    videos = videos[np.isfinite(videos["logit"])]
    component_of = {row["video_id"]: row["component"] for row in split_rows}
    return group_bootstrap_auc(
        videos["logit"].to_numpy(),
        videos["label"].to_numpy(dtype=np.int64),
        np.array([component_of[video_id] for video_id in videos.index]),
        seed=0,
    )


def _changed(settings: TrainSettings, changes: dict[str, Any]) -> TrainSettings:
    values = settings.model_dump()
    merge(values, changes)
    return validated(TrainSettings, values)
