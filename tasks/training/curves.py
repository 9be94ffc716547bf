"""Draw the curves of a training run as PNG; by matplotlib's objects, never its global state.

Where there is nothing to draw, the picture says so.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from storage.rows import LogRow
from tasks.plotting.figure import (
    BLACK,
    BLUE,
    FAINT,
    ORANGE,
    label_axes,
    make_figure,
    make_note_figure,
    save_figure,
)

_PANELS = (
    ("loss", "train_loss", "val_loss"),
    ("accuracy", "train_accuracy", "val_accuracy"),
    ("F1", "train_f1", "val_f1"),
    ("AUC", None, "val_auc"),
    ("learning rate", "learning_rate", None),
)
"""Label of the y axis, column on training, column on validation."""
_BEST: dict[str, Any] = {
    "linestyle": "",
    "marker": "D",
    "markersize": 5,
    "color": ORANGE,
    "markeredgecolor": BLACK,
}
"""How the best epoch is marked."""
_MAX_MARKED_EPOCHS = 25
"""With more epochs, points would run into each other."""


def draw_curves(path: Path, log_rows_by_fold: Mapping[int, Sequence[LogRow]]) -> None:
    """Draw loss, accuracy, F1, AUC and learning rate over the epochs of each fold.

    Folds may stop at different epochs: each phase starts at the same position for all folds, and
    the mean is drawn where every fold has an epoch.

    Args:
        path: the PNG file.
        log_rows_by_fold: rows in the order of epochs; one fold without cross-validation.
    """
    log = _make_log_table(log_rows_by_fold)
    if log.empty:
        return save_figure(make_note_figure("No epoch was finished."), path)
    figure = make_figure()
    axes = list(figure.subplots(2, 3).flat)
    num_phases = log["phase"].nunique()
    is_aligned = num_phases > 1 and len(log_rows_by_fold) > 1
    epochs = "epoch (phases aligned)" if is_aligned else "epoch"
    for ax, (label, train, validation) in zip(axes, _PANELS, strict=False):
        _draw_metric(ax, log, train, BLUE)
        _draw_metric(ax, log, validation, ORANGE)
        if num_phases > 1:
            _mark_phases(ax, log)
        label_axes(ax, epochs, label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        ax.set_xlim(-0.5, log["position"].max() + 0.5)
    _scale_rates(axes[4], log.groupby("phase")["learning_rate"].max())
    axes[5].axis("off")
    axes[5].legend(
        handles=_make_handles(len(log_rows_by_fold), num_phases), loc="center", frameon=False
    )
    return save_figure(figure, path)


def _make_log_table(log_rows_by_fold: Mapping[int, Sequence[LogRow]]) -> pd.DataFrame:
    """Make a table of the rows of all folds, with their position on the x axis."""
    log = pd.DataFrame(
        [{**row, "fold": fold} for fold, rows in log_rows_by_fold.items() for row in rows]
    )
    if log.empty:
        return log
    within = log.groupby(["fold", "phase"]).cumcount()
    lengths = within.groupby(log["phase"]).max() + 1
    log["position"] = within + log["phase"].map(lengths.cumsum() - lengths)
    return log


def _draw_metric(ax: Axes, log: pd.DataFrame, column: str | None, colour: str) -> None:
    if column is None:
        return
    values = log.assign(value=log[column].astype(float)).pivot_table(
        index="position", columns="fold", values="value", dropna=False
    )
    if values.isna().all(axis=None):
        ax.set_yticks([])
        ax.text(0.5, 0.5, "not defined", ha="center", color=FAINT, transform=ax.transAxes)
        return
    marker = "." if len(values) <= _MAX_MARKED_EPOCHS else ""
    if values.shape[1] > 1:
        ax.plot(values, color=colour, linewidth=0.6, alpha=max(0.1, 0.5 - values.shape[1] / 50))
        mean = values.mean(axis=1, skipna=False)
        ax.plot(mean, color="white", linewidth=4)
        ax.plot(mean, color=colour, linewidth=2, marker=marker)
    else:
        ax.plot(values, color=colour, linewidth=1.5, marker=marker)
    best = log[log["is_best"]].groupby("fold").last()
    if column.startswith("val_"):
        ax.plot(best["position"], best[column].astype(float), **_BEST)


def _mark_phases(ax: Axes, log: pd.DataFrame) -> None:
    above = ax.get_xaxis_transform()
    for phase, positions in log.groupby("phase")["position"]:
        first, last = positions.min(), positions.max()
        middle = (first + last) / 2
        ax.axvline(first - 0.5, color=FAINT, linestyle="--", linewidth=0.8, zorder=0)
        ax.text(middle, 1.01, f"{phase}", transform=above, color=FAINT, ha="center", fontsize=8)


def _make_handles(num_folds: int, num_phases: int) -> list[Line2D]:
    of_folds = f": mean of {num_folds} folds" if num_folds > 1 else ""
    handles = [
        Line2D([], [], color=BLUE, linewidth=2, label=f"training{of_folds}"),
        Line2D([], [], color=ORANGE, linewidth=2, label=f"validation{of_folds}"),
    ]
    if num_folds > 1:
        handles.append(Line2D([], [], color=FAINT, linewidth=0.6, label="one fold"))
    handles.append(Line2D([], [], label="best epoch", **_BEST))
    if num_phases > 1:
        begin = "a phase begins\n(their numbers above)"
        handles.append(Line2D([], [], color=FAINT, linestyle="--", linewidth=0.8, label=begin))
    return handles


def _scale_rates(ax: Axes, highest: "pd.Series[float]") -> None:
    """Scale the axis by logarithms where a linear one would flatten a phase."""
    highest = highest[highest > 0]
    if highest.empty:
        return
    if highest.max() > 5 * highest.min():
        # A schedule may end at 0, which a logarithm would take endlessly far down.
        ax.set_yscale("log")
        ax.set_ylim(highest.min() / 100, highest.max() * 2)
        return
    power = math.floor(math.log10(highest.max()))
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value / 10**power:.3g}")
    ax.set_ylabel(f"learning rate ($10^{{{power}}}$)")
