"""Text of others (file names, reasons, notes, labels), made harmless where people see it.

A file name on Linux may hold every byte but ``/`` and NUL: orders to the terminal (ESC), line ends
that fake a line of ours, marks that turn text around (``gpj.exe`` shown as ``exe.jpg``), and bytes
that are no text. Data keep such names as they are; what is printed, logged or rendered shows them
spelled.
"""

import logging
import re
from typing import Any

_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Control characters, line separators, marks that turn the direction of the text after them, marks
without any width, and the surrogates that stand for bytes that are no UTF-8."""


def spell_invisible(text: str) -> str:
    """Replace characters that cannot be seen, or that turn text around, by their numbers."""
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", text)


class VisibleFormatter(logging.Formatter):
    """Formats log records; only line ends of a traceback stay what they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format all but the traceback, in one line."""
        return spell_invisible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Format a traceback."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(map(spell_invisible, lines))
