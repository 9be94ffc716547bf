"""One task per shard: here, one after the other, or on the machines of a cluster.

A task that runs on another machine brings its own decode processes, reads its videos where they lie
and writes into the store itself; only small records travel. A worker that dies takes its task with
it: the cluster gives that to another one, and the files of both are the same.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import as_completed
from prefect.tasks import exponential_backoff

from reelcheck.config import RunSettings
from reelcheck.errors import SettingsError, StoreError
from reelcheck.records import InputFile
from tasks.discover import hash_contents

ENVIRONMENT_VARIABLE = "REELCHECK_CLUSTER"
_AT_ONCE = 1000
"""Tasks that are given out at a time: the server and the scheduler hold no more."""
_FILES_AT_ONCE = 256
"""Files that one task names by their contents."""
Result = TypeVar("Result")


def _is_passing(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another try: the store or the network, not a wrong setting."""
    try:
        state.result()
    except (OSError, StoreError):
        return True
    except Exception:  # noqa: BLE001 - whatever else it was
        return False
    return False


RUNS_ALONE: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(10),
    "retry_condition_fn": _is_passing,
}
"""Options of a task that may run on any machine."""

_hash_contents = task(name="identify", **RUNS_ALONE)(hash_contents)


def spread(
    step: Task[..., Result], calls: Sequence[Mapping[str, Any]], run: RunSettings
) -> Iterator[Result]:
    """Run a task for every shard, or for every part of something else.

    Args:
        step: the task.
        calls: its arguments each time, by name; small, because they travel.
        run: says where.

    Yields:
        What the tasks return, in the order in which they end.

    Raises:
        SettingsError: a cluster is asked for, and the environment names none.
    """
    if run.where == "here":
        for arguments in calls:
            yield step(**arguments)
        return
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - slow; most runs stay here

    with DaskTaskRunner(address=cluster_address()) as runner:
        for start in range(0, len(calls), _AT_ONCE):
            futures = [
                runner.submit(step, parameters=dict(arguments))
                for arguments in calls[start : start + _AT_ONCE]
            ]
            for future in as_completed(futures):
                yield future.result()


def hash_spread(files: Sequence[InputFile], *, run: RunSettings) -> list[InputFile]:
    """Name contents where the run's work is done: on a cluster no machine reads all videos."""
    parts = [
        files[start : start + _FILES_AT_ONCE] for start in range(0, len(files), _FILES_AT_ONCE)
    ]
    hashed = {
        (file.root, file.path): file
        for part in spread(_hash_contents, [{"files": part} for part in parts], run)
        for file in part
    }
    return [hashed[file.root, file.path] for file in files]


def cluster_address() -> str:
    """Address of the scheduler, such as ``tcp://10.0.0.5:8786``.

    Raises:
        SettingsError: the environment names none.
    """
    address = os.environ.get(ENVIRONMENT_VARIABLE)
    if not address:
        raise SettingsError(
            f"where = 'cluster' needs the scheduler's address: set {ENVIRONMENT_VARIABLE}, for "
            "example to tcp://10.0.0.5:8786, or leave where = 'here'"
        )
    return address
