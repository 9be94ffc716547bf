"""Tables and numbers in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; bars and line ends inside a cell do not break it."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def number(value: float | None) -> str:
    """Counts whole, all else with three digits."""
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
