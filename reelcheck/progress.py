"""The progress bar, on stderr: count, rate and remaining time.

On a terminal the bar moves; in a log it prints a line at most every ten seconds.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from reelcheck.visible import spell_invisible


def show_progress(
    *, total: int, description: str, unit: str, is_shown: bool = True
) -> "tqdm[None]":
    """Show a bar of ``total`` steps; use it with ``with`` and advance it with ``.update(1)``."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=spell_invisible(description),
        unit=f" {unit}",
        mininterval=0.2 if is_terminal else 10.0,
        dynamic_ncols=is_terminal,
        disable=total == 0 or not is_shown,
        smoothing=0.1,
    )


def show_byte_progress(*, total: int | None, begun: int, description: str) -> "tqdm[None]":
    """Show a bar of bytes, of which ``begun`` have come before; None: nobody knows how many."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=begun,
        desc=spell_invisible(description),
        unit="B",
        unit_scale=True,
        mininterval=0.2 if is_terminal else 10.0,
        dynamic_ncols=is_terminal,
    )


@contextmanager
def show_video_progress(*, total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Show a bar of ``total`` videos; for each video, call the result with its number of frames."""
    num_frames = 0
    with show_progress(total=total, description=description, unit="videos") as bar:

        def advance(num_frames_more: int) -> None:
            nonlocal num_frames
            num_frames += num_frames_more
            if seconds := bar.format_dict["elapsed"]:
                bar.set_postfix_str(f"{num_frames / seconds:.0f} frames/s", refresh=False)
            bar.update(1)

        yield advance
