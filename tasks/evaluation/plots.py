"""Draw the figures of an evaluation as PNG files; a picture without data says so in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from models.metrics.metrics import CoveragePoint, bin_by_score
from models.metrics.weighted_metrics import NUM_BINS, assign_bins
from reelcheck.card import Calibration
from tasks.plotting.figure import (
    BLACK,
    BLUE,
    FAINT,
    ORANGE,
    format_video_count,
    label_axes,
    make_figure,
    make_note_figure,
    save_figure,
)

_NUM_SCORE_BINS = 25
_MAX_LEVEL_COUNT = 9_999
"""Larger numbers above the bars would overlap."""
_SLICE_KINDS = {
    "generator": "generator",
    "dataset": "dataset",
    "codec": "codec",
    "face_pixels": "face size (px)",
}
"""Key of ``by`` in an evaluation -> label of its panel."""
_MAX_NAME = 32
"""Longer names would leave no room for the curves."""
_AUC_KEYS = ("auc", "low", "high")
_COVERAGE: dict[str, Any] = {"fillstyle": "none", "markersize": 5, "linewidth": 0.8}
_MAX_LEVEL_TEXT = 24
"""With more letters below a panel, the names are turned."""
_NUM_COLUMNS = 3
"""Number of panels beside each other."""


@dataclass(frozen=True, kw_only=True)
class RobustnessRow:
    """One model on the same videos after one perturbation."""

    family: str
    """Kind of perturbation, such as ``jpeg``."""
    strength: float
    """Orders the rows of a family."""
    label: str
    """The strength with its unit, as shown."""
    auc: float | None
    low: float | None
    high: float | None
    """Ends of the AUC's 95 % interval; None where undefined."""
    coverage: float
    """Share of the videos that could be scored."""


def draw_reliability(path: Path, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """Draw the share of fakes over the mean score of each bin, and the videos of each bin."""
    bins = bin_by_score(scores, labels)
    if not bins:
        return save_figure(make_note_figure("No video was scored."), path)
    figure = make_figure(height=6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color=FAINT, linestyle=":", label="calibrated")
    means, shares, counts = (np.array(column) for column in zip(*bins, strict=True))
    above.plot(
        means, shares, "o-", color=ORANGE, label="videos of a bin\n(mean score)", clip_on=False
    )
    label_axes(above, "", "share of fakes")
    above.set_ylim(-0.01, 1.01)
    middles = (assign_bins(means, NUM_BINS) + 0.5) / NUM_BINS
    below.bar(middles, counts, width=0.8 / NUM_BINS, color=BLUE)
    turned = counts.max() > _MAX_LEVEL_COUNT
    for middle, count in zip(middles, counts, strict=True):
        below.annotate(
            f"{count:,}",
            (middle, count),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            rotation=90 if turned else 0,
        )
    label_axes(below, "score, in bins", "videos")
    below.set_ylim(0, (2 if turned else 1.25) * counts.max())
    below.set_xlim(-0.02, 1.02)
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    ece = np.average(np.abs(means - shares), weights=counts)
    above.set_title(f"{format_video_count(len(labels))}: expected calibration error {ece:.3f}")
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, path)


def draw_risk_coverage(
    path: Path,
    points: Sequence[CoveragePoint],
    *,
    decided_share: float | None,
    decided_error: float | None,
) -> None:
    """Draw the error among the most certain videos over their share, and that of the verdicts.

    Args:
        path: the PNG.
        points: result of ``models.metrics.metrics.compute_risk_coverage``.
        decided_share: share of the videos outside the inconclusive band.
        decided_error: share of these videos that is called wrongly.
    """
    if not points:
        return save_figure(make_note_figure("No video was scored."), path)
    figure = make_figure()
    ax = figure.subplots()
    table = np.array(points, dtype=float)
    coverage, risk, low, high = table.T
    if not np.isnan(low).any():
        ax.fill_between(coverage, low, high, color=ORANGE, alpha=0.2, linewidth=0)
        label = "95 % interval"
        ax.fill_between([], [], color=ORANGE, alpha=0.2, linewidth=0, label=label)
    ax.plot(coverage, risk, ".-", color=ORANGE, label="the most certain videos", clip_on=False)
    if decided_share is not None and decided_error is not None:
        label = "the model's verdicts\nthat are not inconclusive"
        point = (decided_share, decided_error)
        ax.plot(*point, "D", color=BLACK, label=label, clip_on=False, zorder=3)
    label_axes(ax, "share of the videos that are called", "share of these called wrongly")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(0.05, 1.05 * np.nanmax([*table[:, 1:].ravel(), decided_error or 0])))
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, path)


def draw_scores(
    path: Path,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    calibration: Calibration,
) -> None:
    """Draw the scores of each label, the threshold and the inconclusive band."""
    if not len(labels):
        return save_figure(make_note_figure("No video was scored."), path)
    figure = make_figure()
    ax = figure.subplots()
    edges = np.linspace(0, 1, _NUM_SCORE_BINS + 1)
    for label, name, colour, hatch in ((0, "real", BLUE, ""), (1, "fake", ORANGE, "///")):
        chosen = scores[labels == label]
        if not len(chosen):
            continue
        shares = np.histogram(chosen, edges)[0] / len(chosen)
        legend = f"{len(chosen):,} {name}"
        ax.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
        ax.stairs(shares, edges, color=colour, linewidth=1.5, hatch=hatch, label=legend)
    band = (calibration.real_below, min(1.0, calibration.fake_from))
    if band[0] < band[1]:
        ax.axvspan(*band, color=FAINT, alpha=0.2, linewidth=0, zorder=0, label="inconclusive")
    threshold = calibration.threshold
    ax.axvline(threshold, color=BLACK, linestyle="--", label=f"threshold {threshold:.3f}")
    label_axes(ax, "score", "share of the videos with this label")
    ax.set_xlim(-0.01, 1.01)
    ax.set_title(format_video_count(len(labels)))
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, path)


def draw_slices(path: Path, by: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw AUC and its interval for each generator, dataset, codec and size of face.

    Args:
        path: the PNG.
        by: ``by`` of ``models.metrics.evaluation.evaluate_table``.
    """
    kinds = [kind for kind in _SLICE_KINDS if any(row["auc"] is not None for row in by[kind])]
    if not kinds:
        return save_figure(make_note_figure("No AUC of any kind of videos is defined."), path)
    sizes = [len(by[kind]) for kind in kinds]
    figure = make_figure(height=1.2 + 0.5 * len(kinds) + 0.26 * sum(sizes))
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for ax, kind in zip(panels, kinds, strict=True):
        _draw_slice(ax, by[kind])
        label_axes(ax, "", "")
        ax.set_title(_SLICE_KINDS[kind], loc="left", fontsize=10)
    panels[-1].set_xlabel("AUC with its 95 % interval (real, fake videos)")
    ends = [row[key] for kind in kinds for row in by[kind] for key in ("auc", "low")]
    panels[-1].set_xlim(min(0.5, *(end for end in ends if end is not None)) - 0.02, 1.01)
    return save_figure(figure, path)


def draw_robustness(
    path: Path, rows: Sequence[RobustnessRow], *, undisturbed_auc: float | None
) -> None:
    """Draw AUC with its interval over the strength of each kind of perturbation.

    A kind with two strengths has a panel of its own; all others share the last.
    """
    by_family: dict[str, list[RobustnessRow]] = {}
    for row in rows:
        by_family.setdefault(row.family, []).append(row)
    panels = {
        family: sorted(own, key=lambda row: row.strength)
        for family, own in by_family.items()
        if len(own) > 1
    }
    single = [own[0] for own in by_family.values() if len(own) == 1]
    if single:
        panels["others"] = single
    if not any(row.auc is not None for row in rows):
        return save_figure(make_note_figure("No AUC was measured."), path)
    num_columns = min(_NUM_COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    figure = make_figure(height=1.2 + 2.4 * num_rows)
    axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    for ax, (family, own) in zip(axes, panels.items(), strict=False):
        if undisturbed_auc is not None:
            ax.axhline(undisturbed_auc, color=FAINT, linestyle=":")
        _draw_family(ax, own, is_single=own is single)
        ax.set_title(family, fontsize=10)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    lowest = [value for row in rows for value in (row.auc, row.low, row.coverage)]
    axes[0].set_ylim(min(0.5, *(each for each in lowest if each is not None)) - 0.03, 1.03)
    figure.supylabel("AUC; share of videos", fontsize=10)
    handles = _make_robustness_handles(undisturbed_auc)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return save_figure(figure, path)


def _draw_slice(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    positions = np.arange(len(rows))
    auc, low, high = (np.array([row[k] for row in rows], dtype=float) for k in _AUC_KEYS)
    ax.hlines(positions, low, high, color=ORANGE)
    ax.plot(auc, positions, "o", color=ORANGE)
    for position in positions[np.isnan(auc)]:
        ax.text(
            *(0.99, position, "undefined"),
            transform=ax.get_yaxis_transform(),
            ha="right",
            va="center",
            color=FAINT,
            fontsize=8,
        )
    names = [f"{_shorten(row['name'])} ({row['num_real']:,}, {row['num_fake']:,})" for row in rows]
    ax.set_yticks(positions, names, parse_math=False, fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)


def _draw_family(ax: Axes, rows: Sequence[RobustnessRow], *, is_single: bool) -> None:
    """Draw points at equal steps, joined where they are of one kind."""
    positions = np.arange(len(rows))
    auc, low, high = (np.array([getattr(row, k) for row in rows], dtype=float) for k in _AUC_KEYS)
    coverage = [row.coverage for row in rows]
    line = "" if is_single else "-"
    ax.plot(positions, coverage, "s", linestyle=line and "--", color=BLUE, **_COVERAGE)
    ax.vlines(positions, low, high, color=ORANGE)
    ax.plot(positions, auc, "o", linestyle=line, color=ORANGE)
    label_axes(ax, "", "")
    names = [f"{row.family} {row.label}" if is_single else row.label for row in rows]
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if sum(map(len, names)) <= _MAX_LEVEL_TEXT:
        turned = {}
    labels = [_shorten(name) for name in names]
    ax.set_xticks(positions, labels, parse_math=False, fontsize=8, **turned)
    ax.set_xlim(-0.5, len(rows) - 0.5)


def _make_robustness_handles(undisturbed_auc: float | None) -> list[Line2D]:
    handles = [
        Line2D([], [], color=ORANGE, marker="o", label="AUC, 95 % interval"),
        Line2D([], [], color=BLUE, marker="s", linestyle="--", label="videos scored", **_COVERAGE),
    ]
    if undisturbed_auc is not None:
        label = f"undisturbed: AUC {undisturbed_auc:.3f}"
        handles.append(Line2D([], [], color=FAINT, linestyle=":", label=label))
    return handles


def _shorten(name: str) -> str:
    """Leave out the middle of a long name: long names often differ at their end."""
    half = _MAX_NAME // 2
    return name if len(name) <= _MAX_NAME else f"{name[: half - 1]}…{name[-half:]}"
