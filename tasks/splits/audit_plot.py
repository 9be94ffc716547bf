"""Draw what an audit found: how well metadata tells the label, and how the splits are balanced."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from tasks.plotting.figure import BLUE, FAINT, ORANGE, label_axes, make_figure, save_figure
from tasks.splits.shortcuts import FAIL_FROM, WARN_FROM, Shortcuts


def draw_audit(
    path: Path, *, counts: Mapping[str, Mapping[str, int]], shortcuts: Shortcuts | None
) -> None:
    """Draw the AUC of metadata, together and by column, beside the videos of each split."""
    figure = make_figure()
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_shortcuts(left, shortcuts)
    _draw_counts(right, counts)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw_shortcuts(ax: Axes, shortcuts: Shortcuts | None) -> None:
    if shortcuts is None:
        ax.axis("off")
        ax.text(0.5, 0.5, "too few groups to tell\nwhat metadata gives away", ha="center")
        return
    bars = {"all together": shortcuts.auc.value, **shortcuts.by_column}
    bars["file name (not seen)"] = shortcuts.file_name
    colours = [ORANGE, *[BLUE] * len(shortcuts.by_column), FAINT]
    names = [name.replace("_", " ") for name in bars]
    ax.barh(names, list(bars.values()), color=colours)
    # The ends may lie beyond the value by a rounding, which matplotlib refuses.
    ends = np.abs(np.array([[shortcuts.auc.low], [shortcuts.auc.high]]) - shortcuts.auc.value)
    ax.errorbar([shortcuts.auc.value], [0], xerr=ends, color="black", capsize=3)
    for position, value in enumerate(bars.values()):
        ax.text(1.2, position, f"{value:.2f}", va="center", ha="right")
    for edge, text in ((WARN_FROM, "warn"), (FAIL_FROM, "fail")):
        ax.axvline(edge, color="black", linestyle=":", linewidth=0.8)
        ax.text(edge, -0.75, text, ha="center", va="bottom", fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2)
    ax.set_xticks((0, 0.25, 0.5, 0.75, 1))
    label_axes(ax, "AUC of the label; 0.5 tells nothing", "")


def _draw_counts(ax: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    splits = list(counts)
    for offset, (label, colour) in enumerate((("real", BLUE), ("fake", ORANGE))):
        values = [counts[split][label] for split in splits]
        positions = [number + 0.4 * offset - 0.2 for number in range(len(splits))]
        bars = ax.bar(positions, values, width=0.38, color=colour, label=label)
        ax.bar_label(bars, fontsize=8)
    ax.set_xticks(range(len(splits)), splits)
    label_axes(ax, "", "videos with crops")
