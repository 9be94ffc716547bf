"""What text must not hold where people see it."""

import unicodedata

TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's marks that turn the direction of text (its property Bidi_Control)."""


def is_harmless(text: str) -> bool:
    """Whether a text holds no control character, line end, surrogate or mark that turns text."""
    return not any(
        unicodedata.category(mark) in {"Cc", "Cs", "Zl", "Zp"} or mark in TURNING for mark in text
    )
