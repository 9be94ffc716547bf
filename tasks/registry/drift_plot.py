"""Draw how new videos differ from those before."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from tasks.plotting.figure import BLACK, BLUE, FAINT, ORANGE, label_axes, make_figure, save_figure
from tasks.registry.drift import MUCH_FROM, SOME_FROM, Drift, Rate, Shift

_COLOURS = {
    "like before": BLUE,
    "some change": ORANGE,
    "changed": ORANGE,
    "too few videos": FAINT,
}


def draw_drift(path: Path, drift: Drift) -> None:
    """Draw all changes, the bounds of chance, and the scores of both sets of videos."""
    figure = make_figure(height=7.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2), squeeze=False)[:, 0]
    left, right = top.subplots(1, 2, width_ratios=(3, 2))
    _draw_shifts(left, drift.shifts)
    _draw_rates(right, drift.rates)
    _draw_bins(bottom.subplots(), drift.shifts[0])
    figure.suptitle(
        f"{drift.new.videos:,} new videos beside {drift.old.videos:,} before", fontsize=12
    )
    save_figure(figure, path)


def _draw_shifts(ax: Axes, shifts: tuple[Shift, ...]) -> None:
    """Draw a bar for each change; the line across a bar is the bound of chance."""
    positions = np.arange(len(shifts))
    values = [shift.psi or 0.0 for shift in shifts]
    ax.barh(positions, values, color=[_COLOURS[shift.verdict] for shift in shifts])
    right = 1.05 * max(2 * MUCH_FROM, *values, *(shift.by_chance or 0.0 for shift in shifts))
    for position, shift in enumerate(shifts):
        if shift.by_chance is not None:
            ax.plot([shift.by_chance] * 2, [position - 0.4, position + 0.4], color=BLACK)
        ax.text(right, position, shift.verdict, va="center", fontsize=8)
    for edge in (SOME_FROM, MUCH_FROM):
        ax.axvline(edge, color=BLACK, linestyle=":", linewidth=0.8)
    ax.set_yticks(positions, [shift.name for shift in shifts])
    ax.set_xlim(0, 1.4 * right)
    ax.invert_yaxis()
    label_axes(ax, "stability index; short lines: by chance", "")


def _draw_rates(ax: Axes, rates: tuple[Rate, ...]) -> None:
    for offset, side, colour in ((-0.12, "old", FAINT), (0.12, "new", BLUE)):
        for position, rate in enumerate(rates):
            interval = getattr(rate, side)
            if interval is None:
                continue
            own = ORANGE if side == "new" and rate.verdict == "changed" else colour
            ax.plot(interval[1:], [position + offset] * 2, color=own, linewidth=2)
            ax.plot([interval.value], [position + offset], "o", color=own)
    ax.set_yticks(range(len(rates)), [rate.name.replace("_", " ") for rate in rates])
    ax.set_ylim(len(rates) - 0.5, -0.5)
    label_axes(ax, "share of videos", "")


def _draw_bins(ax: Axes, shift: Shift) -> None:
    """Draw the shares of a number's bins."""
    if not shift.bins:
        ax.axis("off")
        ax.text(0.5, 0.5, f"too few videos to compare the {shift.name}", ha="center")
        return
    positions = np.arange(len(shift.bins))
    for offset, side, colour, name in (
        (-0.2, "old", FAINT, "before"),
        (0.2, "new", BLUE, "new"),
    ):
        shares = [getattr(each, side) for each in shift.bins]
        ax.bar(positions + offset, shares, width=0.38, color=colour, label=name)
    ax.set_xticks(
        positions, [each.name.replace(" to ", "\nto ") for each in shift.bins], fontsize=8
    )
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    label_axes(ax, f"{shift.name} of the champion", "share of videos")
