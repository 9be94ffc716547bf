"""Draw what training gave, as PNG files; through matplotlib's objects, never its global state.

Where there is nothing to draw, the picture says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from models.metrics import Interval
from tasks.figure import (
    BLACK,
    BLUE,
    FAINT,
    ORANGE,
    count_videos,
    label_axes,
    new_figure,
    not_both,
    note_figure,
    save_figure,
)

LogRow = Mapping[str, Any]
"""One epoch: phase, epoch, learning_rate, is_best, and metrics; None where undefined."""

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


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """One model of a learning curve, trained on a part of the train videos."""

    share: float
    """Of the train videos, 0 to 1."""
    num_videos: int
    """Train videos."""
    val_auc: float | None
    val_f1: float | None


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One model of an ablation; the first row is what the others are compared with."""

    name: str
    change: str
    """What was changed, in words."""
    val_auc: float | None
    val_f1: float | None
    test_auc: Interval | None
    """On held-out videos."""


def draw_curves(path: Path, log_rows_by_fold: Mapping[int, Sequence[LogRow]]) -> None:
    """Loss, accuracy, F1, AUC and learning rate over the epochs of each fold.

    Folds may stop at different epochs: each phase starts at the same place for all of them, and
    the mean is drawn where every fold has an epoch.

    Args:
        path: the PNG.
        log_rows_by_fold: rows in the order of epochs; one fold without cross-validation.
    """
    log = _log_table(log_rows_by_fold)
    if log.empty:
        return save_figure(note_figure("No epoch was finished."), path)
    figure = new_figure()
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
        ax.set_xlim(-0.5, log["place"].max() + 0.5)
    _scale_rates(axes[4], log.groupby("phase")["learning_rate"].max())
    axes[5].axis("off")
    axes[5].legend(
        handles=_curve_handles(len(log_rows_by_fold), num_phases), loc="center", frameon=False
    )
    return save_figure(figure, path)


def draw_confusion(
    path: Path, scores: NDArray[np.float64], labels: NDArray[np.int64], *, threshold: float
) -> None:
    """How many videos of each label were called what, and their share of that label."""
    if not len(labels):
        return save_figure(note_figure("No video was scored."), path)
    counts = confusion_matrix(labels, (scores >= threshold).astype(int), labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure()
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for draw_line in (ax.axhline, ax.axvline):
        draw_line(0.5, color=FAINT, linewidth=0.8)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        text = f"{count:,}\n{share:.1%}" if counts[row].any() else "no such\nvideo"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=16)
    ax.set_xticks([0, 1], ["called real", "called fake"])
    ax.set_yticks([0, 1], ["real videos", "fake videos"], rotation=90, va="center")
    ax.tick_params(length=0)
    ax.set_title(f"{count_videos(len(labels))}, threshold {threshold:.3f}")
    return save_figure(figure, path)


def draw_roc(
    path: Path,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float,
    folds: NDArray[np.int64] | None = None,
) -> None:
    """ROC curve of all videos, of each fold where there are several, and the threshold on it."""
    _draw_trade_off(path, _ROC, scores, labels, threshold=threshold, folds=folds)


def draw_precision_recall(
    path: Path,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float,
    folds: NDArray[np.int64] | None = None,
) -> None:
    """Precision over recall of all videos, of each fold, and the threshold on it."""
    _draw_trade_off(path, _PRECISION_RECALL, scores, labels, threshold=threshold, folds=folds)


def draw_learning_curve(path: Path, points: Sequence[LearningPoint]) -> None:
    """Validation AUC and F1 over the number of train videos; several points of a size: the mean."""
    if not points:
        return save_figure(note_figure("No model was trained."), path)
    table = pd.DataFrame([vars(point) for point in points]).astype(float)
    sizes = table.groupby("num_videos")["share"].mean()
    figure = new_figure()
    ax = figure.subplots()
    for column, label, colour, marker in (
        ("val_auc", "AUC", BLUE, "o"),
        ("val_f1", "F1", ORANGE, "s"),
    ):
        means = table.groupby("num_videos")[column].mean()
        ax.plot(means.index, means, color=colour)
        ax.plot(table["num_videos"], table[column], marker, color=colour, label=label)
    # Every size is written out: a scale of powers would name sizes that nobody tried.
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
    """Held-out AUC of each row with its 95 % interval, and the AUC on validation."""
    if not any(row.test_auc or row.val_auc is not None for row in rows):
        return save_figure(note_figure("No AUC was measured."), path)
    figure = new_figure(height=max(2.0, 1.2 + 0.35 * len(rows)))
    ax = figure.subplots()
    places = range(len(rows))
    aucs = np.array([row.test_auc or (np.nan,) * 3 for row in rows], dtype=float)
    errors = np.abs(aucs[:, 1:] - aucs[:, :1]).T
    held_out = "held-out videos, 95 % interval"
    ax.axvline(aucs[0, 0], color=FAINT, linestyle=":", linewidth=0.8, zorder=0)
    ax.errorbar(aucs[:, 0], places, xerr=errors, fmt="o", color=ORANGE, capsize=3, label=held_out)
    validation = np.array([row.val_auc for row in rows], dtype=float)
    ax.plot(validation, places, "s", color=BLUE, fillstyle="none", label="validation videos")
    ax.set_yticks(places, [row.name for row in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    label_axes(ax, "AUC", "")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return save_figure(figure, path)


def _log_table(log_rows_by_fold: Mapping[int, Sequence[LogRow]]) -> pd.DataFrame:
    """The rows of all folds with their place on the x axis."""
    log = pd.DataFrame(
        [{**row, "fold": fold} for fold, rows in log_rows_by_fold.items() for row in rows]
    )
    if log.empty:
        return log
    within = log.groupby(["fold", "phase"]).cumcount()
    lengths = within.groupby(log["phase"]).max() + 1
    log["place"] = within + log["phase"].map(lengths.cumsum() - lengths)
    return log


def _draw_metric(ax: Axes, log: pd.DataFrame, column: str | None, colour: str) -> None:
    if column is None:
        return
    values = log.assign(value=log[column].astype(float)).pivot_table(
        index="place", columns="fold", values="value", dropna=False
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
        ax.plot(best["place"], best[column].astype(float), **_BEST)


def _mark_phases(ax: Axes, log: pd.DataFrame) -> None:
    above = ax.get_xaxis_transform()
    for phase, places in log.groupby("phase")["place"]:
        first, last = places.min(), places.max()
        middle = (first + last) / 2
        ax.axvline(first - 0.5, color=FAINT, linestyle="--", linewidth=0.8, zorder=0)
        ax.text(middle, 1.01, f"{phase}", transform=above, color=FAINT, ha="center", fontsize=8)


def _curve_handles(num_folds: int, num_phases: int) -> list[Line2D]:
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
    """A logarithmic axis where a linear one would flatten a phase; no exponent beside the axis."""
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


@dataclass(frozen=True, kw_only=True)
class _TradeOff:
    """What makes an ROC curve, or one of precision over recall."""

    name: str
    summary: str
    """Name of the figure that sums the curve up."""
    summarise: Callable[..., float]
    curve: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]
    """Labels and scores -> x and y."""
    guess: Callable[[float], tuple[float, float, str]]
    """Share of fakes -> y of guessing at x 0 and 1, and what to call it."""
    point: Callable[..., tuple[float, float]]
    """Labels and what a threshold calls fake -> x and y."""
    x: str
    y: str
    step: bool
    """Nothing between two points can be reached by a threshold."""


_ROC = _TradeOff(
    name="ROC curve",
    summary="AUC",
    summarise=roc_auc_score,
    curve=lambda labels, scores: roc_curve(labels, scores)[:2],
    guess=lambda _: (0, 1, "AUC 0.5"),
    point=lambda labels, called: (called[labels == 0].mean(), called[labels == 1].mean()),
    x="share of real videos called fake",
    y="share of fake videos called fake",
    step=False,
)
_PRECISION_RECALL = _TradeOff(
    name="precision-recall curve",
    summary="average precision",
    summarise=average_precision_score,
    curve=lambda labels, scores: precision_recall_curve(labels, scores)[1::-1],
    guess=lambda share: (share, share, f"precision {share:.3f}"),
    point=lambda labels, called: (
        recall_score(labels, called),
        precision_score(labels, called, zero_division=np.nan),
    ),
    x="recall: share of fake videos called fake",
    y="precision: share of these calls that are right",
    step=True,
)


def _draw_trade_off(
    path: Path,
    kind: _TradeOff,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float,
    folds: NDArray[np.int64] | None,
) -> None:
    if missing := not_both(labels):
        return save_figure(note_figure(f"No {kind.name}: {missing}"), path)
    figure = new_figure()
    ax = figure.subplots()
    style: dict[str, Any] = {"drawstyle": "steps-post" if kind.step else "default"}
    *guess, name = kind.guess(float(labels.mean()))
    ax.plot([0, 1], guess, color=FAINT, linestyle=":", label=f"guessing: {name}")
    masks = _fold_masks(folds, labels)
    for chosen in masks:
        curve = kind.curve(labels[chosen], scores[chosen])
        ax.plot(*curve, color=FAINT, linewidth=0.8, zorder=1, **style)
    ax.plot(*kind.curve(labels, scores), color=ORANGE, linewidth=2, label="all videos", **style)
    point = kind.point(labels, scores >= threshold)
    if not np.isnan(point).any():
        ax.plot(*point, "o", color=BLACK, label=f"threshold {threshold:.3f}", clip_on=False)
    ax.set_title(
        f"{count_videos(len(labels))}: {kind.summary} {kind.summarise(labels, scores):.3f}"
    )
    label_axes(ax, kind.x, kind.y)
    of_folds = [kind.summarise(labels[chosen], scores[chosen]) for chosen in masks]
    _unit_square(figure, ax, _fold_handles(kind.summary, of_folds))
    return save_figure(figure, path)


def _fold_masks(
    folds: NDArray[np.int64] | None, labels: NDArray[np.int64]
) -> list[NDArray[np.bool_]]:
    """The videos of each fold that has both labels; none if there is only one fold."""
    masks = [] if folds is None else [folds == fold for fold in np.unique(folds)]
    return [mask for mask in masks if not_both(labels[mask]) is None] if len(masks) > 1 else []


def _fold_handles(name: str, values: Sequence[float]) -> list[Line2D]:
    if not values:
        return []
    text = f"one fold: {name}\n{min(values):.3f} to {max(values):.3f}"
    return [Line2D([], [], color=FAINT, linewidth=0.8, label=text)]


def _unit_square(figure: Figure, ax: Axes, more_handles: Sequence[Line2D]) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_aspect("equal")
    handles = [*ax.get_legend_handles_labels()[0], *more_handles]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
