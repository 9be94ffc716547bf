"""Text of others in the page's pieces: shown, never markup."""

from html import unescape

from harmless import is_harmless
from hypothesis import given
from hypothesis import strategies as st

from page import markup
from reelcheck.visible import spell_invisible

TEXT = st.text("\x1b\x07\u202e\u2028\n <img src='x'>&\"![a](http://b)*_`$:red[]#|~", max_size=20)


@given(TEXT)
def test_text_is_no_html(text: str) -> None:
    shown = markup.escape_text(text)
    assert not set("<>\"'") & set(shown)
    assert is_harmless(shown)
    assert unescape(shown) == spell_invisible(text)
    for piece in (markup.render_notes([text]), markup.render_facts([(text, text)])):
        assert "<img" not in piece
        assert is_harmless(piece)


@given(TEXT)
def test_text_is_no_markdown(text: str) -> None:
    """A message with a picture of another address would make the reader's browser ask for it."""
    shown = markup.escape_markdown(text)
    assert is_harmless(shown)
    escaped = shown.replace("\\\\", "")
    for mark in "[]!*_`$:<>#|~":
        assert escaped.count(mark) == escaped.count(f"\\{mark}")
