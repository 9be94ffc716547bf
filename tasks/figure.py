"""What all pictures share: colours, size, notes; matplotlib's objects, never its global state."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from storage.atomic import atomic_path

# After Okabe and Ito: told apart by colour-blind people, too.
BLUE, ORANGE, BLACK, FAINT = "#0072B2", "#D55E00", "#000000", "#8c8c8c"


def new_figure(*, height: float = 16 / 3) -> Figure:
    """1200 pixels wide; height in inches, by default 800 pixels."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def note_figure(text: str) -> Figure:
    """In place of a picture: why there is none."""
    figure = new_figure()
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=16, wrap=True)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the PNG, or leave what was there."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def label_axes(ax: Axes, x: str, y: str) -> None:
    """Name both axes; a faint grid, no frame."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def not_both(labels: NDArray[np.int64]) -> str | None:
    """What is missing for a curve, in words."""
    if not len(labels):
        return "no video was scored."
    if len(set(labels.tolist())) < 2:
        return f"all {count_videos(len(labels))} are {'fake' if labels[0] else 'real'}."
    return None


def count_videos(count: int) -> str:
    """So many videos, in words."""
    return f"{count:,} video{'s' if count != 1 else ''}"
