"""Contents are named side by side: whatever one file does, the others are read."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_server import CONTENT, HostileServer, serve_hostility

from reelcheck import reading as reading_module
from reelcheck.config import RunSettings
from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from tasks.intake import contents
from tasks.intake.contents import hash_contents
from tasks.intake.discover import find_files

pytestmark = pytest.mark.timeout(60)
RUN = RunSettings(allow_private_addresses=True, max_file_bytes=10**6, timeout_seconds=2)


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serve_hostility() as state:
        yield state


def fill(folder: Path, number: int) -> list[InputFile]:
    for index in range(number):
        (folder / f"{index:03}.mp4").write_bytes(str(index).encode())
    return find_files(folder)


def test_files_come_in_their_order_and_each_is_told_once(tmp_path: Path) -> None:
    files = fill(tmp_path, 100)
    told = []
    named = hash_contents(files, RUN, on_file=lambda: told.append(1))
    assert [file.path for file in named] == [file.path for file in files]
    assert [file.video_id for file in named] == [
        hashlib.sha256(str(index).encode()).hexdigest() for index in range(100)
    ]
    assert len(told) == 100
    assert hash_contents([], RUN) == []


def test_sparse_file_of_15_terabytes_is_one_row(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.truncate(15 * 10**12)
    *others, huge = hash_contents(find_files(tmp_path), RunSettings())
    assert all(other.video_id for other in others)
    assert (huge.path, huge.status, huge.video_id) == ("huge.mp4", Status.UNREADABLE, None)
    assert huge.reason == f"has {15 * 10**12} bytes; max_file_bytes is {64 * 2**30}"


def test_url_that_cannot_be_read_is_one_row(tmp_path: Path, server: HostileServer) -> None:
    bad = ("to-file", "stalls", "endless", "trickles", "says-too-much", "ends-early", "none")
    local = fill(tmp_path, 3)
    remote = [file for name in (*bad, "fine") for file in find_files(server.url(name))]
    assert [file.status for file in remote] == [None] * len(remote)
    named = hash_contents([*remote, *local], RUN)
    assert {file.status for file in named[: len(bad)]} == {Status.UNREADABLE}
    assert all(file.reason and file.video_id is None for file in named[: len(bad)])
    fine, *others = named[len(bad) :]
    assert (fine.video_id, fine.size_bytes) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert {file.status for file in others} == {None}


def test_private_address_is_one_row_unless_it_is_allowed(server: HostileServer) -> None:
    [file] = hash_contents(find_files(server.url("fine")), RunSettings())
    assert file.status is Status.UNREADABLE
    assert "--allow-private-addresses" in (file.reason or "")


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://example.org", "http://a/b/"])
def test_folder_of_a_web_server_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match=r"names no file.*give the address of each file"):
        find_files(url)


def test_file_that_hangs_in_the_system_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a disk in the network that has gone: nothing but the end of the process helps there.
    files = fill(tmp_path, 20)
    hanging = {file.location for file in files[:8]}
    assert len(hanging) > contents._MIN_THREADS
    is_over = threading.Event()
    read = contents.hash_file

    def hash_or_hang(path: Path, reading: reading_module.Reading) -> str:
        if str(path) in hanging:
            is_over.wait()
        return read(path, reading)

    monkeypatch.setattr(contents, "hash_file", hash_or_hang)
    monkeypatch.setattr(contents, "_GRACE_SECONDS", 0.0)
    named = hash_contents(files, RunSettings(timeout_seconds=2))
    is_over.set()
    assert {file.reason for file in named[:8]} == {"could not be read within 1 seconds"}
    assert {file.status for file in named[8:]} == {None}
    assert all(file.video_id for file in named[8:])


def test_defect_of_ours_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(contents, "hash_file", fail)
    named = hash_contents(fill(tmp_path, 2), RUN)
    assert {(f.status, f.reason) for f in named} == {
        (Status.INTERNAL_ERROR, "ZeroDivisionError: no such luck")
    }
