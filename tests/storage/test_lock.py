"""One run at a time in one folder of a store, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelcheck.errors import StoreError
from storage.layout import StoreLayout, locate_preprocessed
from storage.lock import hold_run_lock

HOLDER = """
import sys
from pathlib import Path

from storage.layout import locate_preprocessed
from storage.lock import hold_run_lock

with hold_run_lock(locate_preprocessed(Path(sys.argv[1]), "h")):
    print("held", flush=True)
    sys.stdin.read()
"""
Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "h")


@pytest.fixture
def other_run(layout: StoreLayout) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(layout.path.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def hold(layout: StoreLayout) -> None:
    with hold_run_lock(layout):
        assert json.loads(layout.lock_holder_path.read_text())["pid"] == os.getpid()


def test_lock_second_run_is_refused_and_told_who_is_there(
    layout: StoreLayout, other_run: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(StoreError, match=f"process {other_run.pid} on .*, since 20") as caught:
        hold(layout)
    assert str(layout.path) in str(caught.value)
    assert "another folder" in str(caught.value)


def test_lock_without_a_readable_note_still_refuses(
    layout: StoreLayout, other_run: "subprocess.Popen[str]"
) -> None:
    layout.lock_holder_path.write_text("{", encoding="utf-8")
    assert other_run.poll() is None
    with pytest.raises(StoreError, match="in use by another run; wait"):
        hold(layout)


def test_lock_is_free_after_a_run_that_ended(
    layout: StoreLayout, other_run: "subprocess.Popen[str]"
) -> None:
    other_run.communicate()
    assert not layout.lock_holder_path.exists()
    hold(layout)


def test_lock_is_free_after_a_run_that_was_killed(
    layout: StoreLayout, other_run: "subprocess.Popen[str]"
) -> None:
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert layout.lock_holder_path.exists()  # of the dead; not believed
    hold(layout)
    assert not layout.lock_holder_path.exists()


def test_lock_of_other_preprocessing_is_another(
    layout: StoreLayout, other_run: "subprocess.Popen[str]"
) -> None:
    assert other_run.poll() is None
    hold(locate_preprocessed(layout.path.parent, "h2"))


def test_lock_is_free_after_an_error(layout: StoreLayout) -> None:
    with pytest.raises(ZeroDivisionError), hold_run_lock(layout):
        raise ZeroDivisionError
    hold(layout)
