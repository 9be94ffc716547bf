"""Draw how new videos differ from those before."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from tasks.drift import MUCH_FROM, SOME_FROM, Drift, Rate, Shift
from tasks.figure import BLACK, BLUE, FAINT, ORANGE, label_axes, new_figure, save_figure

_COLOURS = {
    "like before": BLUE,
    "some change": ORANGE,
    "changed": ORANGE,
    "too few videos": FAINT,
}


def draw_drift(path: Path, found: Drift) -> None:
    """What has moved and how far, what chance does, and the scores of both sets of videos."""
    figure = new_figure(height=7.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2), squeeze=False)[:, 0]
    left, right = top.subplots(1, 2, width_ratios=(3, 2))
    _draw_shifts(left, found.shifts)
    _draw_rates(right, found.rates)
    _draw_bins(bottom.subplots(), found.shifts[0])
    figure.suptitle(
        f"{found.new.videos:,} new videos beside {found.old.videos:,} before", fontsize=12
    )
    save_figure(figure, path)


def _draw_shifts(ax: Axes, shifts: tuple[Shift, ...]) -> None:
    """One bar each; the line across it is what chance may do."""
    places = np.arange(len(shifts))
    values = [shift.psi or 0.0 for shift in shifts]
    ax.barh(places, values, color=[_COLOURS[shift.verdict] for shift in shifts])
    right = 1.05 * max(2 * MUCH_FROM, *values, *(shift.by_chance or 0.0 for shift in shifts))
    for place, shift in enumerate(shifts):
        if shift.by_chance is not None:
            ax.plot([shift.by_chance] * 2, [place - 0.4, place + 0.4], color=BLACK)
        ax.text(right, place, shift.verdict, va="center", fontsize=8)
    for edge in (SOME_FROM, MUCH_FROM):
        ax.axvline(edge, color=BLACK, linestyle=":", linewidth=0.8)
    ax.set_yticks(places, [shift.name for shift in shifts])
    ax.set_xlim(0, 1.4 * right)
    ax.invert_yaxis()
    label_axes(ax, "stability index; short lines: by chance", "")


def _draw_rates(ax: Axes, rates: tuple[Rate, ...]) -> None:
    for offset, side, colour in ((-0.12, "old", FAINT), (0.12, "new", BLUE)):
        for place, rate in enumerate(rates):
            interval = getattr(rate, side)
            if interval is None:
                continue
            shown = ORANGE if side == "new" and rate.verdict == "changed" else colour
            ax.plot(interval[1:], [place + offset] * 2, color=shown, linewidth=2)
            ax.plot([interval.value], [place + offset], "o", color=shown)
    ax.set_yticks(range(len(rates)), [rate.name.replace("_", " ") for rate in rates])
    ax.set_ylim(len(rates) - 0.5, -0.5)
    label_axes(ax, "share of videos", "")


def _draw_bins(ax: Axes, shift: Shift) -> None:
    """Shares of a quantity's bins."""
    if not shift.bins:
        ax.axis("off")
        ax.text(0.5, 0.5, f"too few videos to compare the {shift.name}", ha="center")
        return
    places = np.arange(len(shift.bins))
    for offset, side, colour, name in (
        (-0.2, "old", FAINT, "before"),
        (0.2, "new", BLUE, "new"),
    ):
        shares = [getattr(each, side) for each in shift.bins]
        ax.bar(places + offset, shares, width=0.38, color=colour, label=name)
    ax.set_xticks(places, [each.name.replace(" to ", "\nto ") for each in shift.bins], fontsize=8)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    label_axes(ax, f"{shift.name} of the champion", "share of videos")
