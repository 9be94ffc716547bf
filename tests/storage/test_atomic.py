"""Files appear whole or not at all."""

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.atomic import atomic_path, remove_temporaries, set_aside, write_text


def test_atomic_path_exception_leaves_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "table"
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the n")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_target_unchanged_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "table"
    target.write_bytes(b"old")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert temporary.parent == tmp_path  # a rename across file systems would not be atomic
        assert temporary.name.startswith(".")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_missing_folders_are_made(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a" / "b" / "c") as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_atomic_path_two_writers_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "table"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert target.read_bytes() == b"first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_nothing_written_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "table"
    target.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert target.read_bytes() == b"old"


@settings(deadline=None, max_examples=25)
@given(text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r")))
def test_write_text_is_utf8(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    target = tmp_path_factory.mktemp("text") / "file"
    write_text(target, text)
    assert target.read_bytes().decode("utf-8") == text


def test_remove_temporaries_takes_what_a_kill_left_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.parquet.0123abcd.tmp", "b.tmp", ".c.parquet", "d.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    with atomic_path(tmp_path / "e") as temporary:
        temporary.touch()
        assert temporary.match(".*.tmp")
    remove_temporaries(tmp_path)
    remaining = sorted(path.name for path in tmp_path.iterdir())
    assert remaining == [".c.parquet", "b.tmp", "d.parquet", "e", "sub"]
    remove_temporaries(tmp_path / "is not there")


@pytest.mark.skipif(sys.platform != "linux", reason="folders cannot be synced everywhere")
@pytest.mark.parametrize("is_synced", [True, False])
def test_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_synced: bool
) -> None:
    target = tmp_path / "marker"
    seen: list[tuple[bool, bool]] = []
    sync = os.fsync

    def spy(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), target.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_text(target, "done", is_synced=is_synced)
    assert seen == ([(False, False), (True, True)] if is_synced else [])


def test_set_aside_keeps_the_file_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ("first", "second"):
        write_text(path, content)
        aside = set_aside(path)
        assert (aside.name, aside.read_text(encoding="utf-8")) == ("a.json.damaged", content)
        assert list(tmp_path.iterdir()) == [aside]
