"""The one progress bar, on stderr: count, rate and time left.

On a terminal it moves; in a log (no terminal) it prints a line every ten seconds at most.
"""

import sys

from tqdm import tqdm


def progress_bar(*, total: int, description: str, unit: str) -> "tqdm[None]":
    """A bar of ``total`` steps to be advanced with ``.update(1)`` and used with ``with``."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        mininterval=0.2 if is_terminal else 10.0,
        dynamic_ncols=is_terminal,
        disable=total == 0,
        smoothing=0.1,
    )
