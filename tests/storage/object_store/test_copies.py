"""Folders of an object store through copies here, against a real S3 server on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from reelcheck.config import RunSettings
from reelcheck.errors import StoreError
from storage.atomic import write_text
from storage.object_store import copies
from storage.object_store.copies import (
    WorkingCopy,
    fetch_file,
    open_for_reading,
    open_for_writing,
    open_output_folder,
)
from storage.object_store.objects import ObjectFolder

LIMITS = RunSettings().read_limits


@pytest.fixture(autouse=True)
def _copies_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_another_machine(monkeypatch, tmp_path / "cache")


def names(place: str) -> list[str]:
    return [found.name for found in ObjectFolder(place).list_objects()]


def as_another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on the copies are others."""
    monkeypatch.setattr(copies, "user_cache_path", lambda name: folder)


def test_folder_here_is_its_own_copy(tmp_path: Path) -> None:
    with open_for_writing(tmp_path / "a") as copy:
        assert copy.path == tmp_path / "a"
        assert not copy.path.exists()
        copy.path.mkdir()
        (copy.path / "x").write_text("1")
    with (
        open_for_reading(str(tmp_path / "a")) as folder,
        open_output_folder(str(tmp_path / "a"), lease_token=None) as out,
    ):
        assert folder == out == tmp_path / "a"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x"]


def test_what_one_machine_writes_another_reads(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{s3_bucket}/store"
    with open_for_writing(place) as copy:
        (copy.path / "sub").mkdir(parents=True)
        (copy.path / "sub" / "a b.txt").write_text("one")
        (copy.path / "same").write_text("same")
    as_another_machine(monkeypatch, tmp_path / "other")
    with open_for_writing(place) as copy:
        assert (copy.path / "sub" / "a b.txt").read_text() == "one"
        (copy.path / "sub" / "a b.txt").unlink()
        (copy.path / "new").write_text("two")
        (copy.path / "same").write_text("size")  # as many bytes
    as_another_machine(monkeypatch, tmp_path / "cache")
    with open_for_reading(place) as folder:
        found = {path.name: path.read_text() for path in folder.rglob("[a-z]*") if path.is_file()}
    assert found == {"new": "two", "same": "size"}
    assert names(place) == ["new", "same"]


def test_only_what_changed_travels(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"{s3_bucket}/store"
    with open_for_writing(place) as copy:
        copy.path.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (copy.path / name).write_text(name)
    moved: list[str] = []
    put, get = ObjectFolder.put_over, ObjectFolder.get

    def watched_put(self: ObjectFolder, name: str, path: Path, *, version: str | None) -> bool:
        moved.append(name)
        return put(self, name, path, version=version)

    def watched_get(self: ObjectFolder, targets: Mapping[str, Path]) -> None:
        moved.extend(targets)
        get(self, targets)

    monkeypatch.setattr(ObjectFolder, "put_over", watched_put)
    monkeypatch.setattr(ObjectFolder, "get", watched_get)
    with open_for_writing(place) as copy:
        (copy.path / "b").write_text("longer")
    assert moved == ["b"]


def test_unwanted_files_are_neither_fetched_nor_lost(s3_bucket: str) -> None:
    place = f"{s3_bucket}/store"
    folder = ObjectFolder(place)
    folder.write("a.table", b"table")
    folder.write("b.crops", b"crops")
    with open_for_reading(place) as here:
        assert (here / "b.crops").read_bytes() == b"crops"
    folder.write("b.crops", b"newer")
    with open_for_writing(place, wanted=lambda name: not name.endswith(".crops")) as copy:
        assert (copy.path / "b.crops").read_bytes() == b"crops"
        (copy.path / "a.table").write_bytes(b"other table")
    assert folder.read("b.crops") == b"newer"
    with open_for_reading(place) as here:
        assert (here / "b.crops").read_bytes() == b"newer"


def test_files_go_up_in_the_order_in_which_they_were_written(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash on the way leaves no object that says that others are there which are not."""
    order: list[str] = []
    put = ObjectFolder.put

    def watched(self: ObjectFolder, name: str, path: Path) -> None:
        order.append(name)
        put(self, name, path)

    monkeypatch.setattr(ObjectFolder, "put", watched)
    wanted = ["z", "sub/m", "a"]
    with open_output_folder(f"{s3_bucket}/out", lease_token=None, marker="a") as folder:
        for number, name in enumerate(wanted):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
            os.utime(folder / name, ns=(10**18 + number, 10**18 + number))
    assert order == wanted
    assert names(f"{s3_bucket}/out") == sorted(wanted)


def test_earlier_marker_goes_before_its_files_do(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ObjectFolder(f"{s3_bucket}/out")
    folder.write("crops", b"old")
    folder.write("done", b"old")

    def broken(self: ObjectFolder, name: str, path: Path) -> None:
        raise StoreError("the network is gone")

    monkeypatch.setattr(ObjectFolder, "put", broken)
    with (
        pytest.raises(StoreError, match="the network is gone"),
        open_output_folder(folder.url, lease_token=None, marker="done") as here,
    ):
        write_text(here / "done", "new")
    assert names(folder.url) == ["crops"]


def test_exception_leaves_the_place_as_it_was(s3_bucket: str) -> None:
    place = f"{s3_bucket}/store"
    ObjectFolder(place).write("a", b"1")

    def fail() -> None:
        with open_for_writing(place) as copy:
            (copy.path / "a").write_text("2")
            raise ValueError("half done")

    with pytest.raises(ValueError, match="half done"):
        fail()
    assert ObjectFolder(place).read("a") == b"1"
    assert names(place) == ["a"]
    with open_for_reading(place) as folder:  # nor is the half-done copy believed
        assert (folder / "a").read_text() == "1"


def test_locks_and_unfinished_training_stay_here(s3_bucket: str) -> None:
    place = f"{s3_bucket}/store"
    kept = ("lock", "lock.json", "unfinished/x.ckpt", "sub/.a.tmp", "sub/tensorboard/x")
    with open_for_writing(place) as copy:
        for name in (*kept, "sub/lockable"):
            (copy.path / name).parent.mkdir(parents=True, exist_ok=True)
            (copy.path / name).write_text("x")
    assert names(place) == ["sub/lockable"]
    with open_for_writing(place) as copy:
        assert all((copy.path / name).exists() for name in kept)


def test_second_run_is_refused_while_the_first_goes_on(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{s3_bucket}/store"
    with open_for_writing(place):
        as_another_machine(monkeypatch, tmp_path / "other")
        with pytest.raises(StoreError, match=rf"in use by another run .process {os.getpid()} on"):
            _write(place)
    with open_for_writing(place):
        pass
    assert names(place) == []


HOLDER = """
import sys
from storage.object_store import lease
from storage.object_store.copies import open_for_writing

lease.LEASE_SECONDS = 1.0
with open_for_writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lease_of_a_killed_run_runs_out_and_that_of_a_living_one_does_not(
    s3_bucket: str, tmp_path: Path
) -> None:
    place = f"{s3_bucket}/store"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "other")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).resolve().parents[3],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        first = _lease(place)
        _wait_until(lambda: _lease(place)["until"] > first["until"])  # renewed
        process.send_signal(signal.SIGKILL)
        process.wait()
    _wait_until(lambda: _lease(place)["until"] < time.time())
    with open_for_writing(place) as copy:
        copy.path.mkdir(parents=True, exist_ok=True)
        (copy.path / "a").write_text("1")
    assert names(place) == ["a"]


def _lease(place: str) -> dict[str, float]:
    lease: dict[str, float] = json.loads(ObjectFolder(place).read("in_use.json") or b"{}")
    return lease


def _wait_until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline


def test_single_file_is_read_under_its_name(s3_bucket: str, tmp_path: Path) -> None:
    ObjectFolder(s3_bucket).write("in/labels.csv", b"path,label\n")
    with fetch_file(f"{s3_bucket}/in/labels.csv", LIMITS) as path:
        assert (path.name, path.read_text()) == ("labels.csv", "path,label\n")
    assert not path.exists()
    with (
        pytest.raises(StoreError, match="cannot be fetched"),
        fetch_file(f"{s3_bucket}/none", LIMITS),
    ):
        pass
    with fetch_file(tmp_path / "x.csv", LIMITS) as path:
        assert path == tmp_path / "x.csv"


def test_wrong_address_and_credentials_are_told_in_one_line(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = {
        "s3://no-such-bucket/store": "cannot be used.*check the address",
        "unknown://x": "is no address in an object store; give one",
    }
    for url, problem in problems.items():
        with pytest.raises(StoreError, match=f"{url} {problem}") as error:
            WorkingCopy(url).push() if "unknown" in url else _write(url)
        assert "\n" not in str(error.value)


def _write(url: str) -> None:
    with open_for_writing(url):
        pass
