"""Cells of CSV files: text stays text in a spreadsheet, which runs a cell such as ``=cmd|…``.

An apostrophe goes before what a spreadsheet would take for a formula, at the beginning of a cell
and after a character that some spreadsheets take for the end of one. The rules are OWASP's:
https://owasp.org/www-community/attacks/CSV_Injection. Where a cell has apostrophes at such a place
already, one more is put there: so taking one away gives the exact text back.
"""

import re
from collections.abc import Mapping
from typing import Any

_FORMULA = "[=+@\\-\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""What begins a formula, the wide forms of East Asian spreadsheets among it."""
_BEGIN = r"(?:^|(?<=[,;\t\r\n]))"
_ADDED = re.compile(rf"{_BEGIN}(?='*[^\S\t\r\n]*{_FORMULA})")
_REMOVED = re.compile(rf"{_BEGIN}'(?='*[^\S\t\r\n]*{_FORMULA})")


def shield_text(text: str) -> str:
    """Make a text that no spreadsheet takes for a formula."""
    return _ADDED.sub("'", text)


def restore_text(text: str) -> str:
    """Undo ``shield_text``."""
    return _REMOVED.sub("", text)


def shield_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Shield the texts of a row; numbers stay numbers, whatever their sign."""
    return {k: shield_text(value) if isinstance(value, str) else value for k, value in row.items()}


def restore_row(row: Mapping[str, Any]) -> Any:
    """Undo ``shield_row``."""
    return {k: restore_text(value) if isinstance(value, str) else value for k, value in row.items()}
