"""One call in a process of its own, which ends with the call."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import pebble

from tasks.faces.worker import limit_process

Answer = TypeVar("Answer")

START_SECONDS = 120.0
"""Time for a process to start, in addition to the deadline of its call."""
LOOK_SECONDS = 1.0
"""How often a process that has not answered is looked at."""


def call_apart(
    function: Callable[..., Answer],
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    timeout_seconds: float,
    max_memory_bytes: int,
    initializer: Callable[..., None] = limit_process,
    initargs: Sequence[object] = (),
) -> Answer:
    """Call a function in a new process with limits, and end the process.

    Args:
        function: what to call; it, its arguments and its result are pickled.
        args: its arguments.
        kwargs: its options.
        timeout_seconds: how long the call may take, without the start of the process.
        max_memory_bytes: memory that the process may take.
        initializer: sets the limits in the process; it is called with ``initargs``, the limit of
            memory and the id of this process.
        initargs: its first arguments.

    Raises:
        TimeoutError: the call took too long.
        MemoryError: the call needed more memory than the process may take.
        BrokenProcessPool: the process died, or has not answered.
        Exception: what the function raised.
    """
    pool = pebble.ProcessPool(
        max_workers=1,
        initializer=initializer,
        initargs=(*initargs, max_memory_bytes, os.getpid()),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        future = pool.schedule(function, args=args, kwargs=kwargs or {}, timeout=timeout_seconds)
        # A process that dies before it takes its call may leave the future without an end: the
        # pool then breaks between the calls that it knows of.
        overdue_at = time.monotonic() + timeout_seconds + START_SECONDS
        while not wait([future], LOOK_SECONDS).done:
            if not pool.active or time.monotonic() > overdue_at:
                raise BrokenProcessPool("no sign of life")
        result: Answer = future.result()
    except pebble.ProcessExpired as error:
        raise BrokenProcessPool(f"the process died (exit code {error.exitcode})") from error
    finally:
        pool.stop()
        pool.join()
    return result
