"""Reading of input files: nothing but regular files, within limits, and one content throughout."""

import hashlib
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelcheck import reading as module
from reelcheck.errors import VideoError
from reelcheck.reading import (
    Reading,
    ReadLimits,
    describe_error,
    hash_file,
    hold_content,
    open_regular,
    read_regular,
)
from reelcheck.status import Status

LIMITS = ReadLimits(max_bytes=10**9, max_seconds=60)
OLD, NEW = b"old content", b"new content"
CHANGED = "changed while it was read"
HUGE = 15 * 10**12


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hash_of(path: Path, limits: ReadLimits = LIMITS) -> str:
    return hash_file(path, Reading(limits))


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.close()


ODD: dict[str, Callable[[Path], object]] = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "link to a pipe": lambda path: (
        make_pipe(path.with_name("pipe")),
        path.symlink_to("pipe"),
    ),
    "link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize(
    "read",
    [open_regular, hash_of, partial(read_regular, max_bytes=9)],
    ids=["open", "hash", "read"],
)
def test_only_regular_files_are_opened(
    tmp_path: Path, make: Callable[[Path], object], read: Callable[[Path], object]
) -> None:
    make(tmp_path / "odd.mp4")
    with pytest.raises(VideoError, match=r"not a regular file|cannot be read: \w") as caught:
        read(tmp_path / "odd.mp4")
    assert caught.value.status is Status.UNREADABLE


@given(content=st.binary(max_size=4096))
def test_hash_of_a_file_is_that_of_its_content(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("read") / "a"
    path.write_bytes(content)
    assert hash_of(path) == sha256(content)
    assert read_regular(path, max_bytes=4096) == content


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_refusing_a_folder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(VideoError, match="not a regular file"):
            open_regular(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_hash_of_many_blocks(tmp_path: Path) -> None:
    content = os.urandom(3 * module._BLOCK_BYTES + 17)
    (tmp_path / "a").write_bytes(content)
    assert hash_of(tmp_path / "a") == sha256(content)


def test_file_of_proc_is_not_read(tmp_path: Path) -> None:
    path = Path("/proc/self/mountinfo")
    if not path.is_file():
        pytest.skip("no /proc here")
    assert path.read_bytes()
    assert hash_of(path) == sha256(b"")
    assert read_regular(path, max_bytes=10**6) == b""


@pytest.mark.timeout(20)
def test_sparse_file_of_15_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(HUGE)
    limits = ReadLimits(max_bytes=64 * 2**30, max_seconds=60)
    with pytest.raises(VideoError, match=f"has {HUGE} bytes; max_file_bytes is {64 * 2**30}"):
        hash_of(tmp_path / "a", limits)
    with pytest.raises(VideoError, match="9 at most are read"):
        read_regular(tmp_path / "a", max_bytes=9)


@pytest.mark.timeout(20)
def test_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(HUGE)
    with pytest.raises(VideoError, match=r"could not be read within 0\.05 seconds"):
        hash_of(tmp_path / "a", ReadLimits(max_bytes=HUGE, max_seconds=0.05))


def test_input_that_gives_almost_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    reading = Reading(ReadLimits(max_bytes=10**9, max_seconds=10**9))
    reading.advance(1)
    now = 29.0
    reading.advance(1)
    now = 31.0
    with pytest.raises(VideoError, match="gave only 3 bytes in 31 seconds"):
        reading.advance(1)
    assert reading.describe_delay(grace_seconds=5) is None
    reading.advance(10**6)  # 20 seconds more at the slowest speed that is allowed
    now = 49.0
    assert reading.describe_delay() is None
    now = 51.0
    assert reading.describe_delay() is not None


def overwrite(path: Path, content: bytes = NEW) -> None:
    """Write another content of the same size, and set the time back."""
    info = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        info.st_size,
        info.st_mtime_ns,
        info.st_ino,
    )


def replace_by_rename(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    other.replace(path)


def replace_by_hard_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    path.unlink()
    path.hardlink_to(other)


def replace_by_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    path.unlink()
    path.symlink_to(other)


def replace_and_put_back(path: Path) -> None:
    kept = path.with_name("kept")
    path.rename(kept)
    path.write_bytes(NEW)
    kept.replace(path)


def overwrite_and_put_back(path: Path) -> None:
    overwrite(path)
    overwrite(path, OLD)


def shorten(path: Path) -> None:
    os.truncate(path, 3)


def lengthen(path: Path) -> None:
    path.write_bytes(OLD + b" and more")


CHANGES = [
    overwrite,
    replace_by_rename,
    replace_by_hard_link,
    replace_by_link,
    Path.unlink,
    shorten,
    lengthen,
]


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_changed_before_it_is_opened_is_told(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(OLD)
    change(path)
    with pytest.raises(VideoError) as caught, hold_content(path, sha256(OLD), LIMITS):
        pytest.fail("another content was given")
    assert caught.value.status is Status.UNREADABLE
    assert CHANGED in caught.value.reason or "cannot be read" in caught.value.reason


@pytest.mark.parametrize("change", [*CHANGES, replace_and_put_back, overwrite_and_put_back])
def test_file_that_changes_while_it_is_held_is_told(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(OLD)
    with (
        pytest.raises(VideoError, match=CHANGED),
        hold_content(path, sha256(OLD), LIMITS),
    ):
        change(path)


def test_change_is_told_whatever_else_went_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(OLD)

    def decode() -> None:
        with hold_content(path, sha256(OLD), LIMITS):
            overwrite(path)
            raise VideoError(Status.DECODE_ERROR, "because it has changed")

    with pytest.raises(VideoError, match=CHANGED):
        decode()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
@pytest.mark.parametrize("change", [replace_by_rename, replace_by_hard_link, replace_by_link])
def test_every_opening_of_what_is_held_is_one_of_the_same_file(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(OLD)
    seen = []
    with pytest.raises(VideoError, match=CHANGED), hold_content(path, sha256(OLD), LIMITS) as held:
        seen += [held.read_bytes(), change(path), path.read_bytes(), held.read_bytes()]
    assert seen == [OLD, None, NEW, OLD]


def test_what_is_held_is_given_without_a_word_when_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with hold_content(tmp_path / name, sha256(OLD), LIMITS) as held:
            assert held.read_bytes() == held.read_bytes() == OLD


@pytest.mark.parametrize("error", [TimeoutError(), ValueError(), OSError(28, "No space\nleft")])
def test_description_of_an_error_is_one_line_and_not_empty(error: Exception) -> None:
    text = describe_error(error)
    assert type(error).__name__ in text
    assert "\n" not in text
    assert describe_error(TimeoutError()) == "TimeoutError: no answer in time"
