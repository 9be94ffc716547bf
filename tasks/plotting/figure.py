"""Colours, size and notes of all pictures; matplotlib's objects, never its global state."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from storage.atomic import atomic_path

# After Okabe and Ito: colour-blind people can distinguish them, too.
BLUE, ORANGE, BLACK, FAINT = "#0072B2", "#D55E00", "#000000", "#8c8c8c"


def make_figure(*, height: float = 16 / 3) -> Figure:
    """Make a figure, 1200 pixels wide; height in inches, by default 800 pixels."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def make_note_figure(text: str) -> Figure:
    """Make a picture of a text that says why there is nothing to draw."""
    figure = make_figure()
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=16, wrap=True)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the PNG; after an error the earlier file stays."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def label_axes(ax: Axes, x: str, y: str) -> None:
    """Name both axes; draw a faint grid and no frame."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def describe_missing_labels(labels: NDArray[np.int64]) -> str | None:
    """Describe which labels a curve lacks; None: both are there."""
    if not len(labels):
        return "no video was scored."
    if len(set(labels.tolist())) < 2:
        return f"all {format_video_count(len(labels))} are {'fake' if labels[0] else 'real'}."
    return None


def format_video_count(count: int) -> str:
    """Format a number of videos."""
    return f"{count:,} video{'s' if count != 1 else ''}"
