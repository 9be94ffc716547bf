"""The one progress bar, on stderr: count, rate and time left.

On a terminal it moves; in a log (no terminal) it prints a line every ten seconds at most.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


def progress_bar(*, total: int, description: str, unit: str, is_shown: bool = True) -> "tqdm[None]":
    """A bar of ``total`` steps to be advanced with ``.update(1)`` and used with ``with``."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        mininterval=0.2 if is_terminal else 10.0,
        dynamic_ncols=is_terminal,
        disable=total == 0 or not is_shown,
        smoothing=0.1,
    )


@contextmanager
def video_progress(*, total: int, description: str) -> Iterator[Callable[[int], None]]:
    """A bar of ``total`` videos; call what it yields with the number of frames of each."""
    num_frames = 0
    with progress_bar(total=total, description=description, unit="videos") as bar:

        def advance(num_frames_more: int) -> None:
            nonlocal num_frames
            num_frames += num_frames_more
            if seconds := bar.format_dict["elapsed"]:
                bar.set_postfix_str(f"{num_frames / seconds:.0f} frames/s", refresh=False)
            bar.update(1)

        yield advance
