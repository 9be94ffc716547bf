"""Text of others is seen, not obeyed."""

import io
import logging

from harmless import is_harmless
from hypothesis import given
from hypothesis import strategies as st

from reelcheck.visible import VisibleFormatter, spell_invisible

ANY_TEXT = st.text(st.characters(codec=None)) | st.text("\x1b[2J\x07\x9b\u202e\u2028\n\r\udcff a")


@given(ANY_TEXT)
def test_nothing_invisible_is_left(text: str) -> None:
    spelled = spell_invisible(text)
    assert is_harmless(spelled)
    spelled.encode()  # bytes of a file name that are no text do not end a command
    assert spelled == text or not is_harmless(text) or len(spelled) > len(text)
    assert spell_invisible(spelled) == spelled


def test_what_can_be_read_stays() -> None:
    assert spell_invisible("Straße 1/日本 🎬.mp4") == "Straße 1/日本 🎬.mp4"
    assert spell_invisible("a\x1b[2Jb\n") == "a⟨U+001B⟩[2Jb⟨U+000A⟩"


@given(ANY_TEXT)
def test_log_lines_hold_no_orders(text: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("of this test")
    logger.handlers, logger.propagate = [handler], False
    try:
        raise ValueError(text)
    except ValueError:
        logger.warning("%s is odd", text, exc_info=True)
    lines = stream.getvalue().split("\n")
    assert all(map(is_harmless, lines))
    assert lines[0].startswith("WARNING: ")
    assert lines[0].endswith(" is odd")  # the message is one line
