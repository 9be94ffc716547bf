"""A run that stood still past its lease: it goes on if nobody came, and else publishes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reelcheck.errors import StoreError
from storage.object_store import copies, lease, objects
from storage.object_store.copies import open_for_writing, open_output_folder
from storage.object_store.lease import LEASE, hold_lease, require_lease
from storage.object_store.objects import ObjectFolder

TAKEN = "another run took over .* run again when the other has ended"

STALLING = """
import sys
from reelcheck.errors import StoreError
from storage.object_store import lease
from storage.object_store.copies import open_for_writing

lease.LEASE_SECONDS = 1.0
try:
    with open_for_writing(sys.argv[1]) as copy:
        copy.path.mkdir(parents=True, exist_ok=True)
        (copy.path / "old").write_text("of the run that stood still")
        print("held", flush=True)
        sys.stdin.read()
except StoreError as error:
    print(error, flush=True)
"""


@pytest.fixture(autouse=True)
def _copies_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "user_cache_path", lambda name: tmp_path / "cache")


@pytest.fixture(params=["s3", "memory", "file"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectFolder:
    # Two that need no server stand for the stores without writes on condition.
    monkeypatch.setattr(objects, "_STORES", ("s3", "memory", "file"))
    if request.param == "s3":
        return ObjectFolder(f"{request.getfixturevalue('s3_bucket')}/store")
    if request.param == "memory":
        return ObjectFolder(f"memory://{tmp_path}")
    (tmp_path / "store").mkdir()
    return ObjectFolder(f"file://{tmp_path}/store")


def test_stopped_run_publishes_nothing_and_leaves_the_next_lease_alone(
    s3_bucket: str, tmp_path: Path
) -> None:
    place = f"{s3_bucket}/store"
    remote = ObjectFolder(place)
    with subprocess.Popen(
        [sys.executable, "-c", STALLING, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "other")},
        cwd=Path(__file__).resolve().parents[3],
    ) as stalled:
        assert stalled.stdout is not None
        assert stalled.stdin is not None
        assert stalled.stdout.readline() == "held\n"
        stalled.send_signal(signal.SIGSTOP)
        _wait_until(lambda: _read(remote)["until"] < time.time())
        with open_for_writing(place) as copy:
            own = _read(remote)["token"]
            stalled.send_signal(signal.SIGCONT)
            stalled.stdin.close()  # its block ends, it would upload
            said = stalled.stdout.read()
            stalled.wait()
            assert said.startswith(f"another run took over {place}")
            assert said.count("\n") == 1
            assert _read(remote)["token"] == own
            assert [found.name for found in remote.list_objects()] == [LEASE]
            (copy.path / "new").write_text("1")
    assert [found.name for found in remote.list_objects()] == ["new"]


def test_run_that_slept_goes_on_where_nobody_came(
    folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(folder) as held:
        before = _read(folder)
        _sleep(monkeypatch, seconds=3 * lease.LEASE_SECONDS)
        held.require_held()
        assert _read(folder)["until"] > before["until"]
        require_lease(folder, held.token)
    assert folder.read(LEASE) is None


def test_run_that_slept_stops_where_another_came(
    folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(folder) as held:
        _expire(folder)
        with hold_lease(folder) as other:
            for _ in ("by asking", "by its clock"):
                with pytest.raises(StoreError, match=TAKEN) as error:
                    held.require_held()
                assert "\n" not in str(error.value)
                _sleep(monkeypatch, seconds=lease.LEASE_SECONDS)
            assert not held.renew()
            held.release()
            require_lease(folder, other.token)
    assert folder.read(LEASE) is None


def test_either_clock_shows_the_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A steady clock may stop in sleep; the clock on the wall may be set back meanwhile."""
    then = lease._read_clocks()
    for steady, wall in ((500.0, -9000.0), (0.0, 500.0)):
        monkeypatch.setattr(
            lease, "_read_clocks", lambda s=steady, w=wall: (then[0] + s, then[1] + w)
        )
        assert lease._measure_seconds_since(then) == pytest.approx(500.0)


def test_renewal_whose_answer_was_lost_is_not_taken_for_another_run(
    folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = ObjectFolder.swap

    def lose_answer(self: ObjectFolder, *arguments: str) -> bool:
        swap(self, *arguments)  # type: ignore[arg-type]
        raise StoreError("the line is cut")

    with hold_lease(folder) as held:
        with monkeypatch.context() as cut:
            cut.setattr(ObjectFolder, "swap", lose_answer)
            with pytest.raises(StoreError, match="the line is cut"):
                held.renew()
        assert held.renew()
    assert folder.read(LEASE) is None


def test_task_of_a_run_that_lost_its_lease_publishes_nothing_more(s3_bucket: str) -> None:
    remote = ObjectFolder(f"{s3_bucket}/store")
    remote.write("done", b"of the run before")

    def work(token: str, *, losing: Callable[[], object]) -> None:
        with open_output_folder(remote.url, lease_token=token, marker="done") as here:
            (here / "crops").write_text("x")
            (here / "done").write_text("x")
            losing()

    with hold_lease(remote) as held:
        # Lost while the task works, and lost before it begins.
        for losing in (lambda: _hand_over(remote), lambda: pytest.fail("nothing was to be done")):
            with pytest.raises(StoreError, match=TAKEN):
                work(held.token, losing=losing)
            assert remote.read("done") == b"of the run before"
            assert remote.read("crops") is None


def test_upload_that_comes_too_late_is_refused_by_the_store(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check was in time, the upload was not: the run stood still in between."""
    remote = ObjectFolder(f"{s3_bucket}/store")
    remote.write("card", b"1")

    def publish(name: str) -> None:
        with open_for_writing(remote.url) as copy:
            (copy.path / name).write_text("of the run that stood still")
            monkeypatch.setattr(lease, "require_lease", lambda remote, token: None)
            remote.write(name, b"of the next run")

    for name in ("card", "new"):
        with pytest.raises(StoreError, match=TAKEN):
            publish(name)
        assert remote.read(name) == b"of the next run"


def test_swap_is_done_by_one_only(folder: ObjectFolder) -> None:
    assert not folder.swap("x", b"1", b"2")
    assert folder.create("x", b"1")
    assert not folder.create("x", b"2")
    assert not folder.swap("x", b"2", b"3")
    assert not folder.swap("x", b"2", None)
    assert folder.swap("x", b"1", b"2")
    assert folder.read("x") == b"2"
    assert folder.swap("x", b"2", None)
    assert not folder.swap("x", b"2", b"3")
    assert folder.read("x") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"until": "x"}', b'{"until": 1e999}'])
def test_lease_that_no_run_wrote_is_told_in_one_line(folder: ObjectFolder, content: bytes) -> None:
    folder.write(LEASE, content)
    with pytest.raises(StoreError, match=f"{LEASE} is no lease .* delete it") as error:
        _hold(folder)
    assert "\n" not in str(error.value)
    assert folder.read(LEASE) == content


def _hold(folder: ObjectFolder) -> None:
    with hold_lease(folder):
        pass


def _read(folder: ObjectFolder) -> dict[str, float]:
    found: dict[str, float] = json.loads(folder.read(LEASE) or b"{}")
    return found


def _expire(folder: ObjectFolder) -> None:
    folder.write(LEASE, json.dumps({**_read(folder), "until": 0.0}).encode())


def _hand_over(folder: ObjectFolder) -> None:
    folder.write(LEASE, json.dumps({**_read(folder), "token": "of another"}).encode())


def _sleep(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    clocks = lease._read_clocks()
    monkeypatch.setattr(lease, "_read_clocks", lambda: tuple(clock + seconds for clock in clocks))


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
