"""Draw how well scores separate two labels: confusion, ROC, precision and recall."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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

from tasks.plotting.figure import (
    BLACK,
    FAINT,
    ORANGE,
    describe_missing_labels,
    format_video_count,
    label_axes,
    make_figure,
    make_note_figure,
    save_figure,
)


def draw_confusion(
    path: Path, scores: NDArray[np.float64], labels: NDArray[np.int64], *, threshold: float
) -> None:
    """Draw how many videos of each label were called real and fake, and their shares."""
    if not len(labels):
        return save_figure(make_note_figure("No video was scored."), path)
    counts = confusion_matrix(labels, (scores >= threshold).astype(int), labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = make_figure()
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
    ax.set_title(f"{format_video_count(len(labels))}, threshold {threshold:.3f}")
    return save_figure(figure, path)


def draw_roc(
    path: Path,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float,
    folds: NDArray[np.int64] | None = None,
) -> None:
    """Draw the ROC curve of all videos and of each fold, and the threshold on it."""
    _draw_trade_off(path, _ROC, scores, labels, threshold=threshold, folds=folds)


def draw_precision_recall(
    path: Path,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float,
    folds: NDArray[np.int64] | None = None,
) -> None:
    """Draw precision over recall of all videos and of each fold, and the threshold on it."""
    _draw_trade_off(path, _PRECISION_RECALL, scores, labels, threshold=threshold, folds=folds)


@dataclass(frozen=True, kw_only=True)
class _TradeOff:
    """The kind of a curve: ROC, or precision over recall."""

    name: str
    summary: str
    """Name of the number that summarises the curve."""
    summarise: Callable[..., float]
    curve: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]
    """Labels and scores -> x and y."""
    guess: Callable[[float], tuple[float, float, str]]
    """Share of fakes -> y of guessing at x 0 and 1, and its label."""
    point: Callable[..., tuple[float, float]]
    """Labels and the videos called fake -> x and y."""
    x: str
    y: str
    step: bool
    """Whether no threshold reaches a point between two others."""


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
    if missing := describe_missing_labels(labels):
        return save_figure(make_note_figure(f"No {kind.name}: {missing}"), path)
    figure = make_figure()
    ax = figure.subplots()
    style: dict[str, Any] = {"drawstyle": "steps-post" if kind.step else "default"}
    *guess, name = kind.guess(float(labels.mean()))
    ax.plot([0, 1], guess, color=FAINT, linestyle=":", label=f"guessing: {name}")
    masks = _make_fold_masks(folds, labels)
    for chosen in masks:
        curve = kind.curve(labels[chosen], scores[chosen])
        ax.plot(*curve, color=FAINT, linewidth=0.8, zorder=1, **style)
    ax.plot(*kind.curve(labels, scores), color=ORANGE, linewidth=2, label="all videos", **style)
    point = kind.point(labels, scores >= threshold)
    if not np.isnan(point).any():
        ax.plot(*point, "o", color=BLACK, label=f"threshold {threshold:.3f}", clip_on=False)
    ax.set_title(
        f"{format_video_count(len(labels))}: {kind.summary} {kind.summarise(labels, scores):.3f}"
    )
    label_axes(ax, kind.x, kind.y)
    of_folds = [kind.summarise(labels[chosen], scores[chosen]) for chosen in masks]
    _set_unit_square(figure, ax, _make_fold_handles(kind.summary, of_folds))
    return save_figure(figure, path)


def _make_fold_masks(
    folds: NDArray[np.int64] | None, labels: NDArray[np.int64]
) -> list[NDArray[np.bool_]]:
    """Make a mask of videos for each fold with both labels; none if there is only one fold."""
    masks = [] if folds is None else [folds == fold for fold in np.unique(folds)]
    return (
        [mask for mask in masks if describe_missing_labels(labels[mask]) is None]
        if len(masks) > 1
        else []
    )


def _make_fold_handles(name: str, values: Sequence[float]) -> list[Line2D]:
    if not values:
        return []
    text = f"one fold: {name}\n{min(values):.3f} to {max(values):.3f}"
    return [Line2D([], [], color=FAINT, linewidth=0.8, label=text)]


def _set_unit_square(figure: Figure, ax: Axes, more_handles: Sequence[Line2D]) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_aspect("equal")
    handles = [*ax.get_legend_handles_labels()[0], *more_handles]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
