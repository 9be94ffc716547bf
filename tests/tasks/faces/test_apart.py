"""One call in a process of its own: its answer, its errors, and every way to die."""

import os
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

import pytest
from pebble.pool.process import PoolManager, TaskManager

from tasks.faces import apart
from tasks.faces.apart import call_apart

LIMITS = {"timeout_seconds": 30.0, "max_memory_bytes": 2**30}


def die() -> None:
    os._exit(3)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_start(max_memory_bytes: int, parent_pid: int) -> None:
    del max_memory_bytes, parent_pid
    os._exit(3)


def wait_for_ever() -> None:
    signal.pause()


def take_memory(num_bytes: int) -> int:
    return len(bytes(num_bytes))


def test_the_answer_comes_from_another_process() -> None:
    pid = call_apart(os.getpid, **LIMITS)
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):  # which has ended
        os.kill(pid, 0)


def test_an_error_of_the_function_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        call_apart(int, args=["x"], **LIMITS)


@pytest.mark.parametrize("function", [die, kill_itself])
def test_a_death_during_the_call_is_told(function: Callable[[], None]) -> None:
    with pytest.raises(BrokenProcessPool, match="exit code"):
        call_apart(function, **LIMITS)


def test_a_death_before_the_call_is_told() -> None:
    with pytest.raises(BrokenProcessPool):
        call_apart(len, args=["x"], initializer=die_at_start, **LIMITS)


def test_a_death_that_the_pool_does_not_report_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a pool does that breaks before it has registered the call: nobody ends the future.
    monkeypatch.setattr(TaskManager, "tasks_abort", lambda self, error: None)
    with pytest.raises(BrokenProcessPool, match="no sign of life"):
        call_apart(len, args=["x"], initializer=die_at_start, **LIMITS)


def test_a_process_that_never_takes_its_call_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "START_SECONDS", 0.0)
    monkeypatch.setattr(PoolManager, "schedule", lambda self, task: None)
    with pytest.raises(BrokenProcessPool, match="no sign of life"):
        call_apart(len, args=["x"], timeout_seconds=0.1, max_memory_bytes=2**30)


def test_a_call_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        call_apart(wait_for_ever, timeout_seconds=0.5, max_memory_bytes=2**30)


def test_a_call_that_needs_too_much_memory_is_ended() -> None:
    with pytest.raises(MemoryError):
        call_apart(take_memory, args=[2**31], **LIMITS)
