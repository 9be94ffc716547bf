"""JSON that was cut, edited or has rotted is refused; white space may change."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flipped_bits import flip_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import DamagedError, StoreError
from storage.checked.documents import read_document, write_document

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CONTENT = {"score": 0.75, "verdict": "fake", "frames": [{"index": 1, "score": -0.0}], "ok": True}


@settings(deadline=None, max_examples=60)
@given(content=st.dictionaries(st.text().filter(lambda key: key != "checksum"), VALUES))
def test_document_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("documents") / "d.json"
    write_document(path, content, is_synced=False)
    assert read_document(path) == content


def test_tuples_and_numbers_as_keys_are_lists_and_text(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_document(path, {"counts": {0: 1, 10: 2, 9: 3}, "pair": (1, 2)})
    assert read_document(path) == {"counts": {"0": 1, "10": 2, "9": 3}, "pair": [1, 2]}


def test_no_flipped_bit_of_a_document_gives_another_content(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_document(path, CONTENT)
    num_silent = 0
    for _ in flip_bits(path):
        with suppress(DamagedError):
            assert read_document(path) == CONTENT
            num_silent += 1
    assert num_silent < 5  # white space


@pytest.mark.parametrize(
    ("old", "new"), [("0.75", "0.25"), ("fake", "real"), ('"ok": true,', ""), ("true", "1")]
)
def test_edited_document_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "d.json"
    write_document(path, CONTENT)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DamagedError, match="changed after it was written"):
        read_document(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"d\.json cannot be read"):
        read_document(path)


def test_missing_document_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is missing") as caught:
        read_document(tmp_path / "d.json")
    assert not isinstance(caught.value, DamagedError)


def test_white_space_may_change(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_document(path, CONTENT)
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored, indent="\t"), encoding="utf-8")
    assert read_document(path) == CONTENT
