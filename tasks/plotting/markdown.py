"""Tables and numbers in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from reelcheck.visible import spell_invisible


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a table; bars and line ends inside a cell do not break it."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_format_cell, line))} |" for line in lines)


def format_number(value: float | None) -> str:
    """Format counts as integers, other numbers with three digits."""
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _format_cell(value: Any) -> str:
    return spell_invisible(" ".join(str(value).split())).replace("|", "\\|")
