"""Studies of training: a learning curve over more videos, and an ablation of each switch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator

from models.metrics.metrics import Interval, bootstrap_auc
from reelcheck.card import ModelCard
from reelcheck.settings import merge, validated
from reelcheck.train_config import TrainSettings
from storage.atomic import atomic_path, write_text
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import StudyLayout
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks.evaluation.predictions import choose_evaluation_layout, load_or_predict_rows
from tasks.evaluation.unseen import read_unseen_videos
from tasks.plotting.figure import (
    BLUE,
    FAINT,
    ORANGE,
    label_axes,
    make_figure,
    make_note_figure,
    save_figure,
)
from tasks.plotting.markdown import format_number, format_table

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


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """One model of a learning curve, trained on a subset of the train videos."""

    share: float
    """Share of the train videos, 0 to 1."""
    num_videos: int
    """Number of train videos."""
    val_auc: float | None
    val_f1: float | None


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One model of an ablation; the other rows are compared with the first."""

    name: str
    change: str
    """The change, in words."""
    val_auc: float | None
    val_f1: float | None
    test_auc: Interval | None
    """On held-out videos."""


def list_variants(settings: TrainSettings) -> list[Variant]:
    """List the variants: no switch, each switch alone, the given settings, no Transformer."""
    variants = [
        Variant(name, change, _change(_change(settings, _OFF), switch))
        for name, (change, switch) in _SWITCHES.items()
    ]
    variants.append(Variant("as given", "the recipe with its own switches", settings))
    if settings.detector.transformer is not None:
        change = {"detector": {"transformer": None}, "frame_loss_weight": 0.0}
        variants.append(Variant("frames only", "without Transformer", _change(settings, change)))
    return variants


def measure_variant(
    variant: Variant, card: ModelCard, layout: StoreLayout, model: ModelLayout
) -> AblationRow:
    """Take a variant's validation figures, and measure its AUC on the test split."""
    return AblationRow(
        name=variant.name,
        change=variant.change,
        val_auc=card.validation["auc"],
        val_f1=card.validation["f1"],
        test_auc=_measure_held_out_auc(layout, model),
    )


def _measure_held_out_auc(layout: StoreLayout, model: ModelLayout) -> Interval | None:
    """Measure the AUC with its interval; None without a test split."""
    split_rows = read_rows(layout.split_path, SPLIT)
    if not any(row["split"] == "test" and row["has_crops"] for row in split_rows):
        return None
    output = choose_evaluation_layout(layout, model, split="test", out=None)
    known = read_unseen_videos(layout, model, split="test")
    rows = load_or_predict_rows(layout, model, known, output)
    scored = [row for row in rows if row["logit"] is not None]
    return bootstrap_auc(
        np.array([row["logit"] for row in scored], dtype=np.float64),
        np.array([row["label"] for row in scored], dtype=np.int64),
        np.array([row["component"] for row in scored], dtype=str),
        seed=0,
    )


def _change(settings: TrainSettings, changes: dict[str, Any]) -> TrainSettings:
    values = settings.model_dump()
    merge(values, changes)
    return validated(TrainSettings, values)


def draw_learning_curve(path: Path, points: Sequence[LearningPoint]) -> None:
    """Draw validation AUC and F1 over the number of train videos; the line joins means."""
    if not points:
        return save_figure(make_note_figure("No model was trained."), path)
    table = pd.DataFrame([vars(point) for point in points]).astype(float)
    sizes = table.groupby("num_videos")["share"].mean()
    figure = make_figure()
    ax = figure.subplots()
    for column, label, colour, marker in (
        ("val_auc", "AUC", BLUE, "o"),
        ("val_f1", "F1", ORANGE, "s"),
    ):
        means = table.groupby("num_videos")[column].mean()
        ax.plot(means.index, means, color=colour)
        ax.plot(table["num_videos"], table[column], marker, color=colour, label=label)
    # Every size is written out: a scale of powers would name sizes that were not tried.
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(list(sizes.index)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{size:,.0f}\n{share:.3g} %" for size, share in (sizes * 100).items()])
    label_axes(
        ax, "train videos (logarithmic), and their share", "AUC, F1 on the validation videos"
    )
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, path)


def draw_ablation(path: Path, rows: Sequence[AblationRow]) -> None:
    """Draw the held-out AUC of each row with its 95 % interval, and the AUC on validation."""
    if not any(row.test_auc or row.val_auc is not None for row in rows):
        return save_figure(make_note_figure("No AUC was measured."), path)
    figure = make_figure(height=max(2.0, 1.2 + 0.35 * len(rows)))
    ax = figure.subplots()
    positions = range(len(rows))
    aucs = np.array([row.test_auc or (np.nan,) * 3 for row in rows], dtype=float)
    errors = np.abs(aucs[:, 1:] - aucs[:, :1]).T
    held_out = "held-out videos, 95 % interval"
    ax.axvline(aucs[0, 0], color=FAINT, linestyle=":", linewidth=0.8, zorder=0)
    ax.errorbar(
        aucs[:, 0], positions, xerr=errors, fmt="o", color=ORANGE, capsize=3, label=held_out
    )
    validation = np.array([row.val_auc for row in rows], dtype=float)
    ax.plot(validation, positions, "s", color=BLUE, fillstyle="none", label="validation videos")
    ax.set_yticks(positions, [row.name for row in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    label_axes(ax, "AUC", "")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return save_figure(figure, path)


def write_learning_curve(study: StudyLayout, points: Sequence[LearningPoint]) -> None:
    """Write ``learning_curve.csv`` and its picture, the smallest number of videos first."""
    columns = list(LearningPoint.__dataclass_fields__)
    rows = [vars(point) for point in sorted(points, key=lambda point: point.num_videos)]
    with atomic_path(study.learning_curve_path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)
    draw_learning_curve(study.learning_curve_plot_path, points)


def write_ablation(study: StudyLayout, rows: Sequence[AblationRow]) -> None:
    """Write ``ablation.csv``, ``ablation.md`` and its picture, in the order given."""
    columns = ("name", "change", "val_auc", "val_f1", "test_auc", "test_auc_low", "test_auc_high")
    values = [
        (row.name, row.change, row.val_auc, row.val_f1, *(row.test_auc or (None,) * 3))
        for row in rows
    ]
    with atomic_path(study.ablation_path) as temporary:
        pd.DataFrame(values, columns=columns).to_csv(temporary, index=False)
    write_text(study.ablation_markdown_path, format_ablation(rows))
    draw_ablation(study.ablation_plot_path, rows)


def format_ablation(rows: Sequence[AblationRow]) -> str:
    """Format the table for people; intervals that overlap widely prove no difference."""
    header = ("name", "what was changed", "validation AUC", "validation F1", "held-out AUC (95 %)")
    table = format_table(
        header,
        [
            (
                row.name,
                row.change,
                format_number(row.val_auc),
                format_number(row.val_f1),
                _format_interval(row.test_auc),
            )
            for row in rows
        ],
    )
    return f"{table}\n"


def _format_interval(interval: Interval | None) -> str:
    if interval is None:
        return "undefined"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
